"""`mmexp train`: one run, or with -m a sweep."""

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmexp.compose import run_hydra
from mmexp.config import check
from mmexp.errors import RequestError


class Outcome:
    """What the runs of one command line came to: Hydra does not hand on what its jobs return."""

    status = 0
    wrong: RequestError | None = None


def main(arguments: Sequence[str]) -> int:
    """Run Hydra with our job; return the exit status of the run, for a sweep 1 where any of its runs failed."""
    outcome = Outcome()
    try:
        run_hydra(partial(_job, outcome), arguments)
    except RequestError:
        _remove_refused_sweep()
        raise
    if outcome.wrong:
        raise outcome.wrong
    return outcome.status


def _remove_refused_sweep() -> None:
    from mmexp.runs.sweep import Summary, remove_if_without_runs

    if Summary.begun:
        remove_if_without_runs(Summary.begun)


def _job(outcome: Outcome, config: Any) -> int:
    """One run of a Hydra app: check, then hand over to the experiment. Raises nothing, or Hydra would print its own."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    swept = hydra.mode == RunMode.MULTIRUN
    try:
        status = _run(config, hydra, directory, swept)
    except RequestError as error:
        if not swept:
            _remove_if_empty(directory)
            outcome.wrong = error
            return 2
        status = _refused(directory, list(hydra.overrides.task), error)
    outcome.status = max(outcome.status, 1 if swept and status else status)
    return status


def _run(config: Any, hydra: Any, directory: Path, swept: bool) -> int:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    choices = {group: str(choice) for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise RequestError(str(error).splitlines()[0]) from error
    check(plain, choices)
    _restore_command(hydra, directory)
    # Only now the heavy libraries: a wrong request was answered before them.
    from mmexp.experiment import Request, run

    sweep = str(plain["sweep"]["name"]) if swept else None
    return run(Request(plain, directory, choices, list(hydra.overrides.task), sweep))


def _restore_command(hydra: Any, directory: Path) -> None:
    """Leave in sys.argv, and in Hydra's singleton, what starts exactly this run: Lightning's further ranks use both."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import read_write

    sys.argv = [sys.argv[0], "train", *hydra.overrides.task]
    sources = [source for source in hydra.runtime.config_sources if source.provider == "command-line"]
    for source in sources:
        sys.argv += ["--config-dir", source.path]
    whole: Any = HydraConfig.instance().cfg
    with read_write(whole.hydra):
        whole.hydra.run.dir = str(directory)


def _refused(directory: Path, overrides: list[str], error: RequestError) -> int:
    """Record a run of a sweep that was wrong from the start, so that the sweep's table tells why it is missing."""
    from mmexp.runs.record import RunRecord

    print(f"mmexp: {error}", file=sys.stderr)
    record = RunRecord(directory, {"command": f"mmexp train {' '.join(overrides)}", "overrides": overrides})
    directory.mkdir(parents=True, exist_ok=True)
    record.finish("failed", str(error))
    return 2


def _remove_if_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        shutil.rmtree(directory)
