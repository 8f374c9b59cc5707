"""Blocks that are computed a second time, or compiled: the same losses and gradients, by less memory or other code."""

import copy
import subprocess
import sys

import pytest
import torch
from stand_ins import views_of
from torch import nn

from mmexp.blocks import compile_blocks, recompute
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.errors import RequestError
from mmexp.fusion.concat import ConcatFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.tasks.flops import flop_counter
from mmexp.training.hardware import Hardware

VIT = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "drop_path_rate": 0.2}


def whole() -> tuple[Model, nn.Module, dict]:
    torch.manual_seed(0)
    image = TimmImage("vit_tiny_patch16_224", 32, options=VIT)
    text = Transformer(dim=24, depth=2, heads=2, dropout=0.3)
    model = Model({"image": image, "text": text}, CrossAttentionFusion({"image": 24, "text": 24}, 24, 2))
    pixels = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    rows = torch.arange(6)
    batch = {"image": {"pixels": pixels}, "text": text.prepare([f"word {'more ' * n}" for n in range(6)])}
    return (
        model.train(),
        Contrastive(model.shape()),
        batch | {"index": rows, "concept": rows, "label": rows},
    )


def learned(model: Model, objective: nn.Module, batch: dict) -> tuple[float, dict[str, torch.Tensor], int]:
    """Return the loss, the gradients, and how many numbers were kept for the backward."""
    kept = 0

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(1)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        views = views_of(model, batch)
        loss = sum(objective(views).losses.values()) + views.fused().pooled.square().mean()
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, kept


def test_computed_again_it_is_the_same_step_with_less_kept():
    model, objective, batch = whole()
    names, (loss, gradients, kept) = list(model.state_dict()), learned(*whole())
    recompute(model)
    again, others, fewer = learned(model, objective, batch)
    assert again == loss and fewer < 0.6 * kept
    assert list(others) == list(gradients) and all(torch.equal(others[n], gradients[n]) for n in gradients)
    assert list(model.state_dict()) == names
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.zero_()
    assert learned(model, objective, batch)[0] == loss, "a copy computes with its own weights"


def test_what_is_computed_again_is_counted_once():
    model, objective, batch = whole()
    counted = []
    for _ in range(2):
        with flop_counter() as counter:
            learned(model, objective, batch)
        counted.append(counter.get_total_flops())
        recompute(model)
    assert counted[0] == counted[1] > 0


def test_without_blocks_it_is_refused():
    with pytest.raises(RequestError, match="micro_batch_size"):
        recompute(Model({}, ConcatFusion({"image": 4}, 4)))


def test_compiled_blocks_say_the_same():
    model, objective, batch = whole()
    for part in model.modules():
        if hasattr(part, "drop_prob") or isinstance(part, nn.Dropout):
            part.eval()
    loss, gradients, _ = learned(model, objective, batch)
    compile_blocks(model)
    again, others, _ = learned(model, objective, batch)
    assert again == pytest.approx(loss, rel=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("way", ["compile", "recompute"])
def test_the_command_line_trains_both_ways(tmp_path, way):
    small = ("data.styles=[blob]", "data.batch_size=32", "budget.steps=2", "evaluate=false", "encoder.text.depth=1")
    ways = ("encoder.image.options.depth=1", "fusion=none", "objective=contrastive", f"hardware.{way}=true")
    words = ["train", *small, *ways, f"hydra.run.dir={tmp_path}/run", "cache.enabled=false"]
    done = subprocess.run([sys.executable, "-m", "mmexp", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_at_once_are_refused():
    with pytest.raises(RequestError, match="do not go together"):
        Hardware(compile=True, recompute=True).trainer_arguments()
