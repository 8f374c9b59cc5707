"""A run's towers as exported programs of torch: `TOWER.pt2`, loaded by `torch.export.load` without a line of mmexp."""

import warnings
from pathlib import Path

import torch

from mmexp.exporting import inputs
from mmexp.exporting.subject import Subject
from mmexp.exporting.towers import farthest, prepared_rows, program, row_counts

TOLERANCE = 1e-5


def write(subject: Subject, folder: Path) -> None:
    """Write a program for each tower. Raises RequestError where torch cannot export one."""
    for name, tower in subject.towers.items():
        with warnings.catch_warnings():
            # It wonders about tensors that share memory.
            warnings.simplefilter("ignore")
            torch.export.save(program(tower), folder / f"{name}.pt2")
    inputs.write(subject, folder)


@torch.no_grad()
def difference(subject: Subject, folder: Path) -> float:
    """Return how far the vectors of the programs are from the run's, at most, of one row and of several."""
    off = []
    for name, tower in subject.towers.items():
        loaded, prepared = torch.export.load(folder / f"{name}.pt2").module(), inputs.as_others_prepare(tower, folder)
        counts = row_counts(prepared_rows(tower))
        said = {rows: loaded(*(part[:rows] for part in prepared.values())) for rows in counts}
        off.append(farthest(tower, said))
    return max(off)
