"""Captioning and prefix language modelling: the loss, what each word may see, kept keys and values, what is taught."""

from functools import partial

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch import nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.fusion.concat import ConcatFusion
from mmexp.fusion.product import ProductFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.objectives.caption import Caption
from mmexp.objectives.captioner import sentences
from mmexp.objectives.generation import Decoding
from mmexp.objectives.prefix_lm import PrefixLM
from mmexp.shapes import Marks
from mmexp.tasks.views import StepViews

BOTH = pytest.mark.parametrize("kind", [Caption, PrefixLM])
DIMS = {"image": 16, "text": 12}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": TinyText()}, ConcatFusion(DIMS, dim=8, hidden=8))


def ragged():
    """Return a batch whose texts differ in length."""
    batch = batch_of()
    batch["text"] = TinyText().prepare(["a", "bcd", "efghij", "k", "lm", "nop", "qrst", "uvwxy"])
    return batch


def logits_of(objective, views):
    ids, _ = sentences(views.batch["text"], objective.marks)
    return objective.decoder.logits(objective.hidden(views, ids[:, :-1], torch.ones_like(ids[:, 0])))


def test_the_loss_is_that_of_coca_in_value_and_gradient(model):
    from open_clip.loss import CoCaLoss

    objective, views = Caption(model.shape(), dim=12), views_of(model, ragged())
    whole = nn.ModuleList([model, objective])
    used = [p for n, p in whole.named_parameters() if "text" not in n and "fusion" not in n and "image.mix" not in n]
    ours = objective(views).losses["caption"]
    _, theirs = CoCaLoss(1.0, 0.0, pad_id=0)(
        None, None, logits_of(objective, views), views.batch["text"]["ids"][:, 1:], None
    )
    assert abs(float((ours - theirs).detach())) < 1e-6
    for a, b in zip(torch.autograd.grad(ours, used, retain_graph=True), torch.autograd.grad(theirs, used), strict=True):
        assert a.abs().sum() > 0
        assert torch.allclose(a, b, atol=1e-6)


def test_smoothing_is_that_of_cross_entropy(model):
    objective, views = Caption(model.shape(), dim=12, label_smoothing=0.1), views_of(model, ragged())
    target = views.batch["text"]["ids"][:, 1:]
    logits = logits_of(objective, views).flatten(0, 1)
    theirs = F.cross_entropy(logits, target.flatten(), ignore_index=0, label_smoothing=0.1)
    assert torch.allclose(objective(views).losses["caption"], theirs)


@BOTH
def test_likelihood_is_of_the_whole_text_without_smoothing(model, kind):
    objective, views = kind(model.shape(), dim=12, label_smoothing=0.1), views_of(model, ragged())
    nll, tokens = objective.likelihood(views)
    target = views.batch["text"]["ids"][:, 1:]
    theirs = F.cross_entropy(logits_of(objective, views).transpose(1, 2), target, ignore_index=0, reduction="none")
    assert torch.allclose(nll, theirs.sum(1), atol=1e-5)
    assert tokens.tolist() == [2, 4, 7, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("ids", "marks", "expected"),
    [
        # Begin and end are there: nothing changes.
        ([[2, 8, 9, 3], [2, 8, 3, 0]], Marks(2, 3, 0), [[2, 8, 9, 3], [2, 8, 3, 0]]),
        # An end alone (T5): padding begins.
        ([[8, 9, 1], [8, 1, 0]], Marks(0, 1, 0), [[0, 8, 9, 1], [0, 8, 1, 0]]),
        # No marks at all (GPT-2).
        ([[8, 9, 7], [8, 5, 5]], Marks(5, 5, 5), [[5, 8, 9, 7, 5], [5, 8, 5, 5, 5]]),
    ],
)
def test_sentences_have_each_mark_once(ids, marks, expected):
    ids = torch.tensor(ids)
    text = {"ids": ids, "mask": ids != marks.pad}
    whole, real = sentences(text, marks)
    assert whole.tolist() == expected
    lengths = [len(expected[0]), 3]
    assert real.sum(1).tolist() == lengths


