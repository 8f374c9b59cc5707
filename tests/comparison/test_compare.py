"""`mmexp compare` from directories to tables and files."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import mmexp
from comparison.made_up import write

from mmexp import cli
from mmexp.comparison.choices import config_differences
from mmexp.comparison.reading import read
from mmexp.comparison.statistics import compare

LUCK = (0.30, 0.34, 0.27, 0.36, 0.31)


@pytest.fixture
def sweep(tmp_path) -> Path:
    """A sweep of two fusions and five seeds, in which xattn is better; a failed, a pruned and a waiting run."""
    directory = tmp_path / "first"
    for number, (fusion, seed) in enumerate((f, s) for f in ("concat", "xattn") for s in range(5)):
        better = 0.1 + seed / 200 if fusion == "xattn" else 0
        overrides = {"fusion": fusion, "seed": seed, "name": f"n{number}"}
        write(directory / str(number), overrides, LUCK[seed] + better, train_seconds=number + 1)
    write(directory / "10", {"fusion": "xattn", "seed": 5}, None, status="failed")
    write(directory / "11", {"fusion": "xattn", "seed": 6}, 0.9, stopped="pruned at step 40: below the median")
    planned = [{"number": n, "overrides": ["fusion=xattn", f"seed={n - 5}"]} for n in range(13)]
    (directory / "sweep.json").write_text(json.dumps({"name": "first", "runs": planned}))
    return directory


def asked(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mmexp", "compare", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "80")
    return cli.main()


def test_runs_are_read_with_what_they_differ_in(sweep):
    runs = read([sweep])
    assert [run.name for run in runs] == [str(n) for n in range(13)]
    assert all(set(run.choices) == {"fusion"} for run in runs)
    assert (runs[12].facts["status"], runs[12].seed) == ("waiting", 7)


def test_what_did_not_end_is_told_and_not_counted(sweep):
    comparison = compare(read([sweep]))
    assert [len(one.runs) for one in comparison.configurations] == [5, 5]
    assert [note.split(": ")[1] for note in comparison.notes[:-1]] == [
        f"{why}, not in the statistics" for why in ("failed", "pruned", "waiting")
    ]
    [one] = comparison.differences
    assert (one.first, one.verdict) == ("concat", "worse")
    assert comparison.fronts["train_seconds"] == ["0", "1", "3", "5", "6", "8"]


def test_of_one_configuration_and_seed_the_newest_run_counts(sweep):
    again = write(sweep.parent / "second" / "0", {"fusion": "concat", "seed": 0}, 0.2)
    os.utime(again / "run.json", (2e9, 2e9))
    comparison = compare(read([sweep.parent]))
    assert comparison.notes[0] == "run first/0: same configuration and seed as a newer run, which counts"
    concat = next(one for one in comparison.configurations if one.choices["fusion"] == "concat")
    assert [run.name for run in concat.runs].count("second/0") == 1 and len(concat.runs) == 5


def test_runs_are_told_apart_by_the_configuration_where_no_override_says_it(tmp_path):
    write(tmp_path / "old", {"optimizer.lr": 0.01}, 0.3, overrides=[])
    write(tmp_path / "new", {}, 0.3)
    one, other = read([tmp_path / "old", tmp_path / "new"])
    assert (one.choices, other.choices) == ({"optimizer.lr": "0.01"}, {"optimizer.lr": "0.001"})
    assert ("optimizer.lr", "0.01", "0.001") in config_differences(one, other)


def test_an_override_is_compared_with_the_default_of_others(tmp_path):
    write(tmp_path / "a", {"optimizer.lr": 0.01, "seed": 0}, 0.3)
    write(tmp_path / "b", {"seed": 1}, 0.3)
    assert [run.choices for run in read([tmp_path])] == [{"optimizer.lr": "0.01"}, {"optimizer.lr": "0.001"}]


def test_what_changes_no_training_is_a_choice_where_it_alone_was_swept(tmp_path):
    for number, (dtype, seed) in enumerate((d, s) for d in ("float16", "float32") for s in range(3)):
        write(tmp_path / str(number), {"cache.dtype": dtype, "seed": seed}, LUCK[seed])
    comparison = compare(read([tmp_path]))
    assert [one.verdict for one in comparison.differences] == ["too close to call"]
    assert comparison.differences[0].about == "cache.dtype"
    assert len(comparison.notes) == 1 and comparison.notes[0].startswith("the best is chosen by test/accuracy itself")


def test_tables_fit_a_terminal_and_files_are_written(sweep, tmp_path, monkeypatch, capsys):
    files = [f"--{kind}={tmp_path / 'out'}.{kind}" for kind in ("json", "csv", "markdown")]
    assert asked(monkeypatch, sweep, *files) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("written"))
    assert "concat against xattn" in out and "worse" in out and "note: run 12: waiting" in out
    told = json.loads((tmp_path / "out.json").read_text())
    assert (told["schema"], told["metric"], len(told["runs"])) == (1, "test/accuracy", 13)
    assert told["differences"][0]["verdict"] == "worse"
    assert told["configurations"][0]["runs"] == ["5", "6", "7", "8", "9"]
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert (rows[5]["fusion"], float(rows[5]["test/accuracy"])) == ("xattn", pytest.approx(0.4))
    assert "| fusion: concat against xattn | 5 |" in (tmp_path / "out.markdown").read_text()


def test_two_runs_are_told_apart_key_by_key(sweep, monkeypatch, capsys):
    assert asked(monkeypatch, sweep / "0", sweep / "6") == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if line.startswith("fusion")] == [["fusion", "concat", "xattn"]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{}t"], "no such directory. Did you mean 'first'?"),
        (["{}", "--metric", "test/acuracy"], "no run measured it. Did you mean 'test/accuracy'?"),
        (["{}", "--jsn", "x"], "'--jsn' is no option of compare. Did you mean '--json'?"),
        (["{}", "--csv", "nowhere/x.csv"], "there is no directory nowhere."),
        (["{}", "--json"], "--json needs a file"),
        ([], "compare needs the directory of a run or a sweep"),
        (["{}/10"], "none of these runs was completed with metrics"),
    ],
)
def test_a_wrong_request_is_one_line(sweep, monkeypatch, capsys, arguments, told):
    assert asked(monkeypatch, *(one.format(sweep) for one in arguments)) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_the_tree_is_that_of_lineage(sweep, monkeypatch, capsys):
    assert asked(monkeypatch, sweep / "0", "--tree") == 0
    assert "1 run" in capsys.readouterr().out


def test_a_real_sweep_of_equal_and_different_choices(tmp_path):
    """`log_every_steps` changes nothing, a learning rate of almost nothing much; both are found to be so."""
    tests = Path(__file__).parents[1]
    search = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    tiny = [
        "--config-dir",
        str(tests / "outside" / "conf"),
        "trust=[outside,stand_ins]",
        "encoder=tiny",
        "data=squares",
        "fusion=none",
    ]
    short = ["objective=contrastive", "hardware.threads=1", "budget.steps=30", "sweep.name=s"]
    swept = ["optimizer.lr=1e-3,1e-5", "log_every_steps=10,11", "seed=0,1,2,3,4"]
    done = mmexp("train", "-m", *tiny, *short, *swept, cwd=tmp_path, PYTHONPATH=search)
    assert done.returncode == 0, done.stderr
    assert "mmexp compare outputs/sweeps/s" in done.stdout
    comparison = compare(read([tmp_path / "outputs" / "sweeps" / "s"]), "test/loss")
    about = {one.about: one for one in comparison.differences if one.about != "configuration"}
    assert about["optimizer.lr"].verdict == "better"
    assert (about["log_every_steps"].verdict, about["log_every_steps"].mean) == ("too close to call", 0)
    assert max(comparison.importance, key=lambda one: one.share).group == "optimizer.lr"


def test_no_heavy_library_is_loaded(sweep):
    code = f"import sys; from mmexp.commands import compare; compare.main([{str(sweep)!r}]); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = done.stdout.rpartition("[")[2]
    assert "'mmexp.comparison.tables'" in loaded
    assert not [name for name in ("torch", "hydra", "lightning", "wandb", "scipy.stats") if f"'{name}'" in loaded]
