"""Position encodings: what is added to tokens, and what attention is told of where they stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, prod

import torch
from torch import Tensor, nn

from mmexp.errors import RequestError
from mmexp.rows import look_up

_BASE = 10000.0  # the longest wave is this times 2 pi places


@dataclass(frozen=True)
class Relation:
    """What attention is told of the places of N tokens: `bias (H, N, N)` on its scores, `rotation (N, 2 d)` of queries and keys.

    A rotation holds the sines, then the cosines. Both may have dimensions in front that broadcast over rows and heads.
    """

    bias: Tensor | None = None
    rotation: Tensor | None = None

    def turn(self, heads: Tensor) -> Tensor:
        """Return queries or keys `(B, H, N, d)`, each pair of channels turned by the angles of its token's place."""
        if self.rotation is None:
            return heads
        sine, cosine = self.rotation.chunk(2, -1)
        across = torch.stack([-heads[..., 1::2], heads[..., ::2]], -1).flatten(-2)
        return (heads * cosine + across * sine).to(heads.dtype)


NOWHERE = Relation()


class RelativeBias(nn.Module):
    """A learned number for each head and distance, added to the scores of every block (arXiv:1803.02155).

    In a row of words the distances are the 32 buckets of T5 (arXiv:1910.10683); on a grid each offset of rows and columns
    has a number of its own, as in Swin (arXiv:2103.14030).
    """

    index: Tensor

    def __init__(self, grid: Sequence[int], heads: int):
        super().__init__()
        count, index = (_BUCKETS, buckets(grid[0])) if len(grid) == 1 else _offsets(grid)
        self.table = nn.Parameter(torch.empty(count, heads))
        self.register_buffer("index", index, persistent=False)
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, count: int) -> Relation:
        """Return the bias (H, N, N) of the first N = `count` places."""
        return Relation(bias=look_up(self.table, self.index[:count, :count]).permute(2, 0, 1))


class Rotary(nn.Module):
    """Rotations whose scores depend on the difference of two places alone (RoFormer, arXiv:2104.09864).

    On a grid the first half of a head's channels turns with the row, the second with the column, as in timm's
    `RotaryEmbeddingCat`. Raises RequestError where `dim` channels of a head do not divide into such pairs.
    """

    table: Tensor

    def __init__(self, grid: Sequence[int], dim: int):
        super().__init__()
        _divides("rotary", f"the {dim} channels of a head", dim, 2 * len(grid))
        waves = _BASE ** -(torch.arange(0, dim, 2 * len(grid)) / dim)
        angles = (_places(grid)[..., None] * waves).flatten(1).repeat_interleave(2, 1)
        self.register_buffer("table", torch.cat([angles.sin(), angles.cos()], 1), persistent=False)

    def forward(self, count: int) -> Relation:
        """Return the rotation (N, 2 d) of the first N = `count` places."""
        return Relation(rotation=self.table[:count])


def added(kind: str, grid: Sequence[int], dim: int, scale: float = 1.0) -> Tensor | None:
    """Return what is added to the tokens (N, dim) of a grid: a parameter yet to be drawn, a fixed table, or None.

    `scale` is the amplitude of `sine` and `sincos2d`. Raises RequestError for a width that their waves do not divide.
    """
    if kind == "learned":
        return nn.Parameter(torch.empty(prod(grid), dim))
    if kind not in ("sine", "sincos2d"):
        return None
    table = sine(prod(grid), dim) if kind == "sine" else sincos2d(grid, dim)
    return nn.Buffer(scale * table, persistent=False)


def mark(module: nn.Module, kind: str) -> None:
    """Give a module an empty tensor named after its fixed positions, so that its weights tell with which they were trained."""
    if kind in ("sine", "sincos2d", "rotary"):
        module.register_buffer(f"positions_{kind}", torch.empty(0))


def related(kind: str, grid: Sequence[int], dim: int, heads: int) -> RelativeBias | Rotary | None:
    """Return what tells attention of the places of a grid, of `heads` that share `dim` channels; None for other kinds."""
    if kind == "relative":
        return RelativeBias(grid, heads)
    return Rotary(grid, dim // heads) if kind == "rotary" else None


def sine(count: int, dim: int) -> Tensor:
    """Return (count, dim): sin(p / 10000^(2i / dim)) in channel 2i of place p, cos of the same in 2i + 1 (arXiv:1706.03762)."""
    _divides("sine", f"dim={dim}", dim, 2)
    angles = torch.arange(count)[:, None] * _BASE ** -(torch.arange(0, dim, 2) / dim)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def sincos2d(grid: Sequence[int], dim: int) -> Tensor:
    """Return (rows * columns, dim), row by row: a quarter each of sines and cosines of both coordinates, timm's table."""
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

    _divides("sincos2d", f"dim={dim}", dim, 4)
    return build_sincos2d_pos_embed(list(grid), dim)


_BUCKETS, _FURTHEST = 32, 128  # of T5


def buckets(count: int) -> Tensor:
    """Return T5's bucket of the way from each of `count` words to each (N, N): alone up to 7, then ever wider."""
    way = torch.arange(count)[None] - torch.arange(count)[:, None]
    half, exact, far = _BUCKETS // 2, _BUCKETS // 4, way.abs()
    wide = exact + ((far.clamp_min(1) / exact).log() / log(_FURTHEST / exact) * (half - exact)).long()
    return torch.where(far < exact, far, wide.clamp_max(half - 1)) + half * (way > 0)


def _offsets(grid: Sequence[int]) -> tuple[int, Tensor]:
    """Return how many offsets there are between cells of a grid, and the number of each pair's (N, N)."""
    from timm.layers.pos_embed_rel import gen_relative_position_index

    rows, columns = grid
    return (2 * rows - 1) * (2 * columns - 1), gen_relative_position_index((rows, columns))


def _places(grid: Sequence[int]) -> Tensor:
    """Return the coordinates (N, axes) of the cells of a grid, row by row."""
    return torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), -1).flatten(0, -2)


def _divides(kind: str, what: str, channels: int, by: int) -> None:
    if channels % by:
        raise RequestError(
            f"positions={kind}: {what} must be divisible by {by}. Choose another dim or number of heads."
        )
