"""Chains of stages by the real command line, in this process."""

import json
import os
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from mmexp import cli

OUTSIDE = ("--config-dir", str(Path(__file__).parent / "outside" / "conf"), "trust=[outside,stand_ins]")
SMALL = ("budget.steps=2", "hardware.precision=32-true", "logger=[csv]")


@pytest.fixture
def mmexp(monkeypatch, capsys):
    """Return a function that runs a command and returns its status, what it printed and what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmexp", *arguments])
        # Wide, so that nothing is cut that a test looks for.
        monkeypatch.setenv("COLUMNS", "160")
        try:
            return cli.main(), *capsys.readouterr()
        finally:
            os.environ.pop("MMEXP_STAMP", None)

    return run


def record(directory: Path) -> dict:
    return json.loads((directory / "run.json").read_text())


def chain(mmexp, *more: str) -> tuple[int, str, str]:
    return mmexp("chain", "tiny", *OUTSIDE, *SMALL, "chain.name=mine", *more)


def test_a_chain_runs_once_and_tells_its_family(tmp_path, monkeypatch, mmexp):
    monkeypatch.chdir(tmp_path)
    status, out, _ = chain(mmexp, "second:budget.steps=3")
    assert status == 0
    mine = tmp_path / "outputs" / "chains" / "mine"
    runs = {name: record(mine / name) for name in ("first", "second", "third")}
    assert [run["steps"] for run in runs.values()] == [2, 3, 2]
    assert runs["first"]["parents"] == []
    for name, role, before in (("second", "teacher", "first"), ("third", "init_from", "second")):
        (parent,) = runs[name]["parents"]
        assert (parent["role"], parent["path"]) == (role, str(mine / before))
        assert parent["fingerprint"] == runs[before]["fingerprint"]
    # The student's projector into the teacher's space has no place in the third stage, its common space has.
    assert "left    objectives.distill" in out
    assert "loaded  objectives.contrastive" in out

    told = json.loads((mine / "chain.json").read_text())
    assert [stage["stage"] for stage in told] == list(runs)
    for stage in told:
        assert 0 < stage["latency_ms"]["image"]["p50"] <= stage["latency_ms"]["image"]["p95"]
        assert stage["rows_per_second"] > 0
    # The third is the second with its LoRA merged, without the projector in both: as large where it is used.
    assert told[1]["megabytes"] == told[2]["megabytes"]
    assert told[2]["parameters"]["trainable"] < told[2]["parameters"]["total"]

    times = {name: (mine / name / "run.json").stat().st_mtime_ns for name in runs}
    status, out, _ = chain(mmexp, "second:budget.steps=3")
    assert status == 0 and out.count("done already") == 3
    assert {name: (mine / name / "run.json").stat().st_mtime_ns for name in runs} == times

    moved = tmp_path / "elsewhere"
    mine.rename(moved)
    status, out, _ = mmexp("lineage", str(moved), "--json", "family.json")
    assert status == 0
    assert "rows a second" in out, "the chain's own table"
    found = {Path(run["path"]).name: run["parents"] for run in json.loads(Path("family.json").read_text())}
    assert [Path(parent["found"]) for parent in found["third"]] == [moved / "second"]
    assert [Path(parent["found"]) for parent in found["second"]] == [moved / "first"]


def test_what_a_changed_stage_replaces_is_put_aside_and_what_follows_it_runs_again(tmp_path, monkeypatch, mmexp):
    monkeypatch.chdir(tmp_path)
    assert chain(mmexp, "evaluate=false")[0] == 0
    mine = tmp_path / "outputs" / "chains" / "mine"
    before = {name: record(mine / name)["fingerprint"] for name in ("first", "second", "third")}
    status, out, _ = chain(mmexp, "evaluate=false", "second:optimizer.lr=0.5")
    assert status == 0
    assert out.count("done already") == 1
    after = {name: record(mine / name)["fingerprint"] for name in before}
    assert after["first"] == before["first"] and after["second"] != before["second"]
    assert {p.name.split("-before-")[0] for p in mine.glob("*-before-*")} == {"second", "third"}
    # The third stage's request is the same; the weights that it starts from are not.
    assert after["third"] == before["third"]


def test_a_stage_that_was_broken_off_goes_on(tmp_path, monkeypatch, mmexp):
    monkeypatch.chdir(tmp_path)
    assert chain(mmexp, "evaluate=false")[0] == 0
    third = tmp_path / "outputs" / "chains" / "mine" / "third"
    (third / "run.json").write_text(json.dumps(record(third) | {"status": "interrupted"}))
    assert chain(mmexp, "evaluate=false")[0] == 0
    assert record(third)["status"] == "completed"
    assert "resume=auto" in record(third)["overrides"]


def test_a_failing_stage_ends_the_chain(tmp_path, monkeypatch, mmexp):
    monkeypatch.chdir(tmp_path)
    status, _, err = chain(mmexp, "second:optimizer.lr=1e38", "log_every_steps=1", "second:budget.steps=20")
    assert status == 1 and "A lower optimizer.lr or optimizer.clip_norm may help" in err
    mine = tmp_path / "outputs" / "chains" / "mine"
    assert record(mine / "second")["status"] == "failed"
    assert not (mine / "third").exists() and not (mine / "chain.json").exists()


WRONG = [
    (["three_stagse"], "'three_stagse' is not a chain. Did you mean 'three_stages'?"),
    (["tiny", "third:optimizer.lrr=1"], "stage 'third': optimizer has no key 'lrr'. Did you mean 'lr'?"),
    (["tiny", "third:optimizer.lr=fast"], "stage 'third': 'optimizer.lr' must be a number above 0"),
    (["tiny", "thrid:optimizer.lr=1"], "'thrid' is no stage of this chain. Did you mean 'third'?"),
    (["tiny", "third:init_from=stage:secnod"], "names no earlier stage. Did you mean 'second'?"),
    (["tiny", "first:init_from=stage:third"], "stage 'first': init_from=stage:third names no earlier stage."),
    (["tiny", "chain.nam=x"], "'chain.nam' is not a key of a chain. Did you mean 'chain.name'?"),
    (["tiny", "chain.name=../x"], "chain.name='../x'"),
    (["tiny", "hydra.run.dir=x"], "'hydra.run.dir' is the chain's to set"),
    (["tiny", "third"], "'third' is no setting"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG, ids=lambda value: value[-1] if isinstance(value, list) else ""
)
def test_a_wrong_chain_is_refused_before_its_first_stage(arguments, message, tmp_path, monkeypatch, mmexp):
    monkeypatch.chdir(tmp_path)
    status, _, err = mmexp("chain", *OUTSIDE, *arguments)
    assert status == 2
    assert message in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_without_a_name_the_chains_are_listed(tmp_path, monkeypatch, mmexp):
    monkeypatch.chdir(tmp_path)
    status, out, _ = mmexp("chain", *OUTSIDE)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["three_stages", "tiny"]
    assert "three stages of a few steps" in out


def test_a_file_is_a_parent_too(tmp_path, monkeypatch, mmexp):
    import torch

    monkeypatch.chdir(tmp_path)
    first = ("train", *OUTSIDE, *SMALL, "encoder=tiny", "data=squares", "evaluate=false")
    assert mmexp(*first, "fusion=added", "hydra.run.dir=first")[0] == 0
    state = torch.load("first/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    save_file({name: tensor for name, tensor in state.items() if "matching" not in name}, "weights.safetensors")
    status, out, _ = mmexp(*first, "fusion=added", "init_from=weights.safetensors", "hydra.run.dir=second")
    assert status == 0 and "fresh   objectives.matching" in out, "told without an evaluation as well"
    (parent,) = record(tmp_path / "second")["parents"]
    assert parent["role"] == "init_from" and parent["path"] == str(tmp_path / "weights.safetensors")
    assert parent["fingerprint"] is None and len(parent["weights"]) == 16
    status, out, _ = mmexp("lineage", "second")
    assert status == 0 and "a file of weights" in out
