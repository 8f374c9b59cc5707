"""CoOp's prompts: against plain encodings of the same words, and what learns from them."""

from dataclasses import replace

import pytest
import torch
from stand_ins import TinyImage, batch_of, views_of
from torch.nn import functional as F

from mmexp.encoders.transformer import Transformer
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.prompted import Prompted, with_context
from mmexp.shapes import Marks, ModelShape, Supervision

CLASSES = ("animal-mammal", "food", "musical instruments")
KNOWN = Supervision(frozenset({"labels"}), CLASSES, (3, 3, 2))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": Transformer(dim=24, depth=1, heads=2, context_length=16)}, NoFusion({}))


@pytest.fixture
def views(model):
    batch = batch_of()
    batch["text"] = model.encoders["text"].prepare(["a word"] * 8)
    return views_of(model, batch)


def prompted(model, **options) -> Prompted:
    return Prompted(model.shape(len(CLASSES), None, KNOWN), embed_dim=8, **options)


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({"context_length": None, "init": "a photo of a"}, "a photo of a {}"),
        (
            {"context_length": None, "init": "a photo of a", "class_specific": True, "template": "{}."},
            "a photo of a {}.",
        ),
        ({"context_length": 0}, "{}"),
        ({"context_length": 0, "template": "the {}"}, "the {}"),
    ],
)
def test_words_as_context_are_the_plain_text(model, views, options, texts):
    objective = prompted(model, **options)
    plain = model.encoders["text"].prepare([texts.format(name.replace("-", " ")) for name in CLASSES])
    heads = objective.space.heads
    pictures = F.normalize(heads["image"](model.encode(views.batch)["image"].pooled), dim=-1)
    classes = F.normalize(heads["text"](model.encoders["text"](plain).pooled), dim=-1)
    torch.testing.assert_close(objective.classify(views), pictures @ classes.T / 0.07, atol=1e-4, rtol=1e-4)


def test_the_loss_is_torchs_over_the_rows_with_a_label(model, views):
    objective = prompted(model)
    views.batch["label"][:2] = -1
    ours = objective(views)
    theirs = F.cross_entropy(objective.classify(views), views.batch["label"], ignore_index=-1)
    gradients = [torch.autograd.grad(loss, objective.context)[0] for loss in (ours.losses["prompted"], theirs)]
    torch.testing.assert_close(ours.losses["prompted"], theirs)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)
    assert gradients[0].abs().sum() > 0


def test_a_frozen_tower_passes_gradients_to_the_context_alone(model, views):
    objective = prompted(model)
    objective.space.requires_grad_(False)
    model.requires_grad_(False)
    objective(views).losses["prompted"].backward()
    taught = {name for name, p in [*objective.named_parameters(), *model.named_parameters()] if p.grad is not None}
    assert taught == {"context"}
    assert objective.context.shape == (1, 4, 24)


def test_context_of_a_class_is_its_own(model, views):
    objective = prompted(model, class_specific=True, context_length=2)
    assert objective.context.shape == (3, 2, 24)
    before = objective.classify(views)
    with torch.no_grad():
        objective.context[1] += torch.randn(2, 24)
    changed = (objective.classify(views) - before).abs().amax(0) > 1e-4
    assert changed.tolist() == [False, True, False]


def test_what_was_learned_stands_before_other_names(model):
    shape = model.shape(2, None, replace(KNOWN, classes=("cat", "dog")))
    assert Prompted(shape, embed_dim=8).load_state_dict(prompted(model).state_dict())


def test_a_text_may_begin_without_a_mark():
    rows = {"x": [7], "y z": [8, 9]}

    def prepare(texts):
        ids = torch.tensor([[*rows[t], 0][:2] for t in texts])
        return {"ids": ids, "mask": ids > 0}

    shape = ModelShape({}, None, marks=Marks(1, 1, 0), context=4, prepare_text=prepare)
    ids, mask, first = with_context(shape, ["x", "y z"], [5, 6])
    assert first == 0
    assert ids.tolist() == [[5, 6, 7, 0], [5, 6, 8, 9]]
    assert mask.sum(1).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_length": 14}, r"14 context tokens and '.*' are 20 tokens, and a text has at most 16"),
        ({"context_length": 2, "init": "a photo of a"}, r"init='a photo of a' has \d tokens"),
        ({"template": "a photo"}, "no single place for the name"),
    ],
)
def test_what_cannot_be_is_refused(model, options, message):
    with pytest.raises(RequestError, match=message):
        prompted(model, **options)
