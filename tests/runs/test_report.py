"""The page about a run and the tables that close runs and sweeps."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from outside.parts import Squares
from PIL import Image
from rich.console import Console
from rich.table import Table
from stand_ins import TinyImage, TinyText

from mmexp.augmentations.colour import Colour
from mmexp.data.loading import Loading, PreparedSamples, Variation
from mmexp.runs.gallery import make_gallery
from mmexp.runs.looks import Attention, Seen
from mmexp.runs.report import (
    Answer,
    Captioned,
    Confusion,
    Gallery,
    Query,
    Retrieved,
    Version,
    write_report,
)
from mmexp.runs.sweep_table import failures_table, fitted, sweep_table
from mmexp.runs.table import closing_table, read_numbers
from mmexp.types import DataSource

WAYS = ("text_to_image", "image_to_text")
METRICS = {
    **{f"test/{way}_r{k}": value for way in WAYS for k, value in ((1, 0.06), (5, 0.2), (10, 0.31))},
    **{f"test/{way}_r{k}_chance": k / 600 for way in WAYS for k in (1, 5, 10)},
    **{f"start/test/{way}_r{k}": k / 590 for way in WAYS for k in (1, 5, 10)},
    "test/text_to_image_median_rank": 24.0,
    "start/test/text_to_image_median_rank": 301.5,
    "test/candidates": 600.0,
    "test/matching_accuracy": 0.84,
    "test/matching_accuracy_chance": 0.5,
    "test/loss": 1.2345,
    "start/test/loss": 4.6,
    "val/loss": 1.31,
    "val/text_to_image_r10": 0.29,
}
RUN = {
    "status": "completed",
    "command": "mmexp train fusion=xattn",
    "seed": 3,
    "parents": [{"role": "teacher", "path": "outputs/<first>", "fingerprint": "f0", "weights": "ab12"}],
    "parameters": {"total": 1_234_567, "trainable": 45_678},
    "steps": 400,
    "samples_seen": 25600,
    "samples_per_second": 812.4,
    "train_seconds": 31.5,
    "wall_seconds": 150.0,
    "peak_memory_bytes": 1.5 * 2**30,
    "versions": {"python": "3.11.9", "torch": "2.7.0"},
    "hardware": {"machine": "x86_64", "cores": 4, "gpus": []},
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "error": None,
}
CONFIG = """name: tiny
choices:
  encoder/image: vit_tiny
  encoder/text: small
  fusion: xattn
  objective: [contrastive, matching]
"""
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects elements and text, and fails on an element that is closed out of turn."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def history(steps: int = 400) -> str:
    """Return a `metrics.csv` with a row a step of training and, every tenth, one of validation."""
    rows = ["epoch,lr,step,train/loss,train/loss_contrastive,val/loss,val/text_to_image_r1,val/text_to_image_r10"]
    for step in range(0, steps, 5):
        loss = 1 + 3 * np.exp(-step / 120) + 0.15 * np.sin(step)
        rows.append(f"0,0.001,{step},{loss},{loss * 0.8},,,")
        if step % 40 == 0:
            rows.append(f"0,,{step},,,{loss + 0.1},{0.06 * step / 400},{0.3 * step / 400}")
    return "\n".join(rows) + "\n"


def picture(colour: int) -> Image.Image:
    """Return a picture larger than the page shows it."""
    ramp = np.linspace(0, 255, 160, dtype=np.uint8)
    planes = [np.broadcast_to(ramp, (160, 160)), np.broadcast_to(ramp[:, None], (160, 160))]
    return Image.fromarray(np.stack([*planes, np.full((160, 160), colour * 37 % 256, np.uint8)], -1))


def gallery() -> Gallery:
    """Return a gallery of every kind of picture, with a caption that tries to be a script."""
    found = [Retrieved(picture(i), f"caption {i}", 0.5 - i / 20, i == 1) for i in range(5)]
    texts = [Retrieved(None, "<script>alert('hi')</script>" if i else "a red ramp", 0.4, i == 0) for i in range(3)]
    retrieval = {
        "Text → image": [Query(None, "a ramp that goes <b>red</b>", found)] * 2,
        "Image → text": [Query(picture(5), "", texts)],
    }
    confusion = Confusion(["cat", "dog & co", "<i>owl</i>"], np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]]))
    versions = [[Version(picture(i), "<b>ramp" if i else "a ramp") for i in range(6)], [Version(None, "")] * 6]
    captions = [Captioned(picture(3), "<b>a ramp", "a <i>red ramp"), Captioned(None, "a text alone", "")]
    heat = [Attention(picture(2), np.eye(7), "<b>again")]
    seen = Seen("a ramp", picture(2), heat, {"gradient": [("<b>again", 1.0), ("ramp", 0.2)]}, heat)
    return Gallery(
        retrieval,
        confusion,
        augmented=versions,
        captions=captions,
        looks=[seen],
        contributions={"nothing/accuracy": 0.25, "image/accuracy": 0.5},
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a run that has ended."""
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "metrics.csv").write_text(history())
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def test_page_is_whole_and_needs_nothing_else(directory: Path) -> None:
    path = write_report(directory, gallery())
    text = path.read_text()
    page = Page(text)
    assert path == directory / "report.html" and not page.open
    assert sorted(p.name for p in directory.iterdir() if p.name.startswith(".")) == []
    assert not re.search(r"https?:|url\((?!#)|@import", text)
    tags = [tag for tag, _ in page.elements]
    assert not {"script", "link", "iframe"} & set(tags)
    links = [v for _, attrs in page.elements for k, v in attrs.items() if k in ("src", "href", "xlink:href")]
    assert links and all(link.startswith(("data:image/", "#")) for link in links)


