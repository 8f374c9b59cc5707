"""Runs through any Hydra launcher, under their numbers, whatever becomes of one of them or of its process."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError
from mmexp.runs.holding import held
from mmexp.runs.record import write_run
from mmexp.runs.state import DIED, run_of
from mmexp.runs.sweep import rows_of
from mmexp.sweeps.ending import Ended, listening

_GROWTH = 4_000_000_000  # bytes
_EXTRAS = {"hydra_submitit_launcher": ("submitit", "slurm"), "RayLauncher": ("ray", "ray")}


@dataclass(frozen=True)
class Planned:
    """A run to do, and what it overrides."""

    number: int
    overrides: tuple[str, ...]


def launcher_of(hydra_context: Any, task_function: Any, config: Any) -> Any:
    """Return the chosen launcher. Raises RequestError where its libraries are not installed."""
    from hydra.core.plugins import Plugins

    target = config.hydra.launcher._target_
    for name, (module, extra) in _EXTRAS.items():
        if name in target and find_spec(module) is None:
            choice = config.hydra.runtime.choices["hydra/launcher"]
            raise RequestError(f"hydra/launcher={choice} needs {module}. Install it: pip install 'mmexp[{extra}]'.")
    return Plugins.instance().instantiate_launcher(
        hydra_context=hydra_context, task_function=task_function, config=config
    )


def stay_warm() -> None:
    """Keep a worker of joblib's from being replaced after a few runs.

    What it takes for a leak, growth by 300 MB, is what torch's kernels keep for the shapes that they have seen, once.
    """
    if executor := sys.modules.get("joblib.externals.loky.process_executor"):
        executor._MAX_MEMORY_LEAK_SIZE = _GROWTH  # type: ignore[attr-defined]


def launch(launcher: Any, directory: Path, runs: Sequence[Planned]) -> list[dict[str, Any]]:
    """Run `runs` below the sweep's `directory`; return their rows as `runs.sweep.rows_of` does. Raises Ended on a signal.

    A run whose process died is recorded as failed. A pool of workers may take others with it: where several died at
    once each of them goes on alone, and what had not begun is launched again, as long as that brings any further.
    """
    pending = list(runs)
    while pending:
        failure = _attempt(launcher, directory, pending)
        dead = [run for run in pending if _died(directory / str(run.number))]
        for run in dead if len(dead) > 1 else []:
            _attempt(launcher, directory, [run])
            _died(directory / str(run.number))
        waiting = [run for run in pending if run_of(directory / str(run.number))["status"] == "waiting"]
        if len(waiting) == len(pending):
            _never_began(directory, waiting, failure)
            break
        pending = waiting
    numbers = {str(run.number) for run in runs}
    return [row for row in rows_of(directory) if row["number"] in numbers]


def _attempt(launcher: Any, directory: Path, runs: Sequence[Planned]) -> str:
    """Launch once; return why the launcher gave up, "" where it did not."""
    failure = ""
    with listening(directory) as ending:
        try:
            jobs = [[*run.overrides, f"hydra.sweep.subdir={run.number}"] for run in runs]
            launcher.launch(jobs, initial_job_idx=runs[0].number)
        except Exception as error:
            # What became of each run stands in its directory; a pool tells only of the first that broke it.
            failure = f"{type(error).__name__}: {error}"
        places = [directory / str(run.number) for run in runs]
        while any(map(held, places)):
            time.sleep(0.2)
    if ending.came:
        for place in places:
            _died(place)
        raise Ended(128 + ending.came)
    return failure


def _died(place: Path) -> bool:
    """Record as failed a run that says it runs, and that nobody works on; say whether it was one."""
    run = run_of(place)
    if run["status"] != "running" or held(place):
        return False
    write_run(place, {**run, "status": "failed", "error": DIED})
    return True


def _never_began(directory: Path, runs: Sequence[Planned], failure: str) -> None:
    for run in runs:
        place = directory / str(run.number)
        place.mkdir(parents=True, exist_ok=True)
        facts: Mapping[str, Any] = {"overrides": list(run.overrides), "error": f"it never began. {failure}".strip()}
        write_run(place, {"status": "failed", **facts})
