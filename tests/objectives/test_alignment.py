"""The alignment objectives against independent implementations, their published values, pairs, and several processes."""

from collections import defaultdict
from math import exp, log, log1p, sqrt

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import ContrastiveLoss, SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchEasyHardMiner
from pytorch_metric_learning.reducers import DoNothingReducer
from stand_ins import TinyImage, TinyText, batch_of, views_of

from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive, info_nce
from mmexp.objectives.heads import pair_weights
from mmexp.objectives.margin import Margin, margin_loss
from mmexp.objectives.siglip import SigLip, sigmoid_loss
from mmexp.objectives.similarity import unit
from mmexp.objectives.supcon import SupCon
from mmexp.objectives.triplet import Triplet, triplet_loss
from mmexp.tasks.views import StepViews
from mmexp.teacher import Teacher

OWN = torch.arange(12)  # every row its own concept
SHARED = torch.tensor([0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 7])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": TinyText()}, NoFusion({}))


def vectors(seed: int, rows: int = 12) -> torch.Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def agree(ours: torch.Tensor, theirs: torch.Tensor, *parameters: torch.Tensor) -> None:
    assert theirs.item() > 0
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6, abs=1e-6)
    gradients = torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_sigmoid_loss_agrees_with_open_clip():
    from open_clip.loss import SigLipLoss

    image, text = vectors(0), vectors(1)
    scale, bias = torch.tensor(4.0, requires_grad=True), torch.tensor(-1.0, requires_grad=True)
    theirs = SigLipLoss()(unit(image), unit(text), scale, bias)
    ours = sigmoid_loss(unit(image), unit(text), scale, bias, torch.eye(12, dtype=torch.bool))
    agree(ours, theirs, image, text, scale, bias)


def with_metric_learning(queries, keys, positive, margin, mining):
    """Each query with each of its positives is a problem of its own: that positive among the query's negatives."""
    loss = TripletMarginLoss(margin=margin, distance=CosineSimilarity())
    strategy = {"hard": "hard", "semi_hard": "semihard"}.get(mining)
    total = torch.zeros(())
    for anchor, right in positive.nonzero():
        some = torch.cat([right[None], (~positive[anchor]).nonzero().squeeze(1)])
        labels = torch.tensor([1] + [0] * (len(some) - 1))
        whole = (queries[anchor, None], labels[:1])
        miner = strategy and BatchEasyHardMiner("hard", strategy, distance=CosineSimilarity())
        mined = miner(*whole, keys[some], labels) if miner else None
        total = total + loss(*whole, mined, keys[some], labels) / positive[anchor].sum()
    return total / len(queries)