def test_user_text_is_escaped(directory: Path) -> None:
    text = write_report(directory, gallery()).read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "<b>red" not in text and "<i>owl" not in text and "dog &amp; co" in text


def test_right_answers_are_marked_by_more_than_colour(directory: Path) -> None:
    page = Page(write_report(directory, gallery()).read_text())
    answers = [attrs for _, attrs in page.elements if str(attrs.get("class")).startswith("answer") and "title" in attrs]
    right = [attrs for attrs in answers if "right" in attrs["class"].split()]
    assert (len(answers), len(right)) == (13, 3)
    assert page.text.count("✓") == 3
    assert all(attrs["aria-label"].startswith("right, score") for attrs in right)
    assert sum(attrs["aria-label"].startswith("wrong, score") for attrs in answers) == 10


def test_numbers_are_told_in_words_and_times_chance(directory: Path) -> None:
    text = " ".join(Page(write_report(directory, gallery()).read_text()).text.split())
    for part in ("text → image R@10", "31.0 %", "18.6× chance", "600 candidates", "median rank"):
        assert part in text
    for part in ("1,234,567, 45,678 trained", "1.50 GiB", "vit_tiny", "contrastive + matching", "uncommitted"):
        assert part in text


def test_every_loss_and_recall_has_a_curve(directory: Path) -> None:
    page = Page(write_report(directory, Gallery({})).read_text())
    labels = [attrs.get("aria-label") for tag, attrs in page.elements if tag == "figure"]
    assert labels == [f"{t} against step" for t in ("loss", "loss, contrastive", "text → image, recall (val)")]
    assert not page.open


def test_where_answers_come_from_and_what_each_modality_brings(directory: Path) -> None:
    page = Page(write_report(directory, gallery()).read_text())
    assert "Where answers come from" in page.text and "what each word saw" in page.text
    assert "What each modality brings" in page.text and "50.0" in page.text and "the most frequent class" in page.text
    bare = Page(write_report(directory, Gallery({})).read_text()).text
    assert "Where answers" not in bare and "brings" not in bare and "common space" not in bare


def test_pictures_are_small(directory: Path) -> None:
    text = write_report(directory, gallery()).read_text()
    found = re.findall(r"data:image/webp;base64,([^\"]+)", text)
    assert {Image.open(io.BytesIO(base64.b64decode(one))).size for one in found} == {(96, 96)}


def test_samples_stand_beside_their_augmented_versions(directory: Path) -> None:
    page = Page(write_report(directory, gallery()).read_text())
    alts = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]
    assert (alts.count("as it is"), alts.count("augmented")) == (1, 5)
    assert "augmented" not in Page(write_report(directory, Gallery({})).read_text()).text


class Shout:
    modality = "text"

    def __call__(self, values: list[str], draws: Any) -> list[str]:
        return [text.upper() for text in values]


def test_captions_stand_beside_the_pictures_own_texts(directory: Path) -> None:
    page = Page(write_report(directory, gallery()).read_text())
    assert "What was written" in page.text
    assert page.text.index("a <i>red ramp") < page.text.index("<b>a ramp", page.text.index("What was written"))
    assert "What was written" not in Page(write_report(directory, Gallery({})).read_text()).text


def test_versions_begin_with_the_sample_as_it_is_and_go_with_the_augmentation() -> None:
    encoders, samples = {"image": TinyImage(), "text": TinyText()}, Squares(4, 0)
    task, source = SimpleNamespace(gathered={}), DataSource({}, ())

    def versions(*augmentations: Any) -> list[list[Version]]:
        train = PreparedSamples(samples, encoders, Loading(), Variation(0, augmentations))
        return make_gallery(task, source, train).augmented

    shown = versions(Colour(0.5), Shout())
    assert [len(row) for row in shown] == [6] * 4
    for row in shown:
        place = samples.names.index(row[0].text)
        assert row[0].picture.getpixel((0, 0)) in {samples.read(place + i, "image").getpixel((0, 0)) for i in range(4)}
        assert len({version.picture.tobytes() for version in row}) > 1
    assert {version.text for row in shown for version in row[1:]} != {row[0].text for row in shown}
    assert versions() == []


