"""The page of a comparison, in a browser: it sorts, filters, draws, shows pictures, and asks nobody for anything."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from browser import Opened, browser
from PIL import Image

from mmexp.comparison.page import verdict, write_page
from mmexp.comparison.types import Comparison, Configuration, Difference, Importance, Run
from mmexp.runs.pictures import write_gallery
from mmexp.runs.report import Query, Retrieved

pytestmark = pytest.mark.browser
METRIC = "test/text_to_image_r10"
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
PLOTS = ("configurations", "importance", "parallel", "curves", "pareto")


def made(directory: Path, number: int, fusion: str, rate: str, seed: int) -> Run:
    """Return a finished run: `xattn` and a low rate are better; run 3 failed, run 4 retrieved nothing."""
    value = {"concat": 0.2, "xattn": 0.3}.get(fusion, 0.1) + {"0.0001": 0.05}.get(rate, 0) + seed / 100
    choices = {"fusion": fusion, "optimizer.lr": rate}
    config = {"fusion": {"_target_": fusion}, "optimizer": {"lr": float(rate)}, "seed": seed}
    facts: dict[str, Any] = {"status": "completed", "seed": seed, "steps": 50, "samples_seen": 400}
    facts |= {"train_seconds": 10.0 + number, "parameters": {"total": 1_500_000 * (1 + (fusion == "xattn"))}}
    run = Run(f"run-{number}", directory / str(number), facts, {}, config, choices)
    (directory / str(number)).mkdir()
    if number == 3:
        return Run(run.name, run.directory, {**facts, "status": "failed", "error": HOSTILE}, {}, config, choices)
    (directory / str(number) / "report.html").write_text("a report")
    write_history(directory / str(number) / "metrics.csv", value)
    if number != 4:
        write_gallery(directory / str(number), retrieved(number))
    metrics = {METRIC: value, "test/loss": 5 - value} | ({"test/accuracy": 1 - value} if number < 4 else {})
    return Run(run.name, run.directory, facts, metrics, config, choices)


def write_history(path: Path, value: float) -> None:
    with path.open("w") as stream:
        rows = csv.writer(stream)
        rows.writerow(["step", "train/loss", "val/text_to_image_r10"])
        rows.writerows([step, 5 - step / 1000, value * step / 1000 if step % 100 == 0 else ""] for step in range(1000))


def retrieved(number: int) -> dict[str, list[Query]]:
    """Return two queries: the first run alone finds the right answer to the second."""
    answers = [
        Retrieved(Image.new("RGB", (90, 90), (40 * place, 90, 9)), f"answer {place}", 0.5, place == 0)
        for place in range(4)
    ]
    return {"text to image, test": [Query(None, HOSTILE, answers), Query(None, "a ramp", answers[number > 0 :])]}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    top = tmp_path_factory.mktemp("sweep")
    chosen = [(f, r, s) for f in ("concat", "xattn", HOSTILE) for r in ("0.001", "0.0001") for s in (0, 1)]
    runs = [made(top, number, *choices) for number, choices in enumerate(chosen)]
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        if run.metrics:
            groups.setdefault((run.choices["fusion"], run.choices["optimizer.lr"]), []).append(run)
    configurations = []
    for (fusion, rate), members in groups.items():
        middle, half = mean(run.metrics[METRIC] for run in members), 0.02 if len(members) > 1 else None
        ends = (None, None) if half is None else (middle - half, middle + half)
        configurations.append(Configuration({"fusion": fusion, "optimizer.lr": rate}, members, middle, *ends))
    differences = [
        Difference("fusion", "xattn", "concat", 3, 0.1, 0.08, 0.12, 0.0004, 0.001, "better"),
        Difference("configuration", "xattn", HOSTILE, 2, 0.01, None, None, None, None, "too close to call"),
    ]
    importance = [Importance("fusion", 0.7, 0.5, 0.9), Importance("optimizer.lr", 0.2, nan, nan)]
    notes = ["run run-3: failed, not in the statistics"]
    return Comparison(METRIC, True, runs, configurations, importance, differences, notes=notes)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def path(comparison: Comparison) -> Path:
    assert comparison.runs[0].directory
    path = comparison.runs[0].directory.parent / "page.html"
    write_page(comparison, path)
    return path


@pytest.fixture
def opened(chromium: Any, path: Path) -> Iterator[Opened]:
    opened = Opened(chromium, path)
    yield opened
    assert opened.wrong == []
    assert opened.page.title() == "12 runs side by side"  # no name was run as a script
    opened.page.close()


def test_every_plot_is_drawn(opened: Opened):
    for plot in PLOTS:
        box = opened.page.locator(f"#{plot} svg.main-svg").first.bounding_box()
        assert box and box["width"] > 200 and box["height"] > 100
    assert opened.page.locator("#parallel canvas").count() > 0
    assert opened.page.locator("#pareto .scatterlayer .point").count() == 11
    assert (
        opened.page.locator("#curves .scatterlayer path.js-fill").count() == 4
    )  # of 5 pairs of seeds; the worst has no colour


def test_the_best_stand_above_and_what_is_missing_below(opened: Opened):
    assert opened.runs()[0] == "run-7" and opened.runs()[-1] == "run-3"
    assert "1 failed" in opened.page.inner_text("#counts")
    assert "run-3 failed: </script>" in opened.page.inner_text("#notes")
    assert "Note: run run-3: failed, not in the statistics." in opened.page.inner_text("main")


def test_a_heading_sorts_by_number_and_back(opened: Opened):
    opened.page.click("#runs thead button:text-is('run')")
    assert opened.runs() == [f"run-{number}" for number in range(12)]  # run-10 after run-9
    opened.page.click("#runs thead button:text-is('run')")
    assert opened.runs() == [f"run-{number}" for number in reversed(range(12))]
    assert opened.page.get_attribute("#runs thead th", "aria-sort") == "descending"


def test_a_filter_acts_on_the_table_and_on_all_plots(opened: Opened):
    opened.page.fill("#filter", "fusion=xattn")
    assert sorted(opened.runs()) == ["run-4", "run-5", "run-6", "run-7"]
    assert opened.points("pareto", 1) == 4
    assert len(opened.page.evaluate("document.getElementById('parallel').data[0].line.color")) == 4
    assert opened.texts("#curves-key span") == ["xattn · lr 0.0001", "xattn · lr 0.001"]
    assert opened.texts("#configurations .ytick") == ["xattn · lr 0.0001", "xattn · lr 0.001"]
    opened.page.click("#terms button:text-is('concat')")
    assert opened.page.input_value("#filter") == "fusion=xattn fusion=concat"
    assert len(opened.runs()) == 8
    opened.page.fill("#filter", "fusion=xatt")
    assert opened.runs() == [] and "No run shown" in opened.page.inner_text("#pareto")
    opened.page.fill("#filter", "seed=1 optimizer.lr=0.001")
    assert sorted(opened.runs()) == ["run-1", "run-5", "run-9"]
    opened.page.fill("#filter", "failed")
    assert opened.runs() == ["run-3"]


def test_the_metric_chosen_redraws(opened: Opened):
    opened.page.select_option("#metric", "test/loss")
    assert opened.runs()[0] == "run-7"  # the least loss
    assert "loss, test" in opened.page.inner_text("#pareto")
    assert opened.texts("#parallel .axis-title")[-1] == "loss, test"
    opened.page.select_option("#metric", "test/accuracy")
    assert opened.points("pareto", 1) == 3  # of the runs that have it
    assert "text → image R@10, test" in opened.page.inner_text("#scope")


def test_the_front_is_drawn_for_any_cost(opened: Opened):
    assert opened.page.inner_text("#front").endswith("run-0, run-1, run-2, run-4, run-5, run-6, run-7.")
    opened.page.select_option("#cost", "parameters")
    assert opened.page.inner_text("#front").endswith("run-2, run-7.")


def test_curves_against_samples_with_an_interval(opened: Opened):
    opened.page.select_option("#curve", "train/loss")
    assert opened.points("curves", 0) == 300  # of 1000
    opened.page.select_option("#against", "samples")
    opened.page.select_option("#band", "interval")
    assert opened.page.evaluate("document.getElementById('curves').data[0].x.at(-1)") == 999 * 8


def test_pictures_and_settings_of_two_runs_side_by_side(opened: Opened):
    for name in ("run-0", "run-1"):
        opened.page.click(f"#runs tr[data-run={name}]")
    assert opened.texts(".mark") == ["second", "first"]
    assert opened.page.locator("#sides img").count() == 4 + 4 + 4 + 3
    widths = opened.page.locator("#sides img").evaluate_all("all => all.map((image) => image.naturalWidth)")
    assert set(widths) == {64}
    assert "2 (run-0), 1 (run-1)" in opened.page.inner_text("#sides")
    assert opened.texts("#settings tbody tr") == ["seed01"]
    opened.page.select_option("#second", "run-4")
    assert "No gallery.json in run-4" in opened.page.inner_text("#sides")
    assert "optimizer.lr" not in opened.page.inner_text("#settings") and "xattn" in opened.page.inner_text("#settings")


def test_verdicts_and_names_are_told_as_they_are(opened: Opened, path: Path):
    rows = opened.page.locator("#differences tbody tr").all_inner_texts()
    assert "better than" in rows[0] and "+10.0" in rows[0] and "too close to call" in rows[1] and "</script>" in rows[1]
    assert "</script>" in " ".join(opened.texts("#configurations .ytick"))
    assert opened.page.get_attribute("#runs a", "href") == "7/report.html"
    text = path.read_text()
    assert "<script>document.title" not in text and "<img src=x" not in text


def test_a_phone_in_the_dark_sees_no_overflow(chromium: Any, path: Path):
    opened = Opened(chromium, path, color_scheme="dark", viewport={"width": 420, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 420
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 19, 23)"
    assert opened.wrong == []
    opened.page.close()


def test_nothing_to_compare_is_told(chromium: Any, tmp_path: Path):
    run = Run("w", None, {"status": "running"}, {}, {})
    write_page(Comparison(METRIC, True, [run]), tmp_path / "page.html")
    opened = Opened(chromium, tmp_path / "page.html")
    assert "nothing to tell apart" in opened.page.inner_text(".verdict")
    assert opened.texts("#pareto") == ["No run shown has both numbers."] and opened.wrong == []
    opened.page.close()


def test_the_verdict_says_how_sure_it_is(comparison: Comparison):
    assert verdict(comparison) == (
        "fusion=xattn optimizer.lr=0.0001 has the best mean: text → image R@10 35.5\N{NO-BREAK SPACE}% "
        "[33.5 to 37.5\N{NO-BREAK SPACE}%] over 2 seeds; too close to call against the other."
    )


def test_the_verdict_of_a_single_choice_is_its_own(comparison: Comparison):
    told = [replace(one, choices={"fusion": one.choices["fusion"]}) for one in comparison.configurations[::2]]
    sure = [replace(comparison.differences[0], first=first, second="xattn") for first in ("concat", "sum")]
    assert verdict(replace(comparison, configurations=told, differences=sure)).endswith(
        "; it is told apart from every other."
    )
    assert verdict(replace(comparison, configurations=told, differences=())).endswith("was not tested.")
