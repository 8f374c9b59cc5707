"""`mmexp chain`: stages one after the other, and one table of what each is worth."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmexp.chain import Stage, planned, recipes
from mmexp.commands import train
from mmexp.commands.list import first_comment
from mmexp.compose import flags_first, override
from mmexp.errors import RequestError, nearest
from mmexp.runs.parents import digest, fingerprint
from mmexp.runs.record import write_atomically


def main(arguments: Sequence[str]) -> int:
    """Run the stages that are not done yet; return the status of the first that fails. Without a name, list the chains."""
    flags, settings = flags_first(arguments)
    if flags and (len(flags) != 2 or flags[0] not in ("--config-dir", "-cd")):
        raise RequestError(f"'{flags[0]}' is no option of chain.{nearest(flags[0], ['--config-dir'])}")
    config_dir = flags[1] if flags else None
    # The first word is the chain's name; whom to trust may be said before it.
    settings.sort(key=lambda word: word.startswith("trust="))
    if not settings or settings[0].startswith("trust="):
        for name, text in recipes(config_dir).items():
            print(f"  {name:<20}{first_comment(text)}")
        return 0
    stages = planned(settings[0], settings[1:], os.environ["MMEXP_STAMP"], config_dir)
    for number, stage in enumerate(stages, 1):
        print(f"\nstage {number} of {len(stages)}: {stage.name}")
        if status := _run(stage, flags):
            return status
    _conclude(stages)
    return 0


def _run(stage: Stage, flags: list[str]) -> int:
    """Run a stage as `mmexp train` would, unless it is done; go on with one that was broken off."""
    state = _state(stage)
    if state == "done":
        print(f"done already: {stage.directory}")
        return 0
    if state == "another":
        aside = stage.directory.with_name(f"{stage.name}-before-{time.strftime('%Y-%m-%d_%H-%M-%S')}")
        stage.directory.rename(aside)
        print(f"this stage was run with another request or other weights; that run is now {aside}")
    more = [override("hydra.run.dir", stage.directory), *(["resume=auto"] if state == "broken off" else [])]
    try:
        return train.main([*stage.overrides, *more, *flags])
    except RequestError as error:
        raise RequestError(f"stage '{stage.name}': {error}") from error


def _state(stage: Stage) -> str:
    """Return whether a stage is `new`, `done`, `broken off`, or whether `another` run stands in its place."""
    record = stage.directory / "run.json"
    if not record.is_file():
        return "new"
    run = json.loads(record.read_text())
    parents = [(parent["path"], parent["weights"]) for parent in run.get("parents") or []]
    if run.get("fingerprint") != fingerprint(stage.config) or any(digest(Path(p)) != w for p, w in parents):
        return "another"
    return "done" if run["status"] == "completed" else "broken off"


def _conclude(stages: Sequence[Stage]) -> None:
    """Measure all models one after the other, so that they can be compared; write `chain.json` and print the table."""
    from rich.console import Console

    from mmexp.runs.chain_table import chain_table

    file = stages[0].directory.parent / "chain.json"
    told = [_told(stage) for stage in stages]
    write_atomically(file, json.dumps(told, indent=2) + "\n")
    console = Console(markup=False)
    console.print()
    console.print(chain_table(told))
    console.print(f"chain: {file.parent}", soft_wrap=True)


def _told(stage: Stage) -> dict[str, Any]:
    from mmexp.inference import inference_facts

    run = json.loads((stage.directory / "run.json").read_text())
    metrics = stage.directory / "metrics.json"
    return {
        "stage": stage.name,
        "directory": str(stage.directory),
        "metrics": json.loads(metrics.read_text()) if metrics.is_file() else {},
        **{key: run[key] for key in ("parameters", "wall_seconds", "parents")},
        **inference_facts(stage.directory),
    }