@pytest.mark.parametrize("concept", [OWN, SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("mining", ["hard", "semi_hard", "all"])
def test_triplets_agree_with_pytorch_metric_learning(mining, concept):
    image, text = vectors(2), vectors(3)
    positive = concept[:, None] == concept[None]
    ours = triplet_loss(unit(image), unit(text), positive, 0.2, mining)
    agree(ours, with_metric_learning(image, text, positive, 0.2, mining), image, text)


@pytest.mark.parametrize("concept", [OWN, SHARED], ids=["own", "shared"])
def test_margin_agrees_with_pytorch_metric_learning(concept):
    image, text = vectors(4), vectors(5)
    # Theirs is of distances as they are; Hadsell et al. take half of their squares.
    apart = ContrastiveLoss(neg_margin=1.0, reducer=DoNothingReducer())
    theirs = torch.zeros(())
    for row in range(12):
        found = apart(image[row, None], concept[row, None], None, text, concept)
        pull, push = found["pos_loss"]["losses"], found["neg_loss"]["losses"]
        theirs = theirs + pull.square().mean() / 2 + push.square().sum() / 2 / (push > 0).sum().clamp_min(1)
    ours = margin_loss(unit(image), unit(text), concept[:, None] == concept[None], 1.0)
    agree(ours, theirs / 12, image, text)


@pytest.mark.parametrize("same", ["label", "concept"])
def test_supcon_agrees_with_pytorch_metric_learning(model, same):
    batch = batch_of()
    batch["concept"] = SHARED[:8]
    objective = SupCon(model.shape(), same=same, temperature=0.2)
    own = objective.embed(model.encode(batch))
    theirs = SupConLoss(temperature=0.2)(torch.cat([own["image"], own["text"]]), batch[same].repeat(2))
    agree(objective(views_of(model, batch)).losses["supcon"], theirs, *objective.parameters())


def test_supcon_leaves_out_rows_without_label(model):
    batch = batch_of()
    batch["label"][[1, 6]] = -1
    objective = SupCon(model.shape())
    own, known = objective.embed(model.encode(batch)), batch["label"] >= 0
    labelled = torch.cat([own["image"][known], own["text"][known]])
    theirs = SupConLoss(temperature=0.1)(labelled, batch["label"][known].repeat(2))
    agree(objective(views_of(model, batch)).losses["supcon"], theirs, *objective.parameters())
    batch["label"][:] = -1
    loss = objective(views_of(model, batch)).losses["supcon"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad.abs().sum() == 0 for p in objective.parameters())


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_clip_loss_of_an_identity_similarity_matrix(temperature):
    # Cross-entropy of rows with 1/t at the right key and 0 elsewhere (CLIP, arXiv:2103.00020, figure 3).
    eye = torch.eye(8)
    loss = info_nce(eye, eye, 1 / temperature, eye.bool()).item()
    assert loss == pytest.approx(log1p(7 * exp(-1 / temperature)), abs=1e-6)


def test_siglip_at_its_start(model):
    # Scale 10 and bias -10 (arXiv:2303.15343, section 3.2): a wrong orthogonal pair costs next to nothing, a right one 10.
    objective = SigLip(model.shape())
    assert objective.log_scale.exp().item() == pytest.approx(10)
    assert objective.bias.item() == -10
    image, text = torch.eye(16)[:8], torch.eye(16)[8:]
    start = (objective.log_scale.exp(), objective.bias)
    orthogonal = sigmoid_loss(image, text, *start, torch.eye(8, dtype=torch.bool)).item()
    assert orthogonal == pytest.approx(log1p(exp(10)) + 7 * log1p(exp(-10)), abs=1e-5)
    perfect = sigmoid_loss(image, image, *start, torch.eye(8, dtype=torch.bool)).item()
    assert perfect == pytest.approx(log(2) + 7 * log1p(exp(-10)), abs=1e-5)


def test_siglip_asks_about_every_positive():
    image = torch.eye(4)[[0, 0, 1]]
    positive = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    loss = sigmoid_loss(image, image, torch.tensor(10.0), torch.tensor(-10.0), positive).item()
    # Five right pairs at a logit of 0, four wrong ones at -10.
    assert loss == pytest.approx((5 * log(2) + 4 * log1p(exp(-10))) / 3, abs=1e-6)


@pytest.mark.parametrize(("mining", "loss"), [("hard", 0.5), ("semi_hard", 0.1), ("all", 0.3)])
def test_mined_triplets_of_one_query(mining, loss):
    # Cosines: the positive 0.6; negatives 0.9 (harder), 0.5 (semi-hard), 0.1 (beyond the margin of 0.2); by the
    # definitions in VSE++ (eq. 6), FaceNet (section 3.2) and Hermans et al. (batch all, violating ones).
    cosines = torch.tensor([0.6, 0.9, 0.5, 0.1])
    keys = torch.stack([cosines, (1 - cosines**2).sqrt()], 1)
    query = torch.tensor([[1.0, 0.0]])
    positive = torch.tensor([[True, False, False, False]])
    assert triplet_loss(query, keys, positive, 0.2, mining).item() == pytest.approx(loss, abs=1e-6)


def test_margin_of_one_query():
    # Hadsell et al. 2006, eq. 4: half the square of the distance, or of what it lacks of the margin.
    query, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    positive = torch.tensor([[True, False]])
    assert margin_loss(query, keys, positive, 1.0).item() == pytest.approx(1)
    assert margin_loss(query, keys, positive, 2.0).item() == pytest.approx(1 + (2 - sqrt(2)) ** 2 / 2)
    same = query.clone().requires_grad_()
    margin_loss(same, query.repeat(2, 1), positive, 1.0).backward()
    assert torch.isfinite(same.grad).all()


LOSSES = {
    "hard": lambda q, k, p: triplet_loss(q, k, p, 0.2, "hard"),
    "semi_hard": lambda q, k, p: triplet_loss(q, k, p, 0.2, "semi_hard"),
    "all": lambda q, k, p: triplet_loss(q, k, p, 0.2, "all"),
    "margin": lambda q, k, p: margin_loss(q, k, p, 1.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_rows_of_one_concept_are_never_negatives(name):
    # All rows lie in one place: with one concept nothing is wrong, with two everything is.
    same = torch.ones(4, 2).requires_grad_()
    loss = LOSSES[name](unit(same), unit(same), torch.ones(4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(same.grad).all()
    two = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)).bool()
    # A tie is not farther than the positive.
    assert (LOSSES[name](unit(same), unit(same), two).item() > 0.1) == (name != "semi_hard")


OBJECTIVES = {
    "contrastive": Contrastive,
    "siglip": SigLip,
    "triplet": Triplet,
    "triplet-hard": lambda shape, **keys: Triplet(shape, mining="hard", **keys),
    "triplet-all": lambda shape, **keys: Triplet(shape, mining="all", **keys),
    "margin": Margin,
    "supcon": SupCon,
    "supcon-concept": lambda shape, **keys: SupCon(shape, same="concept", **keys),
}


FUNCTIONS = {
    "contrastive": lambda q, k, p: info_nce(q, k, 1 / 0.15, p),
    "siglip": lambda q, k, p: sigmoid_loss(q, k, torch.tensor(10.0), torch.tensor(-10.0), p),
    "triplet": LOSSES["semi_hard"],
    "triplet-hard": LOSSES["hard"],
    "triplet-all": LOSSES["all"],
    "margin": LOSSES["margin"],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_objective_is_its_loss_in_both_directions_with_concepts_as_positives(model, name):
    batch = batch_of()
    batch["concept"] = SHARED[:8]
    objective, positive = OBJECTIVES[name](model.shape()), SHARED[:8, None] == SHARED[None, :8]
    own = objective.embed(model.encode(batch))
    both = FUNCTIONS[name](own["image"], own["text"], positive) + FUNCTIONS[name](own["text"], own["image"], positive)
    (loss,) = objective(views_of(model, batch)).losses.values()
    assert loss.item() == pytest.approx(both.item() / 2, rel=1e-6)


def rows_of(part, rows: slice):
    return {name: rows_of(value, rows) for name, value in part.items()} if isinstance(part, dict) else part[rows]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_learn_what_one_learns(model, name):
    batch = batch_of()
    batch["concept"], batch["label"][:3] = torch.tensor([0, 1, 2, 2, 0, 3, 4, 4]), -1
    objective = OBJECTIVES[name](model.shape(), embed_dim=8)
    parameters = [*model.parameters(), *objective.parameters()]
    whole = sum(objective(views_of(model, batch)).losses.values())
    halves = [rows_of(batch, slice(0, 4)), rows_of(batch, slice(4, 8))]
    # A first pass notes what each process puts into its gatherings, in order; a second one hands out the whole.
    given = defaultdict(list)
    for half in halves:
        put = iter(range(99))
        objective(StepViews(model, half, 0, 0, lambda t, put=put: given[next(put)].append(t) or t))
    losses = []
    for half in halves:
        taken = iter(given.values())
        views = StepViews(model, half, 0, 0, lambda t, taken=taken: torch.cat(next(taken)))
        losses.append(sum(objective(views).losses.values()))
    agree(sum(losses) / 2, whole, *parameters)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_pairs_weigh_and_leave_out(name):
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText(), "audio": TinyText(8)}, NoFusion({}))
    batch = batch_of()
    batch["audio"] = TinyText().prepare([f"{row} sound" for row in range(8)])

    def loss(pairs):
        torch.manual_seed(1)
        return sum(OBJECTIVES[name](model.shape(), pairs=pairs)(views_of(model, batch)).losses.values()).item()

    singly = {"audio-image": (1.0, 1e-12, 0), "audio-text": (0, 1.0, 1e-12), "image-text": (1e-12, 0, 1.0)}
    of = {pair: loss(dict(zip(singly, weights, strict=True))) for pair, weights in singly.items()}
    assert len({round(value, 6) for value in of.values()}) == 3
    assert loss(None) == pytest.approx(sum(of.values()) / 3, rel=1e-5)
    assert loss({"image-text": 2.0, "audio-text": 0.5}) == pytest.approx(2 * of["image-text"] + 0.5 * of["audio-text"])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"image-txt": 1.0}, "'image-txt' in pairs is no pair of this model. Did you mean 'image-text'?"),
        ({"text-image": 1.0}, "'text-image' in pairs is no pair of this model. Did you mean 'image-text'?"),
        ({"image-text": 1.0}, "pairs leaves audio untrained"),
        ({"image-text": 1.0, "audio-text": 0.0}, "pairs leaves audio untrained"),
    ],
)
def test_wrong_pairs_are_refused(pairs, message):
    with pytest.raises(RequestError) as error:
        pair_weights(["text", "image", "audio"], pairs)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_embeds_for_retrieval_and_teaches(model, name):
    objective = OBJECTIVES[name](model.shape(), embed_dim=7)
    teacher = Teacher(model, {name: objective}, ["vectors"])
    said = teacher(batch_of())
    assert set(said) == {"vectors/image", "vectors/text"}
    for vector in said.values():
        assert vector.shape == (8, 7)
        assert torch.allclose(vector.norm(dim=-1), torch.ones(8))


