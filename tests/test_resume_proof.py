"""`mmexp verify-resume` proves what it says: that an exact run is exact, and that one which is not is found out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmexp.resume_proof import Attempt, differences, drawn

HERE = Path(__file__).parent
TINY = ("--config-dir", str(HERE / "outside" / "conf"), "trust=[outside,stand_ins]", "encoder=tiny", "data=squares")
RUN = (
    *TINY,
    "fusion=added",
    "data.batch_size=4",
    "budget.steps=60",
    "hardware.threads=2",
    "hardware.precision=32-true",
    "checkpoint.every_steps=3",
)


def verify(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "mmexp", "verify-resume", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_a_run_that_is_killed_is_the_same(tmp_path):
    done = verify(tmp_path, "kills=2", "folder=proof", *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "undisturbed    60 steps" in done.stdout
    assert done.stdout.count("killed         in step") == 2
    assert "the same run, killed 2 times" in done.stdout
    for part in ("order of samples", "state_dict", "optimizer_states", "metrics", "history"):
        assert f"{part:<18} equal" in done.stdout


def test_what_differs_is_told(tmp_path):
    import json

    import torch

    attempts = [Attempt(tmp_path, name, ()) for name in ("whole", "killed")]
    for number, attempt in enumerate(attempts):
        (attempt.directory / "checkpoints").mkdir(parents=True)
        state = {"state_dict": {"a.weight": torch.ones(2) * number}, "optimizer_states": [], "lr_schedulers": []}
        torch.save({**state, "global_step": 2}, attempt.directory / "checkpoints" / "last.ckpt")
        (attempt.directory / "metrics.json").write_text(json.dumps({"val/loss": 0.5 + number}))
        attempt.order.write_text("0 0000000a\n1 0000000b\n1 000")
    found = differences(*attempts)
    assert found["state_dict"] == "a.weight differs"
    assert found["metrics"] == "val/loss is 1.5, not 0.5"
    assert not (found["order of samples"] or found["optimizer_states"] or found["history"])
    attempts[1].order.write_text("0 0000000a\n1 0000000c\n")
    assert differences(*attempts)["order of samples"] == "step 1 was trained on other rows"
    attempts[1].order.write_text("0 0000000a\n")
    assert differences(*attempts)["order of samples"] == "step 1 was never trained"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("kills=some",), "kills=some: it is a whole number"),
        (("resume=auto",), "leave out -m, resume and hydra.run.dir"),
        (("encoder=vitt",), "'vitt' is not a choice of encoder"),
        (("budget.stpes=3",), "stpes"),
    ],
)
def test_a_wrong_request_is_refused(tmp_path, words, told):
    done = verify(tmp_path, *words)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_kills_are_drawn_within_the_run():
    assert drawn(5, 9, seed=0) == [1, 2, 3, 4]
    assert len(set(drawn(100, 7, seed=1))) == 7
