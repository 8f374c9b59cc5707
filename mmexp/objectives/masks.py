"""Where to hide: which places of each row, by a ratio and a generator; heavier places sooner, where there are weights.

Weighted draws are without replacement: the order of -log(u) / weight is that of log(weight) plus Gumbel noise
(arXiv:1903.06059), so that the next place is drawn in proportion to the weights of those left.
"""

from math import log

import torch
from torch import Tensor

from mmexp.draws import RowGenerator

Ratio = float | Tensor
"""One for all rows, or one for each (B,)."""


def random_order(among: Tensor, generator: RowGenerator, weight: Tensor | None = None) -> Tensor:
    """Return the places (B, N) of each row in a random order, those of `among (B, N)` first."""
    draw = generator.rand(*among.shape).to(among.device)
    key = draw if weight is None else -torch.log1p(-draw) / weight
    return key.masked_fill(~among, torch.inf).argsort(1)


def budget(among: Tensor, ratio: Ratio, generator: RowGenerator) -> Tensor:
    """Return how many places (B, 1) to hide; a fraction is rounded by chance, or short captions would never lose a word."""
    chance = generator.rand(len(among)).to(among.device)
    return (ratio * among.sum(1) + chance).floor()[:, None]


def scattered(among: Tensor, ratio: Ratio, generator: RowGenerator, weight: Tensor | None = None) -> Tensor:
    """Return which (B, N) of the places `among (B, N)` are hidden, each by itself (BERT, arXiv:1810.04805).

    Without weights each is hidden by its own chance; with `weight (B, N)` as many as the ratio says, heavy ones sooner.
    """
    if weight is None:
        draw = generator.rand(*among.shape).to(among.device)
        return among & (draw < (ratio[:, None] if isinstance(ratio, Tensor) else ratio))
    rank = random_order(among, generator, weight).argsort(1)
    return among & (rank < budget(among, ratio, generator))


def span_lengths(chance: Tensor, stop: float = 0.2, longest: int = 10) -> Tensor:
    """Return geometric lengths from 1 to `longest`, 3.8 on average, of numbers from 0 to below 1 (SpanBERT, section 3.1)."""
    cut = 1 - (1 - stop) ** longest
    return (torch.log1p(-cut * chance) / log(1 - stop)).floor() + 1


def spans(among: Tensor, ratio: Ratio, generator: RowGenerator, weight: Tensor | None = None) -> Tensor:
    """Return which (B, N) are hidden in spans until the budget is spent; the last one is cut (SpanBERT, arXiv:1907.10529).

    No place is drawn twice as a start; heavy ones are drawn sooner.
    """
    count = budget(among, ratio, generator)
    start = random_order(among, generator, weight)[:, : regions(count), None]
    length = span_lengths(generator.rand(*start.shape)).to(among.device)
    place = torch.arange(among.shape[1], device=among.device)
    covered = (start <= place) & (place < start + length) & among[:, None]
    return first_covered(covered, count)


def regions(count: Tensor | int) -> int:
    """Return how many regions are enough to cover `count (B, 1)` places, each of them being around another place."""
    return max(1, int(torch.as_tensor(count).max()))


def first_covered(covered: Tensor, count: Tensor | int) -> Tensor:
    """Return the first `count (B, 1)` places (B, N) in the order of the regions, `covered (B, R, N)`; the last one is cut."""
    any_covers = covered.any(1)
    turn = covered.to(torch.uint8).argmax(1).masked_fill(~any_covers, covered.shape[1])
    rank = turn.argsort(dim=1, stable=True).argsort(1)
    return any_covers & (rank < count)


def cells_to_hide(ratio: Ratio, cells: int) -> Tensor | int:
    """Return how many of a picture's cells a ratio is: one number, or (B, 1)."""
    return (ratio * cells).round()[:, None] if isinstance(ratio, Tensor) else round(ratio * cells)


def scattered_cells(
    every: Tensor, grid: tuple[int, int], ratio: Ratio, generator: RowGenerator, weight: Tensor | None = None
) -> Tensor:
    """Return which (B, cells) are hidden, each by itself, as many in every row as its ratio says. `every (B, cells)` is true."""
    order = random_order(every, generator, weight)
    # Where all weigh the same the order is as random as the ranks.
    return (order if weight is None else order.argsort(1)) < cells_to_hide(ratio, every.shape[1])


def blocks(
    every: Tensor, grid: tuple[int, int], ratio: Ratio, generator: RowGenerator, weight: Tensor | None = None
) -> Tensor:
    """Return which (B, cells) are hidden in rectangles, as many as the ratio says; the last one is cut (BEiT, arXiv:2106.08254).

    As in its algorithm 1 the area goes from 16 of 196 cells to all that are to be hidden, height / width from 0.3 to 1 / 0.3.
    Each rectangle lies around another cell; heavy ones are drawn sooner.
    """
    (rows, columns), cells = grid, every.shape[1]
    least, most = 16 / 196 * cells, cells_to_hide(ratio, cells)
    centre = random_order(every, generator, weight)[:, : regions(most)]
    size, ratios = (generator.rand(*centre.shape).to(every.device) for _ in range(2))
    area = least + size * (most - least) * (most > least)
    aspect = torch.exp((2 * ratios - 1) * log(0.3))
    inside = _stretch(centre // columns, (area * aspect).sqrt(), rows)[..., None]
    across = _stretch(centre % columns, (area / aspect).sqrt(), columns)[..., None, :]
    return first_covered((inside & across).flatten(2), most)


def _stretch(centre: Tensor, length: Tensor, size: int) -> Tensor:
    """Return (B, R, size), true along `length (B, R)`, at least 1, around `centre (B, R)` and inside of 0 to `size`."""
    length = length.round().clamp(1, size)
    first = torch.minimum((centre - length // 2).clamp_min(0), size - length)[..., None]
    place = torch.arange(size, device=centre.device)
    return (first <= place) & (place < first + length[..., None])


WORDS = {"random": scattered, "whole_words": scattered, "spans": spans}
CELLS = {"random": scattered_cells, "blocks": blocks}
