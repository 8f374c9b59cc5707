"""Zero-shot classification: against open_clip's own classifier on towers with the same random weights."""

import pytest
import torch
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.objectives.prompts import Prompts, readable
from mmexp.tasks.zero_shot import class_vectors, zero_shot_metrics

TEMPLATES = ["{}", "a photo of a {}.", "art of the {}."]
CLASSES = ["animal-mammal", "food", "a_very  odd-name"]


@pytest.fixture(scope="module")
def clip():
    """Return an open_clip model, and its text tower as an encoder whose head is the model's own projection."""
    import open_clip

    from mmexp.encoders.open_clip_text import OpenClipText
    from mmexp.fusion.none import NoFusion
    from mmexp.model import Model
    from mmexp.objectives.heads import one_space

    torch.manual_seed(0)
    theirs = open_clip.create_model("RN50", force_custom_text=True).eval()
    encoder = OpenClipText("RN50").eval()
    encoder.model.load_state_dict(theirs.text.state_dict(), strict=False)
    heads = one_space({"text": encoder.dim}, theirs.text.text_projection.shape[1])
    heads["text"].weight.data = theirs.text.text_projection.data.T.clone()
    return theirs, Model({"text": encoder}, NoFusion({"text": encoder.dim})), heads


def test_class_vectors_are_open_clips(clip):
    import open_clip

    theirs, model, heads = clip
    ours = class_vectors(model, heads, Prompts(TEMPLATES).texts(CLASSES))
    names = [readable(name) for name in CLASSES]
    wanted = open_clip.build_zero_shot_classifier(theirs, open_clip.get_tokenizer("RN50"), names, TEMPLATES)
    pictures = F.normalize(torch.randn(5, ours.shape[1]), dim=-1)
    assert ours.shape == (3, 1024)
    assert torch.allclose(100 * pictures @ ours.T, 100 * pictures @ wanted, atol=1e-5)
    assert not torch.allclose(ours, class_vectors(model, heads, Prompts(TEMPLATES[:1]).texts(CLASSES)), atol=1e-3)


def test_names_are_read_as_words():
    assert Prompts(["{}", "the {}."]).texts(["animal-mammal", "a_b"]) == [
        ["animal mammal", "the animal mammal."],
        ["a b", "the a b."],
    ]


@pytest.mark.parametrize(("templates", "message"), [(["a photo"], "no single place"), ([], "is empty")])
def test_templates_without_a_place_for_the_name(templates, message):
    with pytest.raises(RequestError, match=message):
        Prompts(templates)


def test_rows_without_a_label_do_not_count():
    classes = torch.eye(4)
    vectors = {"image": F.normalize(torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [9, 0, 1, 0], [1, 9, 0, 0]]), dim=-1)}
    numbers = zero_shot_metrics({**vectors, "text": classes}, classes, torch.tensor([0, 1, 1, -1]))
    assert numbers["zero_shot_accuracy"] == pytest.approx(2 / 3)
    assert numbers["zero_shot_accuracy_chance"] == 0.25
    # Of the two classes there are, each has precision and recall of 1 and 1/2, one way or the other.
    assert numbers["zero_shot_f1_macro"] == pytest.approx(2 / 3)
    assert zero_shot_metrics(vectors, classes, torch.full((4,), -1)) == {}
    both = zero_shot_metrics({**vectors, "audio": vectors["image"]}, classes, torch.tensor([0, 1, 1, 1]))
    assert both["image_zero_shot_accuracy"] == both["audio_zero_shot_accuracy"] == 0.75
