"""Groups of weights by name, Lion and Muon against their formulas, clipping."""

from functools import partial, partialmethod

import lightning as L
import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of
from torch import nn

from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.fusion.bottleneck import BottleneckFusion
from mmexp.fusion.coattn import CoAttentionFusion
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.autoencoder import Decoder
from mmexp.objectives.contrastive import Contrastive
from mmexp.positions import RelativeBias
from mmexp.step import Balanced
from mmexp.tasks.pretrain import Pretrain
from mmexp.training.groups import Stepping, parameter_groups
from mmexp.training.optimizer import adamw, constant, lion, muon, sgd


class Given(nn.Module):
    """The stated weights."""

    def forward(self, losses):
        return Balanced(losses.given)


def task_of(image: nn.Module, text: nn.Module, optimizer=adamw) -> Pretrain:
    dims = {"image": image.dim, "text": text.dim}
    model = Model({"image": image, "text": text}, ConcatFusion(dims, 12, 16))
    objectives = {"contrastive": Contrastive(model.shape())}
    return Pretrain(model, objectives, {"contrastive": 1.0}, Given(), optimizer, constant, log_every_steps=1)


@pytest.fixture(scope="module")
def task() -> Pretrain:
    torch.manual_seed(0)
    options = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return task_of(TimmImage("vit_tiny_patch16_224", 32, options=options), Transformer(24, 3, 2))


def of_each(task: nn.Module, groups: list, key: str, default=None) -> dict:
    """Return one key of the group of every parameter, by the parameter's name."""
    found = {id(p): group.get(key, default) for group in groups for p in group["params"]}
    return {name: found[id(p)] for name, p in task.named_parameters()}


def test_the_rate_falls_layer_by_layer_in_each_tower(task):
    scales = of_each(task, parameter_groups(task, layer_decay=0.5), "lr_scale")
    image, text = "model.encoders.image.model.", "model.encoders.text."
    expected = {f"{image}pos_embed": 1 / 8, f"{image}cls_token": 1 / 8, f"{image}patch_embed.proj.weight": 1 / 8}
    expected |= {f"{image}blocks.0.attn.qkv.weight": 1 / 4, f"{image}blocks.1.mlp.fc1.bias": 1 / 2}
    expected |= {f"{text}embed.weight": 1 / 16, f"{text}positions": 1 / 16, f"{text}blocks.0.qkv.weight": 1 / 8}
    expected |= {f"{text}blocks.2.fc2.bias": 1 / 2, f"{text}norm.weight": 1.0}
    expected |= {"model.fusion.mix.0.weight": 1.0, "objectives.contrastive.heads.image.weight": 1.0}
    assert {name: scales[name] for name in expected} == expected
    optimizer = Stepping(layer_decay=0.5).optimizer(partial(adamw, lr=0.1), task)
    rates = of_each(task, optimizer.param_groups, "lr")
    assert rates == pytest.approx({name: 0.1 * scale for name, scale in scales.items()})


@pytest.mark.parametrize(
    ("make", "first", "last"),
    [
        ("open_clip_vit", "model.positional_embedding", "model.transformer.resblocks.11.mlp.c_proj.weight"),
        ("open_clip_resnet", "model.conv1.weight", "model.layer4.2.conv3.weight"),
        ("resnet10t", "model.conv1.0.weight", "model.layer4.0.conv2.weight"),
        ("bert", "model.embeddings.word_embeddings.weight", "model.encoder.layer.1.output.dense.weight"),
    ],
)
def test_layers_of_libraries_are_found(make, first, last):
    from mmexp.training.groups import _numbers

    if make.startswith("open_clip"):
        from mmexp.encoders.open_clip_image import OpenClipImage

        encoder = OpenClipImage("ViT-S-32" if make == "open_clip_vit" else "RN50")
    elif make == "bert":
        from transformers import BertConfig, BertModel

        encoder = nn.Module()
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
        encoder.model = BertModel(BertConfig(vocab_size=16, **sizes), add_pooling_layer=False)
    else:
        encoder = TimmImage(make, 64)
    numbers, top = _numbers(encoder)
    assert numbers[first] == 0
    assert numbers[last] == top - 1 > 1
    assert set(numbers) == {name for name, _ in encoder.named_parameters()}