def test_where_padding_counts_as_real_the_text_ends_at_its_mark():
    ids = torch.tensor([[8, 9, 1, 1], [8, 1, 1, 1]])
    whole, real = sentences({"ids": ids, "mask": torch.ones_like(ids).bool()}, Marks(1, 1, 1))
    assert whole.tolist() == [[1, 8, 9, 1], [1, 8, 1, 1]]
    assert real.sum(1).tolist() == [4, 3]


@BOTH
@pytest.mark.parametrize("given", [1, 3])
def test_a_word_sees_the_prefix_and_what_is_before_it(model, kind, given):
    objective, batch = kind(model.shape(), dim=12), batch_of()
    ids = batch["text"]["ids"][:, :-1]
    views = views_of(model, batch)
    known = objective.hidden(views, ids, torch.full((8,), given))
    for place in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, place] = 31
        moved = (objective.hidden(views, changed, torch.full((8,), given)) - known).abs().amax((0, 2)) > 1e-6
        # In a prefix of several words each sees all of it; else only what comes after may change.
        first = 0 if kind is PrefixLM and given > 1 and place < given else place
        assert moved.tolist() == [column >= first for column in range(ids.shape[1])]


@BOTH
@pytest.mark.parametrize("source", ["image", "fused"])
def test_nothing_of_the_text_leaks_into_what_is_written(model, kind, source):
    objective, batch = kind(model.shape(), source=source, dim=12, decoding=Decoding(6)), ragged()
    first = objective.generate(views_of(model, batch), torch.arange(8))
    other = {**batch, "text": TinyText().prepare([chr(98 + i) * 6 for i in range(8)])}
    assert torch.equal(first, objective.generate(views_of(model, other), torch.arange(8)))
    begins = [objective.hidden(views_of(model, b), torch.full((8, 1), 2), torch.ones(8).long()) for b in (batch, other)]
    assert torch.equal(*begins)
    seen = views_of(model, {**batch, "image": {"pixels": 255 - batch["image"]["pixels"]}})
    assert not torch.allclose(begins[0], objective.hidden(seen, torch.full((8, 1), 2), torch.ones(8).long()))


@pytest.mark.parametrize("make", [Caption, PrefixLM, partial(PrefixLM, reads="pooled")])
def test_kept_keys_and_values_change_nothing(model, make):
    objective, views = make(model.shape(), dim=12), views_of(model, batch_of())
    ids = views.batch["text"]["ids"]
    whole = objective.decoder.logits(objective.hidden(views, ids, torch.ones(8).long()))
    state = objective.state(views)
    for place in range(ids.shape[1]):
        logits, state = objective.decoder.step(ids[:, place], state)
        assert torch.allclose(logits, whole[:, place], atol=1e-5)
    # Rows may change their order on the way.
    order = torch.tensor([3, 3, 0, 1])
    logits, _ = objective.decoder.step(ids[order, 2], state[order])
    assert torch.allclose(logits, objective.decoder.step(ids[:, 2][order], state[order])[0])


@BOTH
def test_it_learns_to_write_what_belongs_to_each_picture(model, kind):
    torch.manual_seed(0)
    objective, batch = kind(model.shape(), dim=24, decoding=Decoding(8)), ragged()
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=5e-3)
    for step in range(300):
        optimizer.zero_grad()
        sum(objective(views_of(model, batch, step=step)).losses.values()).backward()
        optimizer.step()
    written = objective.generate(views_of(model, batch), torch.tensor([5, 0, 2]))
    wanted = F.pad(batch["text"]["ids"][:, 1:], (0, 1))
    assert torch.equal(written, wanted[[5, 0, 2]])


