"""Replay: some rows of earlier tasks are read again (experience replay with a balanced memory, arXiv:1902.10486)."""

from mmexp.continual.plain import Plain
from mmexp.types import Fraction, PositiveInt


class Replay(Plain):
    """A memory of `rows` rows in all, the same number of each earlier task; a `share` of every batch is drawn from it.

    The batch keeps its size, so that a task sees fewer of its own rows and the run the same number of samples.
    """

    def __init__(self, *, rows: PositiveInt = 200, share: Fraction = 0.5):
        super().__init__()
        self.rows_kept, self.share = rows, share
