"""`mmexp train`: one run, or with -m a sweep."""

import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mmexp.compose import config_dir_of, run_hydra
from mmexp.config import check
from mmexp.errors import RequestError
from mmexp.runs.holding import FILE, Held, hold
from mmexp.runs.parents import fingerprint
from mmexp.runs.state import clear, state_of


@dataclass
class Outcome:
    """What a single run came to: Hydra does not hand on what its jobs return. Those of a sweep say it in their directories."""

    status: int = 0
    wrong: RequestError | None = None
    sweeper: int = field(default_factory=os.getpid)


def main(arguments: Sequence[str]) -> int:
    """Run Hydra with our job; return the exit status of the run, for a sweep 1 where any of its runs failed."""
    from mmexp.sweeps import register
    from mmexp.sweeps.ending import Ended
    from mmexp.sweeps.summary import Summary

    outcome, Summary.begun = Outcome(), None
    if {"-m", "--multirun"} & set(arguments):
        register()
    try:
        run_hydra(partial(_job, outcome), arguments)
    except RequestError:
        _remove_refused_sweep()
        raise
    except Ended as ended:
        print(f"mmexp: {ended}; the same command goes on (sweep.name={Summary.begun and Summary.begun.name})")
        return ended.status
    if outcome.wrong:
        raise outcome.wrong
    if Summary.begun:
        return int(any(row["status"] != "completed" for row in Summary.rows()))
    return outcome.status


def _remove_refused_sweep() -> None:
    from mmexp.runs.sweep import remove_if_without_runs
    from mmexp.sweeps.summary import Summary

    if Summary.begun:
        remove_if_without_runs(Summary.begun)


def _job(outcome: Outcome, config: Any) -> int:
    """One run of a Hydra app: check, then hand over to the experiment. In a sweep it raises nothing but Ended."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN:
        return _swept(outcome, config, hydra, directory)
    try:
        outcome.status = _run(config, hydra, directory)
    except RequestError as error:
        _remove_if_empty(directory)
        outcome.status, outcome.wrong = 2, error
    return outcome.status


def _swept(outcome: Outcome, config: Any, hydra: Any, directory: Path) -> int:
    """Run one of many: whatever becomes of it is recorded in its directory, and the others go on."""
    from mmexp.sweeps.ending import Ended, ends
    from mmexp.sweeps.launching import stay_warm

    stay_warm()
    if ends(directory.parent, outcome.sweeper):
        _remove_if_empty(directory)
        return 0
    try:
        status = _run(config, hydra, directory, str(config.sweep.name), outcome.sweeper)
    except RequestError as error:
        return _failed(directory, hydra, str(error))
    except Exception as error:
        traceback.print_exc()
        return _failed(directory, hydra, f"{type(error).__name__}: {error}")
    if status >= 128 and os.getpid() == outcome.sweeper:
        raise Ended(status)
    return status


def _run(config: Any, hydra: Any, directory: Path, sweep: str | None = None, sweeper: int | None = None) -> int:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    choices = _choices(hydra)
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise RequestError(str(error).splitlines()[0]) from error
    check(plain, choices)
    overrides = list(hydra.overrides.task)
    try:
        with hold(directory) if _first_process() else nullcontext():
            state = state_of(directory, fingerprint(plain)) if sweep else "new"
            if state == "done":
                print(f"done in the meantime: {directory}")
                return 0
            if state == "broken off" and not plain["resume"]:
                plain["resume"] = "auto"
            elif state == "failed":
                clear(directory)
            # What goes on is the same run: its record does not say that it was asked to.
            _restore_command(hydra, directory, [*overrides, *(["resume=auto"] if plain["resume"] == "auto" else [])])
            # Only now the heavy libraries: a wrong request was answered before them.
            from mmexp.experiment import Request, run

            return run(Request(plain, directory, choices, overrides, sweep, sweeper))
    except Held as error:
        if not sweep:
            raise RequestError(f"{error}.") from error
        print(f"under way in another process: {directory}")
        return 0


def _first_process() -> bool:
    """Say whether this is no further rank of a run on several devices."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def _restore_command(hydra: Any, directory: Path, overrides: list[str]) -> None:
    """Leave in sys.argv, and in Hydra's singleton, what starts exactly this run: Lightning's further ranks use both."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import read_write

    sys.argv = [sys.argv[0], "train", *overrides]
    if folder := config_dir_of(hydra):
        sys.argv += ["--config-dir", folder]
    whole: Any = HydraConfig.instance().cfg
    with read_write(whole.hydra):
        whole.hydra.run.dir = str(directory)


def _choices(hydra: Any) -> dict[str, str]:
    return {group: str(choice) for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}


def _failed(directory: Path, hydra: Any, error: str) -> int:
    """Record a run of a sweep that was wrong from the start, so that the sweep's table tells why it is missing."""
    from mmexp.runs.record import RunRecord

    print(f"mmexp: {error}", file=sys.stderr)
    overrides = list(hydra.overrides.task)
    told = {"command": shlex.join(["mmexp", "train", *overrides]), "overrides": overrides, "choices": _choices(hydra)}
    record = RunRecord(directory, told)
    directory.mkdir(parents=True, exist_ok=True)
    record.finish("failed", error)
    return 1


def _remove_if_empty(directory: Path) -> None:
    if directory.is_dir() and not {path.name for path in directory.iterdir()} - {FILE}:
        shutil.rmtree(directory)