def test_failed_run_without_numbers_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "failed", "error": "no <memory>"}))
    text = write_report(tmp_path, Gallery({})).read_text()
    assert "no &lt;memory&gt;" in text and not Page(text).open


def printed(table: Table, width: int = 140) -> str:
    """Return what a terminal of `width` columns shows."""
    out = io.StringIO()
    Console(width=width, file=out).print(table)
    return out.getvalue()


def test_closing_table() -> None:
    text = printed(closing_table(METRICS))
    assert all(part in text for part in ("31.0", "was 1.7", "18.6×", "as chance", "1.234", "was 4.6"))
    assert text.index("test") < text.index("val")
    assert closing_table({}).row_count == 0


def test_sweep_table_shows_what_differs_and_why_a_run_failed() -> None:
    good = {"status": "completed", "metrics": METRICS, "seconds": 9.0}
    bad = {"status": "failed", "error": "[bold]no room\nmore"}
    rows = [
        {"number": 0, "choices": {"fusion": "none", "data": "emoji"}, **good},
        {"number": 1, "choices": {"fusion": "xattn", "data": "emoji"}, **bad},
    ]
    text = printed(sweep_table(rows))
    assert "xattn" in text and "emoji" not in text
    assert "R@10 %" in text and "31.0" in text
    told = printed(failures_table(rows))
    assert "1       [bold]no room" in told and "more" not in told
    assert failures_table(rows[:1]) is None
    assert sweep_table([]).row_count == 0


@pytest.mark.parametrize("width", [80, 200])
def test_sweep_table_leaves_out_metrics_before_it_breaks_words(width: int) -> None:
    keys = ("encoder.image.dim", "optimizer.weight_decay", "data.batch_size", "seed")
    rows = [
        {
            "number": n,
            "status": "completed",
            "metrics": METRICS,
            "seconds": 9.0,
            "overrides": [f"{k}={n}" for k in keys],
        }
        for n in range(2)
    ]
    console = Console(width=width, file=io.StringIO())
    text = printed(fitted(sweep_table, rows, console), width)
    for word in ("encoder.", "weight_decay", "batch_size", "seconds"):
        assert word in text
    assert ("fewer metrics, for 80 columns" in text) == (width == 80)


def test_sweep_table_reads_a_run_record() -> None:
    rows = [
        {
            "number": str(n),
            "overrides": [f"+seed={n}", "fusion=none"],
            "choices": {"fusion": "none"},
            "wall_seconds": 7.0,
        }
        for n in (41, 42)
    ]
    text = printed(sweep_table(rows))
    assert "seed" in text and "42" in text and "7" in text and "fusion" not in text


def test_numbers_join_start_final_and_chance() -> None:
    number = read_numbers({"test/x/a_to_b_r1": 0.5, "start/test/x/a_to_b_r1": 0.1, "test/x/a_to_b_r1_chance": 0.1})[0]
    assert (number.split, number.words, number.start, number.ratio) == ("test/x", "a → b R@1", 0.1, 5.0)


def test_a_wrong_answer_stands_beside_the_right_one(directory: Path) -> None:
    answers = [Answer(picture(3), "which <i>colour</i>?", said, 0.8, "blue") for said in ("red", "blue")]
    text = write_report(directory, Gallery({}, answers=answers)).read_text()
    assert text.count("✓") == 1
    assert "80.0\N{NO-BREAK SPACE}% sure; right is blue" in text
    assert text.count("which &lt;i&gt;colour&lt;/i&gt;?</span>") == 2


def test_an_error_is_the_better_the_less_and_precision_the_more() -> None:
    rows = [
        {"number": str(i), "status": "completed", "overrides": [f"seed={i}"], "metrics": {f"test/{name}": value}}
        for i, (name, value) in enumerate([("mean_absolute_error", 2.0), ("mean_absolute_error", 3.0)])
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(sweep_table(rows))
    assert re.search(r"\x1b\[1m +2\x1b", console.export_text(styles=True))
    assert [n.is_share for n in read_numbers({"test/mean_average_precision": 0.5, "test/r2": 0.9})] == [True, False]


def test_parents_are_linked_from_where_the_page_lies(tmp_path: Path) -> None:
    run, first = tmp_path / "a" / "run", tmp_path / "b" / "a first"
    for place in (run, first):
        place.mkdir(parents=True)
    (first / "report.html").write_text("")
    parents = [
        {"role": "init_from", "path": str(first), "fingerprint": "f0", "weights": "ab12"},
        {"role": "teacher", "path": "open_clip:<x>", "fingerprint": None, "weights": None},
    ]
    (run / "run.json").write_text(json.dumps({"parents": parents}))
    page = Page(write_report(run, Gallery({})).read_text())
    assert [attrs["href"] for tag, attrs in page.elements if tag == "a"] == ["../../b/a%20first/report.html"]
    assert "open_clip:<x>" in page.text and "ab12" in page.text
    (run / "run.json").write_text("{}")
    assert "Family" not in Page(write_report(run, Gallery({})).read_text()).text
