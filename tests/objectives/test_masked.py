"""Masked words and patches: what is hidden, what it costs, and cross-modal and adaptive masking."""

from math import log

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch import nn

from mmexp.draws import RowGenerator
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.needs import check_needs
from mmexp.objectives import hiding
from mmexp.objectives.cross_masked import CrossMasked, shared_ratios
from mmexp.objectives.hiding import word_losses
from mmexp.objectives.mae import Mae
from mmexp.objectives.masked import Masked
from mmexp.objectives.presence import mean
from mmexp.objectives.running_loss import EASIEST, RunningLoss
from mmexp.shapes import Supervision


def model_of(fusion=None) -> Model:
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": TinyText()}, fusion or NoFusion({"image": 16, "text": 12}))


def test_words_of_an_undecided_head_cost_the_logarithm_of_the_vocabulary():
    objective, batch = Masked(model_of().shape(), words=0.5, patches=0.0), batch_of()
    nn.init.zeros_(objective.word_head.weight)
    nn.init.zeros_(objective.word_head.bias)
    assert objective(views_of(model_of(), batch)).losses["masked_words"].item() == pytest.approx(log(32))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_one_patch_at_least_stays(ratio):
    model = model_of()
    loss = Mae(model.shape(), ratio=ratio, dim=12)(views_of(model, batch_of())).losses["mae"]
    assert loss.item() == 0 if ratio == 0 else loss.item() > 0


@pytest.mark.parametrize("hidden", [0.3, 0.5, 0.8])
def test_words_and_patches_share_what_is_hidden(hidden):
    words, patches = shared_ratios(hidden, torch.rand(4000, generator=torch.Generator().manual_seed(0)), 2.0)
    torch.testing.assert_close((words + patches) / 2, torch.full((4000,), hidden))
    least, most = max(0.0, 2 * hidden - 1), min(1.0, 2 * hidden)
    assert words.min() >= least - 1e-6 and words.max() <= most + 1e-6
    # Beta(a, a) has the variance 1 / (4 (2a + 1)).
    assert (words / (most - least)).var().item() == pytest.approx(1 / 20, rel=0.1)


