"""Learning from labels, several, few and numbers: against torch's own losses and scikit-learn's formula."""

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.classify import Classify
from mmexp.objectives.fixmatch import FixMatch
from mmexp.objectives.multilabel import Multilabel
from mmexp.objectives.regress import Regress
from mmexp.shapes import Supervision

KNOWN = Supervision(frozenset({"labels"}), ("cat", "dog", "fox"), (6, 3, 1), mean=5.0, deviation=2.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoders = {"image": TinyImage(), "text": TinyText()}
    return Model(encoders, ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8))


def same_gradients(ours, theirs, head) -> bool:
    """Say whether two losses are equal and teach the head the same."""
    pairs = zip(
        *(torch.autograd.grad(loss, head.parameters(), retain_graph=True) for loss in (ours, theirs)), strict=True
    )
    return torch.allclose(ours, theirs, atol=1e-6) and all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("asked", "weight"),
    [
        (None, [1.0, 1.0, 1.0]),
        ("balanced", [10 / (3 * 6), 10 / (3 * 3), 10 / 3]),
        ({"dog": 2.5, "fox": 0.1}, [1.0, 2.5, 0.1]),
    ],
    ids=["none", "balanced", "mapping"],
)
def test_class_weights_agree_with_torch(model, asked, weight, smoothing):
    objective = Classify(model.shape(3, None, KNOWN), class_weights=asked, label_smoothing=smoothing)
    views = views_of(model, batch_of())
    views.batch["label"][:2] = -1
    label, logits = views.batch["label"], objective.classify(views.fused())
    theirs = F.cross_entropy(logits, label, torch.tensor(weight), ignore_index=-1, label_smoothing=smoothing)
    assert same_gradients(objective(views).losses["classify"], theirs, objective.head)


def test_a_class_that_train_lacks_has_no_say_in_the_balance(model):
    lacking = Supervision(KNOWN.kinds, KNOWN.classes, (6, 2, 0))
    assert Classify(model.shape(3, None, lacking), class_weights="balanced").class_weight.tolist() == pytest.approx(
        [8 / (2 * 6), 8 / (2 * 2), 1.0]
    )


def test_a_weight_for_a_class_that_is_not_there(model):
    with pytest.raises(RequestError, match=r"no class 'dogs'\. Did you mean 'dog'"):
        Classify(model.shape(3, None, KNOWN), class_weights={"dogs": 2.0})


def test_multilabel_agrees_with_torch_on_what_is_known(model):
    objective, views = Multilabel(model.shape(num_classes=3)), views_of(model, batch_of())
    targets = views.batch["targets"]
    theirs = F.binary_cross_entropy_with_logits(objective.mark(views.fused())[2:], targets[2:].clone())
    targets[:2] = torch.nan
    assert same_gradients(objective(views).losses["multilabel"], theirs, objective.head)


@pytest.mark.parametrize(
    ("loss", "theirs"), [("squared", F.mse_loss), ("smooth_l1", F.smooth_l1_loss), ("absolute", F.l1_loss)]
)
def test_regress_agrees_with_torch_in_deviations(model, loss, theirs):
    objective, views = Regress(model.shape(supervision=KNOWN), loss=loss), views_of(model, batch_of())
    number, estimate = views.batch["number"], objective.estimate(views.fused())
    number[:2] = torch.nan
    ours = objective(views)
    wanted = theirs((estimate[2:] - 5) / 2, (number[2:] - 5) / 2)
    assert same_gradients(ours.losses["regress"], wanted, objective.head)
    assert ours.metrics["mean_absolute_error"] == pytest.approx(F.l1_loss(estimate[2:], number[2:]).item(), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "key", "nothing"),
    [(Multilabel, "targets", torch.nan), (Regress, "number", torch.nan), (FixMatch, "label", -1)],
)
def test_nothing_known_is_nothing_learned(model, make, key, nothing):
    objective, batch = make(model.shape(num_classes=3)), batch_of()
    batch[key][:] = nothing
    loss = sum(objective(views_of(model, batch)).losses.values())
    loss.backward()
    parameters = [*model.parameters(), *objective.parameters()]
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in parameters)


def half_labelled() -> dict:
    batch = batch_of()
    batch["label"][4:] = -1
    return batch


def test_unlabelled_rows_have_no_part_in_the_supervised_loss(model):
    objective, views = FixMatch(model.shape(num_classes=3), threshold=1.0), views_of(model, half_labelled())
    pooled = views.fused().pooled
    pooled.retain_grad()
    objective(views).losses["classify"].backward()
    assert pooled.grad[:4].abs().sum(1).all()
    assert not pooled.grad[4:].any()


@pytest.mark.parametrize("source", ["fused", "image"])
def test_fixmatch_is_the_papers_equation_four(model, source):
    objective, views = FixMatch(model.shape(num_classes=3), source=source), views_of(model, half_labelled())
    weak, strong = views.encoded(), views.strong()
    if source == "fused":
        weak, strong = {"fused": views.fused()}, {"fused": model.fuse(strong)}
    with torch.no_grad():
        confidence, guess = objective.classify(weak[source]).softmax(-1).max(-1)
    objective.threshold = confidence[4:].median().item()
    rows = [row for row in range(4, 8) if confidence[row] >= objective.threshold]
    assert len(rows) == 3
    logits = objective.classify(strong[source])
    theirs = F.cross_entropy(logits[rows], guess[rows], reduction="sum") / 4
    terms = objective(views)
    assert same_gradients(terms.losses["pseudo_labels"], theirs, objective.head)
    assert terms.metrics["sure"] == len(rows) / 4


def test_fixmatch_ignores_rows_it_is_not_sure_of(model):
    objective, views = FixMatch(model.shape(num_classes=3), threshold=1.0), views_of(model, half_labelled())
    loss = objective(views).losses["pseudo_labels"]
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in objective.parameters())


def test_pseudo_labels_teach_the_clean_view(model):
    objective, views = (
        FixMatch(model.shape(num_classes=3), threshold=0.0, taught="clean"),
        views_of(model, half_labelled()),
    )
    logits = objective.classify(views.fused())[4:]
    theirs = F.cross_entropy(logits, logits.detach().argmax(-1))
    assert same_gradients(objective(views).losses["pseudo_labels"], theirs, objective.head)
