"""`mmexp watch`, on sweeps and runs that stand in some state."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mmexp import cli
from mmexp.errors import RequestError
from mmexp.runs.holding import hold
from mmexp.runs.watch_table import duration, summary, watch_table
from mmexp.runs.watching import Watched, best, found, seconds_left, watch

NOW = 1000.0


def write(directory: Path, taken: int | None = None, metrics: dict | None = None, **record) -> None:
    directory.mkdir(parents=True)
    whole = {"status": "running", "pid": os.getpid(), "host": socket.gethostname(), "began": NOW - 30, **record}
    (directory / "run.json").write_text(json.dumps(whole))
    if taken:
        # As the CSV logger writes it: columns that come later are empty before, rows count steps from 0.
        (directory / "metrics.csv").write_text(f"epoch,step,train/loss\n0,4,1.5\n0,{taken - 1},\n")
    if metrics:
        (directory / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def sweep(tmp_path) -> Iterator[Path]:
    """Give a sweep of eight: three done, one under way, one dead, one failed, two waiting, one of them not yet known."""
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    for number, (value, seconds) in enumerate([(0.5, 50.0), (0.7, 60.0), (0.6, 70.0)]):
        metrics = {"test/text_to_image_r10": value, "test/loss": 1.0, "test/text_to_image_r10_chance": 0.1}
        write(folder / str(number), 40, metrics, status="completed", steps=40, total_steps=40, wall_seconds=seconds)
    write(folder / "3", 10, total_steps=40, total_seconds=None)
    write(folder / "4", 10, total_steps=40, total_seconds=None)
    write(folder / "5", status="failed", error="loss is nan at step 3\nmore", total_steps=40)
    runs = [{"number": n, "overrides": ["data=squares", f"seed={n}"], "fingerprint": "0" * 16} for n in range(7)]
    (folder / "sweep.json").write_text(json.dumps({"name": "mine", "planned": 8, "runs": runs}))
    with hold(folder / "3"):
        yield folder


def test_every_run_has_its_state_and_progress(sweep):
    runs = watch(sweep, NOW)
    assert [run.name for run in runs] == list("01234567")
    states = ["done", "done", "done", "running", "died", "failed", "waiting", "waiting"]
    assert [run.state for run in runs] == states
    assert (runs[3].step, runs[3].total_steps, runs[3].share, runs[3].seconds) == (10, 40, 0.25, 30)
    assert runs[0].share == 1 and runs[6].share is None
    assert runs[6].overrides == ["data=squares", "seed=6"]


def test_the_best_and_the_time_left(sweep):
    runs = watch(sweep, NOW)
    top = best(runs)
    assert (top.reported, top.run.name) == ("test/text_to_image_r10", "1")
    # The one under way has 90 of its 120 s before it, those that wait as long as the ones that are done: 60 s each.
    assert seconds_left(runs) == 90 + 2 * 60
    assert summary(runs) == (
        "3 done, 1 running, 2 waiting, 1 failed, 1 died; about 4 min left; "
        "best so far: 1, test/text_to_image_r10 70.0\N{NO-BREAK SPACE}% (chosen on the test set: no val was measured)"
    )


def test_the_best_is_chosen_on_val_and_the_test_is_reported(sweep):
    # The run that is best on test is not the one that is best on val.
    for number, value in enumerate((0.4, 0.3, 0.2)):
        file = sweep / str(number) / "metrics.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"val/text_to_image_r10": value}))
    runs = watch(sweep, NOW)
    top = best(runs)
    assert (top.selected, top.run.name) == ("val/text_to_image_r10", "0")
    told = summary(runs).replace("\N{NO-BREAK SPACE}", " ")
    assert told.endswith("best so far: 0, val/text_to_image_r10 40.0 % (chosen by it), test/text_to_image_r10 50.0 %")
    console = Console(width=120, file=StringIO())
    console.print(watch_table(runs))
    assert "val" in console.file.getvalue() and "test" in console.file.getvalue()


def test_several_at_once_share_what_is_left():
    going = [Watched(str(n), "running", share=0.5, seconds=100.0) for n in range(2)]
    waiting = [Watched(str(n), "waiting") for n in range(2, 5)]
    assert seconds_left([*going, *waiting]) == (100 + 100 + 3 * 200) / 2
    assert (
        seconds_left(
            [Watched("0", "running", share=0.5, seconds=100.0), Watched("1", "running", share=1.0, seconds=150.0)]
        )
        == 100
    )
    assert seconds_left([Watched("0", "waiting")]) is None
    assert seconds_left([Watched("0", "done", seconds=5.0)]) is None


def test_a_loss_is_best_where_it_is_lowest():
    runs = [Watched(str(n), "done", metrics={"test/loss": value}) for n, value in enumerate((2.0, 1.0, 3.0))]
    assert best(runs).run.name == "1"


def test_a_run_that_time_ends_tells_its_share_of_time(tmp_path):
    write(tmp_path / "run", 10, total_steps=None, total_seconds=60)
    with hold(tmp_path / "run"):
        (run,) = watch(tmp_path / "run", NOW)
    assert (run.share, run.state) == (0.5, "running")


def test_a_run_that_has_only_begun(tmp_path):
    write(tmp_path / "run", total_steps=40)
    (tmp_path / "run" / "metrics.csv").write_text("epoch,st")
    (run,) = watch(tmp_path / "run", NOW)
    assert (run.step, run.share) == (None, None)


def test_the_table_fits_a_terminal(sweep):
    console = Console(width=80, record=True, file=StringIO())
    console.print(watch_table(watch(sweep, NOW)))
    text = console.export_text()
    assert "data=squares" not in text, "what all have in common tells nothing"
    assert text.index("seed=3") < text.index("seed=4") < text.index("seed=0"), "those under way and gone wrong first"
    assert "10/40" in text and "25%" in text
    assert "5: loss is nan at step 3" in map(str.strip, text.splitlines())
    assert max(map(len, text.splitlines())) <= 80


def test_once_is_printed_and_ends(sweep, monkeypatch, capsys):
    monkeypatch.chdir(sweep.parents[2])
    for name in ("mine", str(sweep), f"{sweep}/3"):
        monkeypatch.setattr(sys, "argv", ["mmexp", "watch", name, "--once"])
        assert cli.main() == 0
        assert "running" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mien"], "watch: there is no sweep or run 'mien' here or below outputs/. Did you mean 'mine'?"),
        ([], "watch shows one sweep or run: mmexp watch NAME, the name or the directory."),
        (["mine", "--onec"], "'--onec' is no option of watch. Did you mean '--once'?"),
    ],
)
def test_what_cannot_be_watched_is_one_plain_line(arguments, told, sweep, monkeypatch, capsys):
    monkeypatch.chdir(sweep.parents[2])
    monkeypatch.setattr(sys, "argv", ["mmexp", "watch", *arguments])
    assert cli.main() == 2
    assert capsys.readouterr().err == f"mmexp: {told}\n"


def test_a_directory_without_runs_is_none(tmp_path):
    with pytest.raises(RequestError, match="there is no sweep or run"):
        found(str(tmp_path))


def test_watching_loads_no_torch(sweep):
    code = (
        "import sys; from mmexp.commands import watch; watch.main(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules or 'hydra' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(sweep), "--once"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_under_way_is_followed_to_its_end(sweep, monkeypatch):
    from mmexp.commands import watch as command

    def end(_seconds: float) -> None:
        looks.append(_seconds)
        for number in ("3", "6", "7"):
            (sweep / number).mkdir(exist_ok=True)
            (sweep / number / "run.json").write_text(json.dumps({"status": "completed", "wall_seconds": 1.0}))

    looks: list[float] = []
    monkeypatch.setattr(command.time, "sleep", end)
    command._follow(sweep)
    assert looks == [2.0]


def test_durations():
    assert [duration(seconds) for seconds in (50, 700, 12000)] == ["50 s", "12 min", "3 h 20 min"]
