"""`mmexp verify-resume`: proves on one's own configuration that a run which is killed goes on exactly."""

import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

from mmexp.errors import RequestError
from mmexp.resume_proof import Attempt, differences, drawn, killed_at

OWN = ("kills", "folder")


def main(arguments: Sequence[str]) -> int:
    """Train once undisturbed and once killed at random steps; print what is equal. Returns 1 where something is not."""
    own = dict(argument.split("=", 1) for argument in arguments if argument.split("=")[0] in OWN)
    overrides = [argument for argument in arguments if argument.split("=")[0] not in OWN]
    kills, folder = (
        _kills(own.get("kills", "3")),
        Path(own.get("folder", f"outputs/verify/{os.environ['MMEXP_STAMP']}")),
    )
    if any(re.match(r"\+*(hydra\.run\.dir|resume)=", one) for one in overrides) or {"-m", "--multirun"} & set(
        overrides
    ):
        raise RequestError(
            "mmexp verify-resume tries one run in folders of its own: leave out -m, resume and hydra.run.dir."
        )
    _check(overrides)
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise RequestError(f"folder={folder} is not empty. Choose another one.")
    whole, tried = Attempt(folder, "whole", overrides), Attempt(folder, "killed", overrides)
    whole.finish()
    steps = max((step for step, _ in whole.steps()), default=0) + 1
    print(f"undisturbed    {steps} steps", flush=True)
    rng = random.Random(0)
    for step in drawn(steps, kills, seed=0):
        if killed_at(tried, step, delay=rng.random() * 0.2):
            print(f"killed         in {tried.kills[-1]}", flush=True)
    tried.finish()
    return _verdict(differences(whole, tried), len(tried.kills), folder)


def _kills(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise RequestError(f"kills={text}: it is a whole number from 1.")
    return int(text)


def _check(overrides: Sequence[str]) -> None:
    """Raise RequestError for a wrong configuration, before anything is started."""
    from mmexp.compose import compose, flags_first, folder_in, resolved
    from mmexp.config import check

    flags, others = flags_first(overrides)
    check(*resolved(compose(others, folder_in(flags))))


def _verdict(found: dict[str, str], kills: int, folder: Path) -> int:
    for name, wrong in found.items():
        print(f"{name:<18} {wrong or 'equal'}")
    good = not any(found.values())
    times = "once" if kills == 1 else f"{kills} times"
    print(f"{'the same run' if good else 'NOT the same run'}, killed {times} ({folder})")
    return int(not good)
