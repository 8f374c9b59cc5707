"""Rows that lack a video, or a second text under a name of its own: from the table's cells to the report."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import mmexp_here
from PIL import Image
from stand_ins import TinyImage, TinyText

from mmexp.augmentations.colour import Colour
from mmexp.augmentations.modality_dropout import ModalityDropout
from mmexp.data.loading import Loading, PreparedSamples, Variation
from mmexp.data.table import table
from mmexp.data.without import measured_without
from mmexp.draws import RowDraws
from mmexp.encoders.frames import FrameEncoder
from mmexp.errors import RequestError
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.runs.gallery import make_gallery
from mmexp.tasks.evaluation import Gathered

COLUMNS = {"text": "caption", "video": "clip", "title": "title"}
NO_VIDEO, NO_TITLE, NO_TEXT = [1, 4, 7, 10, 13], [2, 4, 8], [3, 9]
PLACES = [(row, 0) for row in range(16)]


def clip(row: int) -> bytes:
    """Return five frames of a square whose shade grows."""
    out, frames = io.BytesIO(), [Image.new("RGB", (8, 8), (15 * row, 40 * t, 7)) for t in range(5)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return out.getvalue()


@pytest.fixture
def rows(tmp_path, monkeypatch) -> str:
    """Sixteen rows, in JSON lines: what one lacks is null, an empty text, or not there."""
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    lines = []
    for row in range(16):
        (tmp_path / f"{row}.webp").write_bytes(clip(row))
        line = {"caption": f"say {row}", "clip": f"{row}.webp", "title": f"name {row}"}
        line |= {"clip": None} if row in NO_VIDEO else {}
        line |= {"caption": " "} if row in NO_TEXT else {}
        lines.append({k: v for k, v in line.items() if k != "title" or row not in NO_TITLE})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(tmp_path / "rows.jsonl")


def read(path: str, **more):
    return table(
        path, COLUMNS, **{"val_fraction": 0, "frames": 3, "kinds": {"title": "text"}, "missing": "keep", **more}
    )


def encoders():
    torch.manual_seed(0)
    return {"text": TinyText(), "title": TinyText(), "video": FrameEncoder(TinyImage(), frames=3, heads=2)}


def only_what_is_there(samples, monkeypatch):
    whole = samples.read

    def checked(row, name, rng=None):
        assert samples.present.get(name, np.ones(16, bool))[row], f"row {row} has no {name}"
        return whole(row, name, rng)

    monkeypatch.setattr(samples, "read", checked)
    return samples


def lacking(there) -> list[int]:
    return np.flatnonzero(~np.asarray(there)).tolist()


def test_empty_cells_of_any_name_and_kind(rows):
    samples = read(rows).splits["train"]
    assert {name: lacking(there) for name, there in samples.present.items()} == {
        "video": NO_VIDEO,
        "title": NO_TITLE,
        "text": NO_TEXT,
    }
    # What rows lack does not make them one thing, and is no file whose change is seen.
    assert len(set(samples.concepts.tolist())) == 16 and len(samples.stamp()) == 16
    assert "video" not in samples.chosen([0, 2]).present and samples.chosen([4, 5]).present["title"].tolist() == [0, 1]


def test_by_default_each_is_a_mistake(rows):
    with pytest.raises(RequestError, match=r"line 2: .*no video.* 8 more rows are wrong.*data.missing=keep learns"):
        read(rows, missing="raise")
    whole = read(rows, missing="raise", on_error="skip")
    assert len(whole.splits["train"]) == 16 - len({*NO_VIDEO, *NO_TITLE, *NO_TEXT}) == 16 - whole.skipped["train"]
    with pytest.raises(RequestError, match=r"line 3: column 'title' is empty\."):
        table(rows, {"title": "title"}, kinds={"title": "text"})


def test_a_row_without_any_of_them_is_named(rows):
    with pytest.raises(RequestError, match=r"line 5: there is nothing in 'clip' and 'title'\."):
        table(rows, {"video": "clip", "title": "title"}, kinds={"title": "text"}, missing="keep")


@pytest.mark.parametrize("variation", [None, Variation(1, [Colour(0.5)])], ids=["plain", "varied"])
def test_blanks_stand_in_and_rows_that_have_it_are_as_if_alone(rows, monkeypatch, variation):
    samples = only_what_is_there(read(rows).splits["train"], monkeypatch)
    prepared = PreparedSamples(samples, encoders(), Loading(), variation)
    batch = prepared.__getitems__(PLACES)
    assert {name: lacking(there) for name, there in batch["present"].items()} == {
        "text": NO_TEXT,
        "title": NO_TITLE,
        "video": NO_VIDEO,
    }
    frames, mask = batch["video"]["frames"], batch["video"]["mask"]
    assert frames.shape == (16, 3, 3, 8, 8) and frames.dtype == torch.uint8 and mask.all()
    assert (frames[NO_VIDEO] == 128).all()
    assert batch["title"]["mask"][NO_TITLE].sum(1).tolist() == [2, 2, 2]  # the marks alone
    alone = prepared.__getitems__([(row, 0) for row in (0, 5)])
    assert torch.equal(frames[[0, 5]], alone["video"]["frames"])
    nobody = prepared.__getitems__([(1, 0), (7, 0)])
    assert nobody["video"]["frames"].shape == (2, 3, 3, 8, 8) and not nobody["present"]["video"].any()


def test_nothing_is_encoded_of_blanks(rows):
    own = encoders()
    model = Model(own, ConcatFusion({name: one.dim for name, one in own.items()}, dim=8, hidden=8)).eval()
    batch = PreparedSamples(read(rows).splits["train"], own, Loading()).__getitems__(PLACES)
    encoded = model.encode(batch)
    for name, gone in (("video", NO_VIDEO), ("title", NO_TITLE)):
        one, there = encoded[name], batch["present"][name]
        assert not one.pooled[gone].any() and not one.tokens[gone].any() and not one.mask[gone].any()
        alone = own[name]({key: tensor[there] for key, tensor in batch[name].items()})
        torch.testing.assert_close(one.pooled[there], alone.pooled)
    changed = {**batch, "video": {**batch["video"], "frames": batch["video"]["frames"].clone()}}
    changed["video"]["frames"][NO_VIDEO] = 9
    torch.testing.assert_close(model.fuse(model.encode(changed)).pooled, model.fuse(encoded).pooled)


def test_modality_dropout_drops_them_too(rows):
    batch = PreparedSamples(read(rows).splits["train"], encoders(), Loading()).__getitems__(PLACES)
    dropped = ModalityDropout(0.9)(batch, RowDraws(0, 0, list(range(16)), ""))["present"]
    assert set(dropped) == {"text", "title", "video"}
    assert torch.stack(list(dropped.values())).any(0).all()
    for name, there in dropped.items():
        assert not (there & ~batch["present"][name]).any() and there.sum() < batch["present"][name].sum()


def test_test_sets_without_them(rows):
    source = measured_without(read(rows, test=rows), ["video", "title"], list(COLUMNS))
    bare = source.splits["test_without_title"]
    assert not bare.present["title"].any() and lacking(bare.present["video"]) == NO_VIDEO
    assert not source.splits["test_without_video"].present["video"].any()
    assert list(source.modalities) == ["text", "video", "title"]


def gathered(samples) -> Gathered:
    found = Gathered()
    present = {f"present/{name}": torch.from_numpy(there) for name, there in samples.present.items()}
    vectors = {f"vector/{name}": torch.eye(16) for name in ("text", "title", "video")}
    found.add({}, {n: torch.arange(16) for n in ("index", "concept", "label")} | present | vectors, 16)
    return found


def test_retrieval_counts_the_rows_that_have_both(rows):
    numbers = gathered(read(rows).splits["train"]).metrics()
    for query, key, gone in (
        ("title", "video", {*NO_TITLE, *NO_VIDEO}),
        ("text", "title", {*NO_TEXT, *NO_TITLE}),
        ("video", "text", {*NO_VIDEO, *NO_TEXT}),
    ):
        for way in (f"{query}_to_{key}", f"{key}_to_{query}"):
            assert numbers[f"{way}_candidates"] == 16 - len(gone) and numbers[f"{way}_r1"] == 1.0


def test_the_gallery_pairs_rows_that_have_both_and_reads_nothing_else(rows, monkeypatch):
    source = read(rows, test=rows)
    samples = only_what_is_there(source.splits["test"], monkeypatch)
    own = {name: SimpleNamespace(modality="text" if name == "title" else name) for name in ("text", "title", "video")}
    task = SimpleNamespace(gathered={"test": gathered(samples)}, model=SimpleNamespace(encoders=own))
    found = make_gallery(task, source, SimpleNamespace(variation=None)).retrieval
    assert len(found) == 6
    shown = [query.text for query in found["title to video, test"]]
    assert shown and not {f"name {row}" for row in (*NO_TITLE, *NO_VIDEO)} & set(shown)
    # The clip of a row without a caption is told by its place.
    told = {
        one.text for query in found["video to title, test"] + found["title to video, test"] for one in query.retrieved
    }
    assert any("line 4" in text for text in told) and all(
        query.retrieved[0].right for queries in found.values() for query in queries
    )


def test_a_direction_that_no_row_has_both_of_is_not_shown(rows):
    source = measured_without(read(rows, test=rows), ["video"], list(COLUMNS))
    bare = source.splits["test_without_video"]
    task = SimpleNamespace(
        gathered={"test_without_video": gathered(bare)},
        model=SimpleNamespace(
            encoders={n: SimpleNamespace(modality="video" if n == "video" else "text") for n in COLUMNS}
        ),
    )
    found = make_gallery(task, source, SimpleNamespace(variation=None)).retrieval
    assert set(found) == {"text to title, test_without_video", "title to text, test_without_video"}


def test_a_run_whose_rows_lack_videos_and_titles(rows, tmp_path):
    done = mmexp_here(
        *("train", "data=table", f"data.train={rows}", "data.columns.image=null", "data.columns.video=clip"),
        *("+data.columns.title=title", "+encoder/text@encoder.title=transformer", "encoder=cnn", "fusion=concat"),
        *("objective=[contrastive,matching]", "augmentation=modality_dropout", "data.missing=keep", "data.frames=3"),
        *("data.without=[video,title]", "data.val_fraction=0.5", "data.batch_size=8", "data.num_workers=0"),
        *("budget.steps=2", "hardware.threads=1", "encoder.text.depth=1", "encoder.title.depth=1", "hydra.run.dir=run"),
        cwd=tmp_path,
        MMEXP_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < numbers["val/title_to_video_candidates"] < numbers["val/text_to_title_candidates"] + 3 < 11
    assert "val_without_video/title_to_text_r1" in numbers
    assert not any("val_without_video" in name and "video_" in name.partition("/")[2] for name in numbers)
    assert all(np.isfinite(value) for value in numbers.values())
    assert (tmp_path / "run" / "report.html").is_file()
