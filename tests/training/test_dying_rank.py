"""A process of a run on several that dies ends the others within a minute, with its error shown; it is no hang."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RUN = (
    *(
        "train",
        "--config-dir",
        str(TESTS / "outside" / "conf"),
        "trust=[outside,stand_ins]",
        "encoder=tiny",
        "data=squares",
    ),
    *("fusion=none", "objective=contrastive", "hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2"),
    *("hardware.threads=1", "hydra.run.dir=run", "checkpoint.every_steps=5"),
)


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "MMEXP_ORDER": str(folder / "order")}
    return subprocess.Popen(
        [sys.executable, "-m", "mmexp", *RUN, *more],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def rank(process: subprocess.Popen[str], number: int) -> int:
    """Return the process of a rank."""
    if number == 0:
        return process.pid
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "mmexp"], capture_output=True, text=True)
    return int(found.stdout.split()[0])


@pytest.mark.parametrize("dies", [0, 1])
def test_the_other_one_ends(tmp_path, dies):
    process = start(tmp_path, "budget.steps=100000")
    order, begun = tmp_path / "order", time.monotonic()
    while not (order.is_file() and len(order.read_text().splitlines()) > 8) and time.monotonic() - begun < 120:
        time.sleep(0.1)
    other = rank(process, 1 - dies)
    os.kill(rank(process, dies), signal.SIGKILL)
    killed = time.monotonic()
    while Path(f"/proc/{other}").exists() and "Z" not in Path(f"/proc/{other}/stat").read_text().split()[2]:
        if time.monotonic() - killed > 60:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("it hangs")
        time.sleep(0.1)
        process.poll()
    told, _ = process.communicate()
    assert process.returncode != 0
    assert dies == 0 or "another process of this run has ended" in told or "rank" in told.lower(), told


def test_the_error_of_a_rank_is_shown(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('LOCAL_RANK') == '1':\n"
        "    from mmexp.tasks.base import Task\n"
        "    def fails(self, *_):\n"
        "        raise RuntimeError('this rank has no more memory')\n"
        "    Task.training_step = fails\n"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    try:
        process = start(tmp_path, "budget.steps=100")
        told, _ = process.communicate(timeout=90)
    finally:
        os.environ["PYTHONPATH"] = os.environ["PYTHONPATH"].partition(os.pathsep)[2]
    assert process.returncode == 1
    assert "RuntimeError: this rank has no more memory" in told


def test_torchrun_restarts_ranks_that_go_on(tmp_path):
    """The short form of scripts/two_nodes.py, with torchrun's store of one attempt after another."""
    elastic = tmp_path / "elastic.log"
    command = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--max-restarts=1",
        "--rdzv-backend=c10d",
        "-m",
        "mmexp",
    ]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    told = {**os.environ, "PYTHONPATH": path, "MMEXP_ORDER": str(tmp_path / "order"), "MMEXP_STAMP": "elastic"}
    with elastic.open("wb") as log:
        job = subprocess.Popen(
            [sys.executable, *command, *RUN, "budget.steps=40", "resume=auto", "evaluate=false"],
            cwd=tmp_path,
            env=told,
            stdout=log,
            stderr=log,
        )
    order, begun = tmp_path / "order", time.monotonic()
    while not (order.is_file() and len(order.read_text().splitlines()) > 8) and time.monotonic() - begun < 120:
        time.sleep(0.02)
    ranks = subprocess.run(["pgrep", "-P", str(job.pid), "-f", "mmexp"], capture_output=True, text=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    assert job.wait(120) == 0, elastic.read_text()[-2000:]
    steps = [int(line.split()[0]) for line in order.read_text().splitlines()]
    # One restart, from a checkpoint and not from the start.
    assert len([b for a, b in itertools.pairwise(steps) if b <= a and b > 0]) == 1
