"""Zero-shot classification: against open_clip's own classifier on towers with the same random weights."""

import json

import pytest
import torch
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.objectives.prompts import Prompts, readable
from mmexp.tasks.zero_shot import class_vectors, zero_shot_metrics

TEMPLATES = ["{}", "a photo of a {}.", "art of the {}."]
CLASSES = ["animal-mammal", "food", "a_very  odd-name"]


@pytest.fixture(scope="module")
def clip_name(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    config = {"model_cfg": {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def clip(clip_name):
    """Return an open_clip model, and its towers as a model whose heads are open_clip's own projections."""
    import open_clip

    from mmexp.encoders.open_clip_image import OpenClipImage
    from mmexp.encoders.open_clip_text import OpenClipText
    from mmexp.fusion.none import NoFusion
    from mmexp.model import Model
    from mmexp.objectives.heads import one_space

    torch.manual_seed(0)
    theirs = open_clip.create_model(clip_name, force_custom_text=True).eval()
    image, text = OpenClipImage(clip_name).eval(), OpenClipText(clip_name).eval()
    image.model.load_state_dict(theirs.visual.state_dict(), strict=False)
    text.model.load_state_dict(theirs.text.state_dict(), strict=False)
    heads = one_space({"image": image.dim, "text": text.dim}, 48)
    heads["image"].weight.data = theirs.visual.proj.data.T.clone()
    heads["text"].weight.data = theirs.text.text_projection.data.T.clone()
    return theirs, Model({"image": image, "text": text}, NoFusion({})), heads


def test_logits_are_those_of_open_clips_zero_shot_classifier(clip, clip_name):
    import open_clip

    theirs, model, heads = clip
    classes = class_vectors(model, heads, Prompts(TEMPLATES).texts(CLASSES))
    pixels = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        ours = heads(model.encode({"image": {"pixels": pixels}}))["image"] @ classes.T
        mean, std = (
            torch.tensor(numbers)[:, None, None] for numbers in (theirs.visual.image_mean, theirs.visual.image_std)
        )
        pictures = theirs.encode_image((pixels / 255 - mean) / std, normalize=True)
        names = [readable(name) for name in CLASSES]
        tokenizer = open_clip.get_tokenizer(clip_name)
        wanted = pictures @ open_clip.build_zero_shot_classifier(theirs, tokenizer, names, TEMPLATES)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
    alone = class_vectors(model, heads, Prompts(TEMPLATES[:1]).texts(CLASSES))
    assert not torch.allclose(alone, classes, atol=1e-3)


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
