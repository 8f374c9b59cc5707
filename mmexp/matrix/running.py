"""All combinations, over processes of one thread each."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

from mmexp.matrix.asking import Asking
from mmexp.matrix.trying import Outcome, attempt

_asking: list[Asking] = []


def run_all(
    combinations: Sequence[Mapping[str, str]],
    folder: str,
    jobs: int,
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Return what became of each; each process has data, weights and teachers of its own below `folder`."""
    outcomes = []
    # A fresh interpreter each: threads of the libraries do not survive a fork.
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(folder,)) as pool:
        for outcome in pool.map(_one, combinations):
            told(outcome)
            outcomes.append(outcome)
    return outcomes


def _begin(folder: str) -> None:
    import torch

    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with _silent():
        _asking.append(Asking(Path(mkdtemp(dir=folder))))


def _one(chosen: Mapping[str, str]) -> Outcome:
    asking = _asking[0]
    with _silent():
        return attempt(chosen, asking.overrides(chosen), asking.folder / "run")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Let no library say what it loads: of hundreds of models nobody reads it."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
