"""A batch that is encoded some rows at a time gives the losses and gradients of the whole one, and keeps less."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch import nn

from mmexp.balance.pcgrad import PCGrad
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.mae import Mae
from mmexp.objectives.masked import Masked
from mmexp.objectives.matching import Matching
from mmexp.tasks.balancing import BalancedStep, StepLosses
from mmexp.tasks.flops import flop_counter

OBJECTIVES = {"contrastive": Contrastive, "matching": Matching, "masked": Masked, "mae": partial(Mae, dim=12)}


class Dropping(TinyText):
    """Words that dropout makes random."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Sequential(nn.Dropout(0.5), self.mix)


class Normed(TinyImage):
    """A picture encoder with a batch norm."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Sequential(nn.BatchNorm1d(self.dim), self.mix)


def small(image: type[TinyImage] = TinyImage, text: type[TinyText] = TinyText) -> tuple[Model, nn.ModuleDict]:
    torch.manual_seed(0)
    model = Model({"image": image(), "text": text()}, CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    return model, nn.ModuleDict({name: make(model.shape()) for name, make in OBJECTIVES.items()})


def losses_of(model: Model, objectives: nn.ModuleDict, rows: int | None, batch=None) -> dict[str, torch.Tensor]:
    model.rows_at_once = rows
    torch.manual_seed(1)
    views = views_of(model, batch or batch_of(10))
    return {name: loss for objective in objectives.values() for name, loss in objective(views).losses.items()}


def gradients(model: Model, objectives: nn.ModuleDict, rows: int | None) -> dict[str, torch.Tensor]:
    both = nn.ModuleDict({"model": model, "objectives": objectives})
    both.zero_grad()
    sum(losses_of(model, objectives, rows).values()).backward()
    return {name: p.grad.clone() for name, p in both.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rows", [1, 3, 10, 64])
def test_gradients_are_those_of_the_whole_batch(rows):
    model, objectives = small()
    whole, pieces = gradients(model, objectives, None), gradients(model, objectives, rows)
    assert whole.keys() == pieces.keys()
    for name, gradient in whole.items():
        assert torch.allclose(gradient, pieces[name], atol=1e-5), name
        assert gradient.abs().sum() > 0 or not name.endswith("weight"), name


def test_a_balance_of_gradients_goes_back_through_the_pieces_several_times():
    model, objectives = small()
    shared = list(model.parameters())

    def products(rows: int | None) -> torch.Tensor:
        found = losses_of(model, objectives, rows)
        losses = StepLosses(found, dict.fromkeys(found, 1.0), torch.Generator(), lambda: shared, lambda tensor: tensor)
        BalancedStep(PCGrad(), losses).loss.backward()
        return losses.products

    assert torch.allclose(products(None), products(3), atol=1e-6)


def test_dropout_is_drawn_alike_the_second_time():
    model, objectives = small(text=Dropping)
    weights = [model.encoders["text"].mix[1].weight, model.encoders["text"].words.weight]

    def loss() -> torch.Tensor:
        return losses_of(model, objectives, 3)["contrastive"]

    found = torch.autograd.grad(loss(), weights)
    for weight, gradient in zip(weights, found, strict=True):
        step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
        # The slope of what was computed the first time: other drops in the backward would be another function's.
        with torch.no_grad():
            weight += 1e-3 * step
            above = loss()
            weight -= 2e-3 * step
            below = loss()
            weight += 1e-3 * step
        assert (above - below).item() / 2e-3 == pytest.approx((gradient * step).sum().item(), rel=0.02)


def test_batch_norms_learn_once_from_each_piece():
    model, objectives = small(image=Normed)
    norm = model.encoders["image"].mix[0]
    kept = {"contrastive": objectives["contrastive"]}
    batch = batch_of(9)
    losses_of(model, nn.ModuleDict(kept), 3, batch)["contrastive"].backward()
    assert norm.num_batches_tracked == 3
    expected = nn.BatchNorm1d(16)
    with torch.no_grad():
        for start in range(0, 9, 3):
            expected(model.encoders["image"].eval()(_rows(batch["image"], start)).tokens.mean(1))
    assert torch.allclose(norm.running_mean, expected.running_mean, atol=1e-6)


def test_pieces_are_of_nearly_equal_size_so_that_none_is_a_single_row():
    model, objectives = small(image=Normed)
    sizes = []
    model.encoders["image"].mix[0].register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    losses_of(model, nn.ModuleDict({"contrastive": objectives["contrastive"]}), 3, batch_of(10))
    assert sorted(sizes) == [2, 2, 3, 3]


def _rows(prepared: dict[str, torch.Tensor], start: int) -> dict[str, torch.Tensor]:
    return {name: tensor[start : start + 3] for name, tensor in prepared.items()}


def kept_bytes(step: Callable[[], torch.Tensor]) -> int:
    """Return the bytes of all tensors that wait for the backward of `step`."""
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        loss = step()
    assert loss.requires_grad
    return sum(held.values())


def test_a_step_keeps_little_more_than_encodings_and_its_flops_are_the_same():
    torch.manual_seed(0)
    image = TimmImage(
        "vit_tiny_patch16_224", 32, options={"patch_size": 8, "embed_dim": 48, "depth": 6, "num_heads": 3}
    )
    model = Model(
        {"image": image, "text": Transformer(48, 6, 3)}, CrossAttentionFusion({"image": 48, "text": 48}, 48, 3)
    )
    objectives = nn.ModuleDict({"contrastive": Contrastive(model.shape()), "matching": Matching(model.shape())})
    texts = [f"a small picture number {number}" for number in range(32)]
    batch = batch_of(32) | {
        "image": {"pixels": torch.randint(256, (32, 3, 32, 32)).to(torch.uint8)},
        "text": model.encoders["text"].prepare(texts),
    }

    def step(rows: int | None) -> torch.Tensor:
        return sum(losses_of(model, objectives, rows, batch).values())

    whole, pieces = kept_bytes(partial(step, None)), kept_bytes(partial(step, 4))
    assert pieces < whole / 10
    counts = []
    for rows in (None, 4):
        with flop_counter() as counter:
            step(rows).backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
