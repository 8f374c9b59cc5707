"""What `mmexp evaluate also=...` tells, on models and rows of which the answers are known."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from mmexp.judging import corruptions, probing
from mmexp.judging.missing import shapley
from mmexp.judging.space import uniformity
from mmexp.model import Model
from mmexp.tasks.views import StepViews, Without
from mmexp.types import Encoded

RUN = ("fusion=none", "encoder/image=cnn", "encoder.text.depth=1", "data.styles=[blob]", "data.num_workers=0")
RUN += ("budget.steps=4", "evaluate=false", "hardware.threads=1", "hydra.run.dir=run")


def told(place: str) -> dict[str, float]:
    return json.loads((Path("outputs/evaluations") / place / "metrics.json").read_text())


@pytest.mark.parametrize("kind", ["noise", "blur", "jpeg", "occlusion"])
def test_a_picture_is_spoilt_more_by_more_strength_and_alike_each_time(kind):
    draws = np.random.default_rng(0)
    low = Image.fromarray(draws.integers(256, size=(12, 16, 3), dtype=np.uint8))
    picture, spoil = low.resize((256, 192), Image.Resampling.BICUBIC), corruptions.KINDS["image"][kind]

    def off(strength: int) -> float:
        spoilt = spoil(picture, strength, np.random.default_rng(1))
        assert spoilt.size == picture.size and spoilt.mode == "RGB"
        assert np.array_equal(np.asarray(spoilt), np.asarray(spoil(picture, strength, np.random.default_rng(1))))
        return float(np.abs(np.asarray(spoilt, float) - np.asarray(picture, float)).mean())

    assert 0 < off(1) < off(5)


def test_texts_and_sounds_are_spoilt():
    text = "a small red thing on the left of a blue one " * 20
    same = [
        sum(a == b for a, b in zip(text, corruptions.typos(text, s, np.random.default_rng(0)), strict=False))
        for s in (1, 5)
    ]
    assert corruptions.typos("", 5, np.random.default_rng(0)) == "" and min(same) < len(text)
    clip = np.zeros(16_000, np.float32)
    clip[100] = 1.0
    wet, rate = corruptions.reverberation((clip, 16_000), 5, np.random.default_rng(0))
    assert rate == 16_000 and len(wet) == len(clip) and np.abs(wet).max() <= 1
    dry, _ = corruptions.reverberation((clip, 16_000), 1, np.random.default_rng(0))
    assert np.square(wet[4000:]).sum() > 10 * np.square(dry[4000:]).sum()


class Tower(nn.Module):
    modality, dim = "image", 4

    def forward(self, prepared: dict[str, torch.Tensor]) -> Encoded:
        values = prepared["values"]
        return Encoded(values[:, None], values, torch.ones(len(values), 1, dtype=torch.bool))


def test_what_is_left_of_a_step_is_what_a_model_says_of_rows_that_lack_the_rest():
    rows, towers = {"index": torch.arange(3)}, {name: Tower() for name in ("image", "text")}
    model = Model(towers, nn.Identity())
    values = {name: {"values": torch.rand(3, 4)} for name in towers}
    some = torch.tensor([True, False, True])

    def views(**present: torch.Tensor) -> StepViews:
        return StepViews(model, {**rows, **values, "present": {"text": some, **present}}, 0, 0, lambda tensor: tensor)

    left, right = Without(views(), ["text"]).encoded(), views(image=torch.zeros(3, dtype=torch.bool)).encoded()
    for name in towers:
        assert torch.equal(left[name].pooled, right[name].pooled)
        assert torch.equal(left[name].there(), right[name].there())
    assert left["text"].there().tolist() == some.tolist() and not left["image"].mask.any()
    whole = StepViews(model, {**rows, **values}, 0, 0, lambda tensor: tensor)
    assert "present" not in Without(whole, ["image", "text"]).batch


def test_shapley_values_add_up_and_are_those_of_a_sum():
    worth = {
        frozenset(s): 0.1 + 0.3 * ("a" in s) + 0.2 * ("b" in s) + 0.1 * ("a" in s and "b" in s)
        for s in ("", "a", "b", "ab")
    }
    found = {name: shapley(name, ["a", "b"], worth) for name in "ab"}
    assert found == pytest.approx({"a": 0.35, "b": 0.25})
    assert sum(found.values()) == pytest.approx(worth[frozenset("ab")] - worth[frozenset()])


def test_uniformity_is_least_where_vectors_are_spread():
    torch.manual_seed(0)
    spread = torch.nn.functional.normalize(torch.randn(200, 16), dim=1)
    near = torch.nn.functional.normalize(spread + 5, dim=1)
    pairs = [-2 * (a - b).square().sum() for i, a in enumerate(spread[:20]) for b in spread[:i]]
    assert uniformity(spread[:20]) == pytest.approx(torch.stack(pairs).exp().mean().log().item(), abs=1e-5)
    assert uniformity(spread) < uniformity(near) < 0


def test_studies_of_a_run_with_a_common_space(mmexp):
    assert mmexp("train", *RUN, "objective=contrastive")[0] == 0
    status, out, err = mmexp("evaluate", "run", "also=[map,groups,knn,linear_probe,few_shot,space]")
    assert status == 0, err
    metrics = told("now-0-run")
    assert 0 < metrics["test/map/image_to_text_map"] <= 1 and 0 <= metrics["test/knn/image_knn"] <= 1
    assert metrics["test/linear_probe/image_linear_probe"] > 0.1 and "test/few_shot/text_16_shot" in metrics
    assert 0 <= metrics["test/space/image_text_gap"] <= 2 and 0 < metrics["test/space/image_text_alignment"] <= 4
    assert any(name.startswith("test/groups/") for name in metrics) and "image to text map" in out
    status, _, err = mmexp("evaluate", "run", "also=mapp")
    assert status == 2 and "Did you mean 'map'" in err


def test_studies_of_a_classifier(mmexp):
    asked = ("fusion=concat", "objective=classify")
    assert mmexp("train", *(one for one in RUN if one != "fusion=none"), *asked)[0] == 0
    status, _, err = mmexp("evaluate", "run", "also=[calibration,missing,contributions,corruptions]")
    assert status == 0, err
    metrics = told("now-0-run")
    assert 0 <= metrics["test/calibration/expected_calibration_error"] <= 1
    assert {"test/missing/image+text/accuracy", "test/missing/image/accuracy", "test/missing/text/accuracy"} <= set(
        metrics
    )
    assert metrics["test/missing/image+text/accuracy"] == pytest.approx(metrics["test/accuracy"], abs=0.02)
    brought = [metrics[f"test/contributions/{name}/accuracy"] for name in ("image", "text", "nothing")]
    assert sum(brought) == pytest.approx(metrics["test/missing/image+text/accuracy"], abs=1e-6)
    kinds = {name.split("/")[2].rpartition("_")[0] for name in metrics if name.startswith("test/corruptions/")}
    assert {"noise", "blur", "jpeg", "occlusion", "typos"} <= kinds


def test_rows_that_lack_a_modality_are_left_out_where_nothing_of_them_is_there(mmexp):
    lines = [("0.png" if n % 3 != 1 else "", f"thing {n}" if n % 3 != 2 else "", "ab"[n % 2]) for n in range(24)]
    Image.new("RGB", (8, 8)).save("0.png")
    Path("rows.csv").write_text("\n".join(map(",".join, [("image", "caption", "label"), *lines])))
    table = ("data=table", *(f"{'+' if one == 'test' else ''}data.{one}=rows.csv" for one in ("train", "val", "test")))
    columns = ("data.columns.label=label", "data.missing=keep", "data.batch_size=8", "objective=classify")
    small = (one for one in RUN if one not in ("fusion=none", "data.styles=[blob]"))
    assert mmexp("train", *small, *table, *columns, "fusion=concat")[0] == 0
    status, _, err = mmexp("evaluate", "run", "also=[missing,contributions]")
    assert status == 0, err
    metrics = told("now-0-run")
    assert {f"test/missing/{name}/accuracy" for name in ("image+text", "image", "text")} <= set(metrics)
    # Eight rows have both, four of each class.
    assert metrics["test/contributions/nothing/accuracy"] == 0.5
    brought = sum(metrics[f"test/contributions/{name}/accuracy"] for name in ("image", "text", "nothing"))
    assert brought * 8 == pytest.approx(round(brought * 8), abs=1e-5)


def write_tar(path: Path, rows: int) -> None:
    """Write pictures and captions as a WebDataset."""
    import tarfile

    draws = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for i in range(rows):
            stored = io.BytesIO()
            Image.fromarray(draws.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(stored, "PNG")
            for suffix, content in (
                ("png", stored.getvalue()),
                ("txt", f"caption number {i} of {i * 7 % 31}".encode()),
            ):
                member = tarfile.TarInfo(f"{i:04d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def open_clip_run(mmexp, tmp_path) -> None:
    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    config = {"model_cfg": {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(48, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text))
    torch.save(model.state_dict(), tmp_path / "start" / "open_clip_pytorch_model.bin")
    name = f"local-dir:{tmp_path / 'start'}"
    towers = ("encoder=open_clip", f"encoder.image.name={name}", f"encoder.text.name={name}")
    small = [one for one in RUN if not one.startswith("encoder")]
    status, _, err = mmexp("train", *small, *towers, "objective=contrastive", "hardware.precision=32-true")
    assert status == 0, err


def test_clip_benchmark_finds_the_same_recall_in_what_was_exported(mmexp, open_clip_run, tmp_path):
    """On a WebDataset tar: the run by `mmexp evaluate`, its export by the PyPI package, and by ours as another's model."""
    assert mmexp("export", "run", "--format", "open_clip", "--out", "model")[0] == 0
    write_tar(tmp_path / "rows.tar", 90)
    data = (
        "data=table",
        "data.train=rows.tar",
        "data.val=rows.tar",
        "data.test=rows.tar",
        "data.batch_size=16",
        "data.num_workers=0",
    )
    data += ("data.columns.image=png", "data.columns.text=txt")
    status, _, err = mmexp("evaluate", "run", "open_clip:local-dir:model", *data)
    assert status == 0, err
    own, again = told("now-0-run"), told("now-1-open_clip-local-dir-model")
    import open_clip
    import webdataset
    from clip_benchmark.metrics.zeroshot_retrieval import evaluate

    model, _, transform = open_clip.create_model_and_transforms("local-dir:model")
    model.eval()
    rows = webdataset.WebDataset(str(tmp_path / "rows.tar"), shardshuffle=False).decode("pil").to_tuple("png", "txt")
    pairs = [(transform(picture.convert("RGB")), [text]) for picture, text in rows]
    batches = [
        (torch.stack([p for p, _ in part]), [t for _, t in part])
        for part in (pairs[i : i + 30] for i in range(0, 90, 30))
    ]
    found = evaluate(
        model, batches, open_clip.get_tokenizer("local-dir:model"), "cpu", amp=False, recall_k_list=[1, 5, 10]
    )
    for k in (1, 5, 10):
        assert own[f"test/text_to_image_r{k}"] == pytest.approx(found[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert own[f"test/image_to_text_r{k}"] == pytest.approx(found[f"text_retrieval_recall@{k}"], abs=1e-6)
        assert again[f"test/text_to_image_r{k}"] == pytest.approx(own[f"test/text_to_image_r{k}"], abs=1e-6)


def test_a_dual_encoder_of_transformers_is_measured(mmexp, tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    text = {**size, "vocab_size": len(words), "eos_token_id": len(words) - 1, "bos_token_id": len(words) - 2}
    vision = {**size, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained("clip")
    CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77).save_pretrained(
        "clip"
    )
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained("clip")
    write_tar(tmp_path / "rows.tar", 40)
    data = (
        "data=table",
        "data.train=rows.tar",
        "data.test=rows.tar",
        "data.columns.image=png",
        "data.columns.text=txt",
    )
    status, _, err = mmexp("evaluate", "hf:clip", *data)
    assert status == 0, err
    metrics = told("now-0-hf-clip")
    assert metrics["test/candidates"] == 40 and 0 < metrics["test/mean_reciprocal_rank"] < 1


def test_neighbours_vote_as_those_of_scikit_learn(monkeypatch):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))
    label = [rng.integers(0, 4, rows) for rows in (120, 60)]
    vectors = [centres[own] + 2 * rng.normal(size=(len(own), 16)) for own in label]
    units = [(own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float32) for own in vectors]
    sets = iter(({"image": rows}, own) for rows, own in zip(units, label, strict=True))
    monkeypatch.setattr(probing, "_features", lambda judged, samples: next(sets))
    found = probing.neighbours(None, None, None, None)["image_knn"]
    weigh = lambda distance: np.exp((1 - distance) / 0.07)  # noqa: E731
    peer = KNeighborsClassifier(20, weights=weigh, metric="cosine", algorithm="brute").fit(units[0], label[0])
    assert found == pytest.approx(peer.score(units[1], label[1]), abs=1e-6)
    assert 0.3 < found < 0.95
