"""A user's own model rewrites texts, for example by translation there and back (arXiv:1511.06709)."""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from mmexp.errors import RequestError
from mmexp.types import Draws, Fraction


class Rewrite:
    """Rewrite a `share` of the texts by `function`, the dotted path of a list[str] -> list[str]; it gets a batch's at once.

    It runs in the loader, in each of `data.num_workers` processes. What it draws by itself is not a function of the seed.
    Raises RequestError where there is no such function, or where it returns another number of texts.
    """

    modality = "text"

    def __init__(self, function: str, share: Fraction = 0.5):
        self.function, self.share, self.path = _imported(function), share, function

    def __call__(self, texts: list[str], draws: Draws) -> list[str]:
        """Return the texts (B), changed."""
        rows = np.flatnonzero(draws("rewrite", 1)[:, 0] < self.share).tolist()
        changed = list(texts)
        rewritten = self.function([texts[row] for row in rows]) if rows else []
        if len(rewritten) != len(rows):
            raise RequestError(f"{self.path} returned {len(rewritten)} texts for {len(rows)}.")
        for row, text in zip(rows, rewritten, strict=True):
            changed[row] = text
        return changed


def _imported(path: str) -> Callable[[list[str]], list[str]]:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RequestError(
            f"augmentation.rewrite.function='{path}' cannot be imported: {error}. "
            "It is MODULE.FUNCTION, and the module's folder is in PYTHONPATH."
        ) from error