def test_each_modality_helps_the_other():
    model = model_of(CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    losses = CrossMasked(model.shape())(views_of(model, batch_of())).losses
    for loss, other in (
        ("cross_masked_words", model.encoders["image"]),
        ("cross_masked_patches", model.encoders["text"]),
    ):
        gradients = torch.autograd.grad(losses[loss], [*other.parameters()], retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_the_fused_tokens_of_a_modality_are_its_own():
    model = model_of(CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    encoded = model.encode(batch_of())
    fused, alone = model.fuse(encoded), model.fuse({"text": encoded["text"]})
    assert fused.tokens_of("image").shape[1] == 4
    assert fused.tokens_of("text").shape == (*encoded["text"].tokens.shape[:2], 12)
    assert torch.equal(alone.tokens_of("text"), alone.tokens)
    rows = torch.tensor([3, 1])
    assert torch.equal(fused[rows].tokens_of("text"), fused.tokens_of("text")[rows])


@pytest.mark.parametrize(
    ("make", "untaught"),
    [
        (lambda s: Mae(s, dim=12), {"fusion", "encoders.text", "encoders.image.mix"}),
        (lambda s: CrossMasked(s), {"fusion.norm", "fusion.mix", "encoders.image.mix"}),
        (
            lambda s: Masked(s, adaptive=True, word_masks="spans", patch_masks="blocks"),
            {"fusion", "encoders.image.mix"},
        ),
    ],
    ids=["mae", "cross_masked", "masked"],
)
def test_every_part_that_an_objective_uses_gets_a_gradient(make, untaught):
    model = model_of(CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    objective = make(model.shape())
    sum(objective(views_of(model, batch_of())).losses.values()).backward()
    for name, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        if not any(name.startswith(part) for part in untaught):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def alone(tensor):
    return tensor


def test_weights_are_running_losses_in_units_of_their_mean():
    running = RunningLoss(5)
    assert torch.equal(running.weights(), torch.ones(5))
    for _ in range(3):
        running.learn(torch.tensor([0, 1, 1, 2]), torch.tensor([4.0, 1.0, 3.0, 0.0]), alone)
    # The places seen have 4, 2 and 0: their mean is 2, and what was never hidden counts as that.
    torch.testing.assert_close(running.weights(), torch.tensor([2.0, 1.0, EASIEST, 1.0, 1.0]))
    assert running.weights(torch.tensor([[0, 3]])).shape == (1, 2)


def test_a_ratio_follows_the_fall_of_the_loss():
    running, views = RunningLoss(1), views_of(model_of(), batch_of())
    grows = {"from": 0.2, "to": 0.6, "end": 0.5}
    assert running.ratio(grows, views) == pytest.approx(0.2)
    running.learn(torch.tensor([0]), torch.tensor([4.0]), alone)
    assert running.ratio(grows, views) == pytest.approx(0.2)
    for _ in range(900):
        running.learn(torch.tensor([0]), torch.tensor([3.0]), alone)
    # A quarter is gone, half of what takes the curriculum to its end.
    assert running.ratio(grows, views) == pytest.approx(0.4, abs=1e-3)
    for _ in range(900):
        running.learn(torch.tensor([0]), torch.tensor([1.0]), alone)
    assert running.ratio(grows, views) == pytest.approx(0.6)


def test_processes_remember_the_same():
    places, losses = torch.tensor([0, 0, 1, 3]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    whole, part = RunningLoss(4), RunningLoss(4)
    whole.learn(places, losses, alone)
    # The other process saw the last of them.
    other = torch.stack([torch.tensor([0.0, 0, 0, 4]), torch.tensor([0.0, 0, 0, 1])])
    part.learn(places[:3], losses[:3], lambda sums: torch.cat([sums, other[None]]))
    for name, buffer in whole.named_buffers():
        assert torch.equal(buffer, part.get_buffer(name)), name


def test_an_evaluation_changes_nothing_and_measures_one_thing():
    model = model_of()
    objective = Masked(model.shape(), words={"from": 0.2, "to": 0.7}, patches=0.5, adaptive=True)
    plain = Masked(model.shape(), words=0.7, patches=0.5).eval()
    for step in range(5):
        objective(views_of(model, batch_of(), step=step))
    plain.load_state_dict({name: t for name, t in objective.state_dict().items() if "running" not in name})
    before = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    assert before["word_running.start"] > 0 and before["patch_running.places"].sum() > 0
    terms, expected = objective.eval()(views_of(model, batch_of())), plain(views_of(model, batch_of()))
    assert {name: loss.item() for name, loss in terms.losses.items()} == {
        name: loss.item() for name, loss in expected.losses.items()
    }
    assert terms.metrics["masked_words_ratio"].item() == pytest.approx(0.7)
    assert all(torch.equal(buffer, before[name]) for name, buffer in objective.named_buffers())


def test_hard_places_are_hidden_more_often():
    model = model_of()
    objective = Masked(model.shape(), words=0.0, patches=0.25, adaptive=True)
    objective.patch_running.places.copy_(torch.tensor([[8.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]))
    weight = objective.patch_running.weights()
    every = torch.zeros(4000, 1)
    hidden = hiding.draw_cells(every, (2, 2), 0.25, RowGenerator(0, 0, torch.arange(len(every)), ""), "random", weight)
    torch.testing.assert_close(hidden.float().mean(0), torch.tensor([8, 1, 1, 1]) / 11, atol=0.02, rtol=0)


def test_a_word_loss_counts_the_hidden_words_alone():
    ids, hidden = torch.tensor([[5, 6, 7]]), torch.tensor([[False, True, False]])
    logits = torch.zeros(1, 32)
    logits[0, 6] = 3.0
    expected = -(3.0 - torch.logsumexp(logits[0], 0))
    torch.testing.assert_close(word_losses(logits, ids, hidden), expected[None])
    assert mean(torch.zeros(0)) == 0


def test_an_encoder_that_sees_pictures_whole_is_refused():
    model, objective = model_of(), {"objective": {"mae": {"_target_": "mmexp.objectives.mae.Mae"}}}
    check_needs(objective, model, Supervision())
    model.encoders["image"].sees_parts = False
    with pytest.raises(RequestError, match=r"Choose encoder/image=vit .* or objective=masked"):
        check_needs(objective, model, Supervision())


def test_a_decoder_that_does_not_divide_is_refused():
    with pytest.raises(RequestError, match="dim=10 must divide into heads=3"):
        Mae(model_of().shape(), dim=10)


def test_cross_masking_agrees_with_torchs_losses_on_what_is_hidden():
    """Words by cross-entropy, patches by the squared error of normalized pixels, each from the fused token in its place."""
    model = model_of(CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    objective, batch = CrossMasked(model.shape()), batch_of()
    views, generator = views_of(model, batch), RowGenerator(0, 0, batch["index"], "cross_masked")
    of_words, of_patches = shared_ratios(0.5, generator.rand(8), 1.0)
    changed, words = objective.hide_words(batch["text"], of_words, generator)
    pixels = batch["image"]["pixels"].float() / 255
    patches = hiding.draw_cells(pixels, (2, 2), of_patches, generator)
    masked = {"pixels": objective.mask_patch(pixels, patches, 0.5)}
    encoded = {"image": model.encode_one("image", masked), "text": model.encode_one("text", changed)}
    fused, losses = model.fuse(encoded), objective(views).losses
    target = batch["text"]["ids"].masked_fill(~words, -100)
    logits = objective.word_head(fused.tokens_of("text"))
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target)
    torch.testing.assert_close(losses["cross_masked_words"], expected)
    errors, drawn = [], objective.patch_head(fused.tokens_of("image"))
    for row, place in patches.nonzero().tolist():
        top, left = 4 * (place // 2), 4 * (place % 2)
        patch = pixels[row, :, top : top + 4, left : left + 4].flatten()
        normal = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
        errors.append((drawn[row, place] - normal).square().mean())
    torch.testing.assert_close(losses["cross_masked_patches"], torch.stack(errors).mean())
