"""At which rate pretrained weights are trained, by adapter, optimizer and objective."""

from functools import partial

import pytest
import torch
from stand_ins import TinyText
from test_optimizers import task_of

from mmexp.adapters.bitfit import BitFit
from mmexp.adapters.bottleneck import Bottleneck
from mmexp.adapters.dora import DoRA
from mmexp.adapters.full import Full
from mmexp.adapters.ia3 import IA3
from mmexp.adapters.last_k import LastK
from mmexp.adapters.lora import Lora
from mmexp.adapters.prompt_tuning import PromptTuning
from mmexp.build.adapting import parts_of, put_on
from mmexp.build.towers import pretrained_parts
from mmexp.encoders.timm_image import TimmImage
from mmexp.facts import pretrained_rate
from mmexp.tasks.pretrain import Pretrain
from mmexp.training.groups import Stepping
from mmexp.training.optimizer import adamw

VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
STEPPING = Stepping(pretrained_lr=3e-5)


def made(adapter, stepping: Stepping = STEPPING, lr: float = 1e-3) -> Pretrain:
    """Return a task with a pretrained picture tower, to which an adapter is applied, and a text tower from scratch."""
    torch.manual_seed(0)
    image = TimmImage("vit_tiny_patch16_224", 32, options=VIT)
    image.pretrained = True
    task = task_of(image, TinyText(), partial(stepping.optimizer, partial(adamw, lr=lr)))
    adapters = {name: adapter if name == "encoders.image" else Full() for name in parts_of(task.model)}
    task.model.pretrained = pretrained_parts(task.model, adapters)
    put_on(task.model, adapters, adapters)
    return task


def rates(task: Pretrain, groups: list | None = None) -> dict[str, float]:
    """Return the rate of each trained parameter by name, in `groups` or in those of a new optimizer."""
    groups = groups or task.optimizer_factory(task).param_groups
    found = {id(p): group["lr"] for group in groups for p in group["params"]}
    return {name: found[id(p)] for name, p in task.named_parameters() if id(p) in found}


@pytest.mark.parametrize("adapter", [Full(), LastK()], ids=["full", "last_k"])
def test_pretrained_weights_learn_at_their_own_rate_and_all_else_at_the_full_one(adapter):
    task = made(adapter)
    tower = "model.encoders.image."
    for name, rate in rates(task).items():
        assert rate == pytest.approx(3e-5 if name.startswith(tower) else 1e-3), name
    (line,) = pretrained_rate(task)
    assert line == (
        "learning rate of pretrained towers (image): 3e-05, of everything else: 0.001 (optimizer.pretrained_lr)"
    )


@pytest.mark.parametrize(
    "adapter",
    [Lora(2), DoRA(2), IA3(), Bottleneck(4), PromptTuning(2), BitFit()],
    ids=["lora", "dora", "ia3", "bottleneck", "prompts", "bitfit"],
)
def test_what_an_adapter_adds_and_biases_alone_learn_at_the_full_rate(adapter):
    task = made(adapter)
    found = rates(task)
    assert set(found.values()) == {1e-3}
    assert any(name.startswith("model.encoders.image.") for name in found)
    assert pretrained_rate(task) == []


def test_a_lower_rate_holds_for_all_and_null_is_the_full_rate():
    assert set(rates(made(Full(), lr=1e-5)).values()) == {1e-5}
    assert set(rates(made(Full(), Stepping())).values()) == {1e-3}


def test_the_rate_falls_by_layer_from_that_of_the_pretrained_tower():
    found = rates(made(Full(), Stepping(pretrained_lr=3e-5, layer_decay=0.5)))
    assert found["model.encoders.image.model.blocks.1.mlp.fc1.bias"] == pytest.approx(1.5e-5)
    assert found["model.encoders.image.model.blocks.0.mlp.fc1.bias"] == pytest.approx(0.75e-5)
    assert found["model.fusion.mix.0.weight"] == 1e-3


def test_projections_that_start_as_a_tower_s_own_learn_as_the_tower_does():
    for adapter, rate in ((Full(), 3e-5), (Lora(2), 1e-3)):
        task = made(adapter)
        task.objectives["contrastive"].pretrained = ["image"]
        found = rates(task)
        assert found["objectives.contrastive.heads.image.weight"] == pytest.approx(rate)
        assert found["objectives.contrastive.heads.text.weight"] == 1e-3


def test_a_schedule_moves_both_rates_in_proportion():
    task = made(Full())
    optimizer = task.optimizer_factory(task)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.step()
    schedule.step()
    found = rates(task, optimizer.param_groups)
    assert sorted(set(found.values())) == pytest.approx([1.5e-5, 5e-4])


def test_a_picture_encoder_inside_a_video_encoder_counts_alone():
    from mmexp.encoders.frames import FrameEncoder

    image = TimmImage("vit_tiny_patch16_224", 32, options=VIT)
    image.pretrained = True
    task = task_of(FrameEncoder(image, 2, heads=2), TinyText())
    assert set(pretrained_parts(task.model, dict.fromkeys(parts_of(task.model), Full()))) == {"encoders.image.image"}
