"""Kill a sweep at random moments, start it again each time, and compare it with one that nobody disturbed.

    python scripts/crash_sweep.py [--runs 12] [--kills 5] [--seed 0] [OVERRIDES of all runs]

The whole process group gets SIGKILL, so that nothing can be tidied up. Ends with status 0 where all final metrics are
the same to the last bit, and no run that had finished was begun a second time.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEFAULT = ("encoder=student", "fusion=none", "objective=contrastive")
DATA = ("data.styles=[blob]", "data.batch_size=64", "augmentation=none", "hardware.threads=1")
STEPS = ("budget.epochs=3", "checkpoint.validate_every_epochs=1", "hardware.precision=32-true")


def start(name: str, runs: int, overrides: list[str]) -> subprocess.Popen[bytes]:
    """Start the sweep in a process group of its own; what it prints goes to a file."""
    seeds = f"seed={','.join(map(str, range(runs)))}"
    command = [sys.executable, "-m", "mmexp", "train", "-m", f"sweep.name={name}", seeds, *overrides]
    with Path(f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def records(name: str) -> dict[str, dict]:
    """Return `run.json` of each run that there is."""
    files = Path("outputs/sweeps", name).glob("*/run.json")
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def finished(name: str) -> dict[str, float]:
    """Return when each finished run began."""
    return {number: run["began"] for number, run in records(name).items() if run["status"] == "completed"}


def metrics(name: str, number: str) -> dict[str, float]:
    """Return the final metrics of a run."""
    return json.loads(Path("outputs/sweeps", name, number, "metrics.json").read_text())


def undisturbed(runs: int, overrides: list[str]) -> float:
    """Run the sweep; return the seconds from its first step of the first run to its end."""
    process = start("undisturbed", runs, overrides)
    while not records("undisturbed") and process.poll() is None:
        time.sleep(0.1)
    began = time.perf_counter()
    if process.wait():
        raise SystemExit(f"the undisturbed sweep failed: see {Path('undisturbed.log').absolute()}")
    return time.perf_counter() - began


def disturbed(runs: int, kills: int, seconds: float, overrides: list[str]) -> dict[str, float]:
    """Kill and start again; return when each run that a kill found finished had begun."""
    before: dict[str, float] = {}
    for kill in range(kills):
        process, known = start("killed", runs, overrides), records("killed")
        while records("killed") == known and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, seconds / (kills + 1)))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        under_way = sorted(number for number, run in records("killed").items() if run["status"] == "running")
        before |= finished("killed")
        print(f"kill {kill + 1}: {len(before)} finished, under way: {', '.join(under_way) or 'none'}", flush=True)
    if start("killed", runs, overrides).wait():
        raise SystemExit(f"the killed sweep failed: see {Path('killed.log').absolute()}")
    return before


def main() -> None:
    """Print what each kill found, and how the two sweeps compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked, given = parser.parse_known_args()
    random.seed(asked.seed)
    overrides = given or [*DEFAULT, *DATA, *STEPS]
    os.chdir(tempfile.mkdtemp())
    seconds = undisturbed(asked.runs, overrides)
    print(f"undisturbed: {asked.runs} runs in {seconds:.1f} s, in {Path.cwd()}", flush=True)
    before = disturbed(asked.runs, asked.kills, seconds, overrides)
    numbers = [str(number) for number in range(asked.runs)]
    same = sum(metrics("killed", number) == metrics("undisturbed", number) for number in numbers)
    twice = sum(finished("killed")[number] != began for number, began in before.items())
    print(f"{same} of {asked.runs} runs have the same metrics to the last bit")
    print(*(line for line in Path("killed.log").read_text().splitlines() if line.startswith("sweep killed:")), sep="\n")
    print(f"of {len(before)} runs found finished by a kill, {twice} were begun again")
    sys.exit(int(same != asked.runs or twice > 0))


if __name__ == "__main__":
    main()