def test_stored_weights_keep_their_names(model):
    names = {name for name, _ in Contrastive(model.shape()).named_parameters()}
    assert names == {"heads.image.weight", "heads.text.weight", "log_scale"}


def test_label_smoothing_is_that_of_cross_entropy():
    image, text = vectors(0), vectors(1)
    scale, labels = torch.tensor(4.0, requires_grad=True), torch.arange(12)
    ours = info_nce(unit(image), unit(text), scale, torch.eye(12), label_smoothing=0.2)
    theirs = torch.nn.functional.cross_entropy(scale * unit(image) @ unit(text).T, labels, label_smoothing=0.2)
    agree(ours, theirs, image, text, scale)


def test_label_smoothing_spreads_over_what_is_among_and_leaves_queries_without_positives_out():
    positive = (SHARED[:, None] == SHARED[None]).float()
    positive[11] = 0
    among = torch.ones(12, 12, dtype=torch.bool)
    among[:, 10] = False
    positive[:, 10] = 0
    logits = 3.0 * unit(vectors(0)) @ unit(vectors(1)).T
    target = positive / positive.sum(-1, keepdim=True).clamp_min(1)
    target = 0.9 * target + 0.1 * among / among.sum(-1, keepdim=True)
    target[positive.sum(-1) == 0] = 0
    kept = logits.masked_fill(~among, -1e9).log_softmax(-1)
    expected = -(target * kept).sum(-1).mean()
    found = info_nce(unit(vectors(0)), unit(vectors(1)), 3.0, positive, among, 0.1)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