def test_without_decay_of_embeddings_matrices_of_layers_alone_decay(task):
    never = {"model.encoders.text.positions"}
    never |= {"model.encoders.image.model.pos_embed", "model.encoders.image.model.cls_token"}
    for decays in (True, False):
        optimizer = Stepping(decay_embeddings=decays).optimizer(partial(adamw, weight_decay=0.1), task)
        decay = of_each(task, optimizer.param_groups, "weight_decay")
        words = {"model.encoders.text.embed.weight"}
        matrices = {name for name, p in task.named_parameters() if p.ndim > 1}
        assert {name for name, value in decay.items() if value} == matrices - never - (set() if decays else words)


def test_learned_tokens_and_positions_of_our_own_parts_are_known():
    dims = {"image": 8, "text": 8}
    parts = nn.Module()
    parts.model = nn.Module()
    parts.model.fusion = nn.ModuleDict(
        {"shared": BottleneckFusion(dims, 12, 3), "seen": CoAttentionFusion(dims, 12, 3), "told": RelativeBias([6], 3)}
    )
    parts.decoder = Decoder(8, 5, 4, 16)
    fusion = "model.fusion"
    known = {"decoder.places", f"{fusion}.shared.bottlenecks", f"{fusion}.told.table"}
    known |= {f"{fusion}.seen.layers.{layer}.nowhere.{name}" for layer in (0, 1) for name in dims}
    groups = parameter_groups(parts, decay_embeddings=False)
    rests = {name for name, decay in of_each(parts, groups, "weight_decay").items() if decay == 0}
    assert rests == known | {name for name, p in parts.named_parameters() if p.ndim == 1}
    hidden = {name for name, is_hidden in of_each(parts, groups, "hidden").items() if is_hidden}
    assert not hidden & known and f"{fusion}.shared.blocks.0.image.qkv.weight" in hidden


def test_muon_is_for_hidden_matrices(task):
    how = of_each(task, muon(parameter_groups(task)).param_groups, "use_muon")
    chosen = {name for name, is_muon in how.items() if is_muon}
    assert {name.rpartition(".")[2] for name in chosen} == {"weight"}
    assert {"model.encoders.text.blocks.0.qkv.weight", "model.fusion.mix.0.weight"} <= chosen
    others = ("objectives.", "model.encoders.text.embed", "model.encoders.image.model.patch_embed")
    assert not [name for name in chosen if name.startswith(others)]


def stepped(make, shapes, gradients, hidden: bool) -> list[torch.Tensor]:
    """Return parameters of some shapes, drawn by a seed, after a step for each of the lists of `gradients`."""
    parameters = [
        nn.Parameter(torch.randn(s, generator=torch.Generator().manual_seed(i))) for i, s in enumerate(shapes)
    ]
    optimizer = make([{"params": parameters, "hidden": hidden}])
    for each in gradients:
        for parameter, gradient in zip(parameters, each, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def gradients_of(shapes, steps: int = 3) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(9)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(steps)]


def test_lion_takes_the_papers_steps():
    shapes = [(4, 3), (5,)]
    steps = gradients_of(shapes)
    expected = stepped(partial(torch.optim.SGD, lr=0.0), shapes, [], False)
    momentum = [torch.zeros(shape) for shape in shapes]
    for each in steps:  # algorithm 2 of arXiv:2302.06675
        for i, gradient in enumerate(each):
            update = (0.9 * momentum[i] + 0.1 * gradient).sign()
            expected[i] = expected[i] - 0.01 * (update + 0.3 * expected[i])
            momentum[i] = 0.99 * momentum[i] + 0.01 * gradient
    found = stepped(partial(lion, lr=0.01, weight_decay=0.3), shapes, steps, False)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """Return what five steps of the quintic make of a matrix, by its singular values (Jordan et al. 2024)."""
    left, values, right = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ values.diag() @ right


def test_muon_takes_its_authors_steps_for_matrices_and_those_of_adamw_for_all_else():
    shapes = [(6, 4), (4, 8)]
    steps, ours = gradients_of(shapes), partial(muon, lr=0.02, weight_decay=0.1)
    found, start = stepped(ours, shapes, steps, True), stepped(partial(torch.optim.SGD, lr=0.0), shapes, [], True)
    for i, shape in enumerate(shapes):
        momentum, expected = torch.zeros(shape), start[i].clone()
        for each in steps:
            momentum = 0.95 * momentum + 0.05 * each[i]
            size = 0.2 * max(shape) ** 0.5
            expected = expected - 0.02 * 0.1 * expected
            expected = expected - 0.02 * size * orthogonalised(0.95 * momentum + 0.05 * each[i])
        # It orthogonalises in bf16.
        assert (found[i] - expected).norm() < 0.03 * (expected - start[i]).norm()
    theirs = partial(torch.optim.Muon, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    torchs = stepped(lambda groups: theirs(groups[0]["params"]), shapes, steps, True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, torchs, strict=True))
    # The same numbers are drawn for both shapes.
    (convolution,) = stepped(ours, [(6, 2, 1, 2)], [[step[0].view(6, 2, 1, 2)] for step in steps], True)
    assert torch.allclose(convolution.view(6, 4), found[0], atol=1e-6)
    adam = partial(torch.optim.AdamW, lr=0.02, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6)
    # So small that eps matters.
    steps = [[1e-6 * gradient for gradient in each] for each in steps]
    rest = stepped(ours, shapes, steps, False), stepped(lambda g: adam(g[0]["params"]), shapes, steps, False)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*rest, strict=True))


