"""What W&B is told, read back from the files of offline runs with W&B's own reader."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb as wandb_library
from command_line import mmexp

from mmexp.errors import RequestError
from mmexp.training.loggers import announce, runs_of
from mmexp.training.wandb_run import RunLogger, chosen_mode, runs_table, shown_config, tags_of

TESTS = Path(__file__).parents[1]
RUN = (
    *(
        "train",
        "--config-dir",
        str(TESTS / "outside" / "conf"),
        "trust=[outside,stand_ins]",
        "encoder=tiny",
        "data=squares",
        "fusion=none",
    ),
    *("objective=contrastive", "hardware.threads=1", "budget.steps=8", "log_every_steps=2", "logger=wandb"),
)


def train(folder: Path, *overrides: str, expect: int = 0):
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = mmexp(*RUN, *overrides, cwd=folder, PYTHONPATH=path)
    assert done.returncode == expect, done.stderr
    return done


def wandb(*arguments: str) -> str:
    """Run the `wandb` beside this Python."""
    done = subprocess.run([Path(sys.executable).with_name("wandb"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def logged(directory: Path) -> tuple[dict, list[dict]]:
    """Return what the run comes to, and its records."""
    (run,) = directory.glob("wandb/offline-run-*")
    lines = wandb("leet", "inspect", "--json", str(run)).splitlines()
    return json.loads(wandb("leet", "inspect", "--summary", "--json", str(run))), [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wandb")
    # A service of W&B that another process began, in another folder, serves the runs below.
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        wandb_library.setup()
    more = ("optimizer.lr=1e-3,1e38", "sweep.name=two lr", "checkpoint.validate_every_epochs=1")
    done = train(folder, "-m", *more, "logger.wandb.tags=[mine]", expect=1)
    return folder / "outputs" / "sweeps" / "two lr", done


def test_a_run_is_found_by_its_choices(sweep):
    run, records = logged(sweep[0] / "0")
    begun = next(record["run"] for record in records if record["type"] == "run")
    assert (begun["run_group"], begun["job_type"], begun["project"]) == ("two lr", "pretrain", "mmexp")
    assert {"encoder=tiny", "fusion=none", "mine"} <= set(run["tags"])
    assert run["config"]["optimizer"]["lr"] == 1e-3
    assert run["config"]["choices"]["encoder"] == "tiny"
    assert run["config"]["run"]["fingerprint"] == json.loads((sweep[0] / "0" / "run.json").read_text())["fingerprint"]
    assert "_target_" not in json.dumps(run["config"])


def test_its_summary_holds_the_best_validation_and_the_final_test(sweep):
    run, records = logged(sweep[0] / "0")
    metrics = json.loads((sweep[0] / "0" / "metrics.json").read_text())
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    ranks = [row["val/mean_reciprocal_rank"] for row in history if "val/mean_reciprocal_rank" in row]
    losses = [row["val/loss"] for row in history if "val/loss" in row]
    assert len(ranks) == 4
    assert run["summary"]["val/mean_reciprocal_rank"] == {"max": max(ranks)}
    assert run["summary"]["val/loss"] == {"min": min(losses)}
    assert [row["trainer/global_step"] for row in history if "train/loss" in row] == [1, 3, 5, 7]
    for name, value in metrics.items():
        assert name.startswith("val/") or run["summary"][name] == pytest.approx(value), name
    assert not [row for row in history if any(name.startswith("test/") for name in row)]
    assert run["summary"]["train_seconds"] > 0
    assert run["summary"]["status"] == "completed"


def test_its_pictures_tables_and_report_are_there(sweep):
    run, records = logged(sweep[0] / "0")
    files = next((sweep[0] / "0").glob("wandb/offline-run-*/files"))
    report = files / run["summary"]["report"]["path"]
    assert report.read_text() == (sweep[0] / "0" / "report.html").read_text()
    numbers = json.loads((files / run["summary"]["metrics"]["path"]).read_text())
    assert numbers["columns"] == ["split", "metric", "value", "before training", "chance"]
    retrieved = json.loads((files / run["summary"]["retrieved/text to image, test"]["path"]).read_text())
    row = dict(zip(retrieved["columns"], retrieved["data"][0], strict=True))
    assert (row["query"], row["place"], row["answer picture"]) == ("red", 1, "Image")
    # Pictures travel in the table's artefact.
    sent = [
        entry["path"] for r in records if r["type"] == "artifact" for entry in r["artifact"]["manifest"]["contents"]
    ]
    assert [path for path in sent if path.startswith("media/images/")]


def test_a_failed_run_is_marked_and_can_be_uploaded(sweep):
    run, _ = logged(sweep[0] / "1")
    assert (run["state"], run["exit_code"]) == ("failed", 1)
    assert run["summary"]["status"] == "failed"
    assert "is nan at step" in run["summary"]["error"]
    for number in "01":
        told = subprocess.run(
            [
                Path(sys.executable).with_name("wandb"),
                "sync",
                "--dry-run",
                next((sweep[0] / number).glob("wandb/off*")),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Would sync 1 run" in told.stdout + told.stderr


def test_a_sweep_ends_with_a_run_that_compares(sweep):
    run, records = logged(sweep[0])
    begun = next(record["run"] for record in records if record["type"] == "run")
    assert (begun["run_group"], begun["job_type"]) == ("two lr", "comparison")
    (files,) = sweep[0].glob("wandb/offline-run-*/files")
    table = json.loads((files / run["summary"]["runs"]["path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["run"], row["status"], row["optimizer.lr"]) for row in rows] == [
        ("0", "completed", "0.001"),
        ("1", "failed", "1e+38"),
    ]
    assert rows[0]["test/loss"] > 0 and rows[1]["test/loss"] is None


def test_the_user_is_told_where_and_nothing_more(sweep):
    told = [line for line in (sweep[1].stdout + sweep[1].stderr).splitlines() if line.startswith(("W&B", "wandb"))]
    assert len(told) == 3, told
    assert all(line.startswith("W&B, offline: ") for line in told)


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(tmp_path):
    train(tmp_path, "hydra.run.dir=run", "budget.steps=2", "evaluate=false")
    train(tmp_path, "hydra.run.dir=run", "resume=auto", "evaluate=false")
    runs = list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))
    assert len(runs) == 2
    assert len({path.stem for path in runs}) == 1


def test_keys_and_tags_are_those_of_the_user():
    nested = {"optimizer": {"_target_": "x.y", "lr": 0.1, "betas": [0.9, 0.98]}, "init_from": None}
    assert shown_config(nested) == {"optimizer": {"lr": 0.1, "betas": [0.9, 0.98]}, "init_from": None}
    long = f"[{','.join(['contrastive'] * 9)}]"
    tags = tags_of({"objective": long, "experiment": "None", "fusion": "none"}, ["mine"])
    assert tags[0] == "fusion=none" and tags[2] == "mine"
    assert len(tags[1]) == 64


@pytest.mark.parametrize(
    ("mode", "said", "key", "chosen"),
    [
        ("auto", None, True, "online"),
        ("auto", None, False, "offline"),
        ("auto", "disabled", True, "disabled"),
        ("offline", "online", True, "offline"),
    ],
)
def test_a_key_is_all_that_online_needs(mode, said, key, chosen, monkeypatch):
    import wandb

    monkeypatch.delenv("WANDB_MODE")
    if said:
        monkeypatch.setenv("WANDB_MODE", said)
    monkeypatch.setattr(wandb, "login", lambda **_: key)
    assert chosen_mode(mode) == chosen


def test_what_wandb_refuses_is_one_plain_line(tmp_path, monkeypatch):
    import wandb.errors

    def refuse(**_):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    logger = RunLogger(save_dir=tmp_path, mode="online")
    with pytest.raises(RequestError, match=r"^logger=wandb: No API key configured. Set WANDB_API_KEY"):
        announce([logger], {"choices": {}})
    assert runs_of([logger]) == []


def test_runs_that_never_measured_are_in_the_table():
    rows = [
        {"number": "0", "overrides": ["+a=1", "b=x=y"], "status": "completed", "metrics": {"test/loss": 1.0}},
        {"number": "1", "status": "failed", "metrics": {}},
    ]
    table = runs_table(rows)
    assert table.columns == ["run", "a", "b", "status", "test/loss", "seconds"]
    assert table.data == [["0", "1", "x=y", "completed", 1.0, None], ["1", None, None, "failed", None, None]]