def test_prefixes_are_of_every_length_and_leave_something_to_predict(model):
    objective = PrefixLM(model.shape(), dim=12)
    real = torch.arange(6).expand(200, -1) < 5
    given = objective.given(real, views_of(model, {"index": torch.arange(200)}))
    assert sorted(set(given.tolist())) == [1, 2, 3, 4]


def test_given_words_are_not_predicted(model):
    objective, views = PrefixLM(model.shape(), dim=12), views_of(model, batch_of())
    ids = views.batch["text"]["ids"]
    given = objective.given(ids > 0, views)
    logits = objective.decoder.logits(objective.hidden(views, ids[:, :-1], given))
    target = ids[:, 1:].masked_fill(torch.arange(1, ids.shape[1]) < given[:, None], -100)
    theirs = F.cross_entropy(logits.transpose(1, 2), target)
    assert torch.allclose(objective(views).losses["prefix_lm"], theirs)


def test_rows_of_two_processes_count_by_their_words(model):
    objective, batch = Caption(model.shape(), dim=12), ragged()
    whole = objective(views_of(model, batch)).losses["caption"]

    def rows(part, keep):
        return {k: rows(v, keep) if isinstance(v, dict) else v[keep] for k, v in part.items()}

    halves = [rows(batch, torch.arange(8) < 3), rows(batch, torch.arange(8) >= 3)]
    counts = [half["text"]["mask"].sum() - len(half["index"]) for half in halves]
    gather = lambda _: torch.stack(counts).float()  # noqa: E731
    losses = [objective(StepViews(model, half, 0, 0, gather)).losses["caption"] for half in halves]
    assert torch.allclose(sum(losses) / 2, whole)


def test_a_swapped_text_is_not_learned(model):
    objective, batch = Caption(model.shape(), dim=12), ragged()
    share = torch.ones(8, 1)
    swapped = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])[:, None]
    batch["shown"] = {"text": {"concept": swapped, "label": swapped, "share": share}}
    rest = {name: batch[name][2:] for name in ("index", "concept", "label")}
    rest |= {name: {key: tensor[2:] for key, tensor in batch[name].items()} for name in ("image", "text")}
    assert torch.allclose(
        objective(views_of(model, batch)).losses["caption"], objective(views_of(model, rest)).losses["caption"]
    )
    batch["shown"]["text"]["concept"] = swapped + 100
    assert objective(views_of(model, batch)).losses["caption"].item() == 0


@pytest.mark.parametrize(
    ("make", "untaught"),
    [
        (Caption, ("fusion", "encoders.text", "encoders.image.mix")),
        (PrefixLM, ("fusion", "encoders.text", "encoders.image.mix")),
        (partial(PrefixLM, reads="pooled"), ("fusion", "encoders.text")),
        (partial(PrefixLM, reads="pooled", source="fused"), ("encoders.text", "fusion.project.text")),
    ],
)
def test_every_part_that_is_read_gets_a_gradient(model, make, untaught):
    objective = make(model.shape(), dim=12)
    sum(objective(views_of(model, batch_of())).losses.values()).backward()
    for name, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        if not name.startswith(untaught):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("fusion", [ConcatFusion, ProductFusion, CrossAttentionFusion])
def test_any_fusion_can_be_put_into_words(fusion):
    model = Model({"image": TinyImage(), "text": TinyText()}, fusion(DIMS, dim=9))
    objective = Caption(model.shape(), source="fused", dim=12)
    assert objective(views_of(model, batch_of())).losses["caption"] > 0


def test_wrong_requests_are_told(model):
    with pytest.raises(RequestError, match="predict the text from itself"):
        Caption(model.shape(), source="text")
    with pytest.raises(RequestError, match="divide"):
        Caption(model.shape(), dim=16, heads=3)
    with pytest.raises(RequestError, match="marks"):
        Caption(Model({"image": TinyImage()}, ConcatFusion({"image": 16})).shape())