@pytest.mark.parametrize("make", [adamw, muon], ids=["adamw", "muon, all but hidden matrices"])
def test_adamw_takes_torch_s_steps_by_group_with_the_betas_and_eps_of_clip(task, make):
    """A step of all groups of a task equals `torch.optim.AdamW` on one group that decays and one that does not."""
    groups = [{**group, "hidden": False} for group in parameter_groups(task)]
    ours = make([{**group, "params": copies(group["params"])} for group in groups], lr=0.01, weight_decay=0.2)
    theirs = torch.optim.AdamW(
        [{"params": copies(group["params"]), "weight_decay": group.get("weight_decay", 0.2)} for group in groups],
        lr=0.01,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    for optimizer in (ours, theirs):
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                # Between 1e-8 and 1: where gradients are small, eps decides the step.
                size = 10 ** (-8 * torch.rand(parameter.shape, generator=generator))
                # In the parameter's memory format, as autograd gives it.
                parameter.grad = torch.empty_like(parameter).copy_(
                    size * torch.randn(parameter.shape, generator=generator)
                )
            optimizer.step()
    for one, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        for found, expected in zip(one["params"], other["params"], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-5)


def copies(parameters: list) -> list[nn.Parameter]:
    return [nn.Parameter(parameter.detach().clone()) for parameter in parameters]


def test_gradients_are_clipped_as_torch_clips_them(task):
    for limit in (1.0, 100.0):
        parameters = [p for p in task.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(4)
        for parameter in parameters:
            parameter.grad = 0.01 * torch.randn(parameter.shape, generator=generator)
        expected = copies([parameter.grad for parameter in parameters])
        for tensor in expected:
            tensor.grad = tensor.detach().clone()
        torch.nn.utils.clip_grad_norm_(expected, limit)
        optimizer = Stepping().optimizer(adamw, task)
        task.configure_gradient_clipping(optimizer, limit)
        for parameter, clipped in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.grad, clipped.grad, atol=1e-8, rtol=1e-5)
        task.zero_grad()


def fit(plugins=None, precision=None, **options) -> tuple[float, torch.Tensor]:
    """Return how long the way of one SGD step at a rate of 1 is, and what the step noted as its gradient."""
    torch.manual_seed(0)
    stepping = Stepping(**options)
    task = task_of(
        TinyImage(), TinyText(), partial(stepping.optimizer, partial(sgd, lr=1.0, momentum=0.0, weight_decay=0.0))
    )
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(
        max_steps=1,
        accelerator="cpu",
        gradient_clip_val=stepping.clip_norm,
        plugins=plugins,
        precision=precision,
        **quiet,
    )
    trainer.fit(task, torch.utils.data.DataLoader([batch_of()], batch_size=None))
    way = torch.cat([(p.detach() - before[name]).flatten() for name, p in task.named_parameters()])
    return way.norm().item(), trainer.callback_metrics["train/gradient_norm"].item()


@pytest.mark.filterwarnings("ignore")
def test_gradients_are_clipped_to_a_norm_which_is_noted():
    way, norm = fit()
    assert way == pytest.approx(norm, rel=1e-4)
    assert fit(clip_norm=norm * 2) == pytest.approx((way, norm), rel=1e-4)
    assert fit(clip_norm=norm / 3) == pytest.approx((norm / 3, norm), rel=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("divides", [False, True], ids=["plain", "fused"])
def test_scaled_gradients_are_clipped_as_if_they_were_not(divides, monkeypatch):
    from lightning.pytorch.plugins import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    _, norm = fit()
    made = torch.optim.SGD.__init__
    monkeypatch.setattr(torch.optim.SGD, "__init__", partialmethod(made, fused=divides))
    assert fit([MixedPrecision("16-mixed", "cpu", scaler)], clip_norm=norm / 3) == pytest.approx(
        (norm / 3, norm), rel=0.02
    )
