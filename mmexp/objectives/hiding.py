"""What the masked objectives share: hiding words and patches, and the losses on what was hidden."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.objectives.masks import CELLS, WORDS, Ratio
from mmexp.shapes import ModelShape
from mmexp.types import Prepared


class HideWords(nn.Module):
    """Hides words `random`ly token by token, as `whole_words`, or in `spans` of words (of tokens, where words are unknown).

    Raises RequestError where whole words are asked for and the text encoder does not know them.
    """

    edges: Tensor | None

    def __init__(self, shape: ModelShape, how: str):
        super().__init__()
        if how == "whole_words" and shape.word_edges is None:
            raise RequestError(
                "whole_words: this text encoder does not say which tokens begin or end a word. Choose random or spans."
            )
        self.how, self.draw = how, WORDS[how]
        self.mask_id, self.vocab_size = shape.mask_token_id or 0, shape.vocab_size or 0
        self.register_buffer("edges", None if how == "random" else shape.word_edges, persistent=False)

    def forward(
        self, text: Prepared, ratio: Ratio, generator: torch.Generator, weight: Tensor | None = None
    ) -> tuple[Prepared, Tensor]:
        """Return `text` with words hidden and the places (B, N) where; of them 80 % become the mask word, 10 % a random one.

        `weight (B, N)` draws heavier places sooner. A span is replaced in one way as a whole (SpanBERT, section 3.1).
        """
        ids, among = text["ids"], inner(text["mask"])
        hidden = self._hidden(ids, among, ratio, generator, weight)
        draw = torch.rand(ids.shape, generator=generator).to(ids.device)
        if self.how == "spans":
            draw = draw.gather(1, beginnings(hidden).cumsum(1).sub(1).clamp_min(0))
        random = torch.randint(self.vocab_size, ids.shape, generator=generator).to(ids.device)
        changed = torch.where(hidden & (draw < 0.8), self.mask_id, ids)
        changed = torch.where(hidden & (draw >= 0.9), random, changed)
        return {**text, "ids": changed}, hidden

    def _hidden(
        self, ids: Tensor, among: Tensor, ratio: Ratio, generator: torch.Generator, weight: Tensor | None
    ) -> Tensor:
        if self.edges is None:
            return self.draw(among, ratio, generator, weight)
        word, words = numbered_words(ids, among, self.edges)
        if weight is not None:
            tokens = torch.zeros_like(weight).scatter_add_(1, word, among.to(weight.dtype))
            weight = torch.zeros_like(weight).scatter_add_(1, word, weight * among) / tokens.clamp_min(1)
        return among & self.draw(words, ratio, generator, weight).gather(1, word)


def inner(mask: Tensor) -> Tensor:
    """Return the tokens (B, N) that may be hidden: the first and the last real one are the tokenizer's own marks."""
    among = mask.clone()
    among[:, 0] = False
    among[torch.arange(len(mask)), mask.sum(1) - 1] = False
    return among


def beginnings(hidden: Tensor) -> Tensor:
    """Return where (B, N) a run of true values begins."""
    return hidden & ~F.pad(hidden, (1, 0))[:, :-1]


def numbered_words(ids: Tensor, among: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number (B, N), from 0, of the word that each token belongs to, and which numbers (B, N) there are.

    `edges (2, V)` says of each id whether it begins a word, and whether it ends one.
    """
    begins = edges[0][ids] | F.pad(edges[1][ids], (1, 0))[:, :-1]
    begins = among & (begins | beginnings(among))
    place = torch.arange(ids.shape[1], device=ids.device)
    return begins.cumsum(1).sub(1).clamp_min(0), place < begins.sum(1, keepdim=True)


def float_pixels(image: Prepared) -> Tensor:
    """Return `pixels (B, C, H, W)` from 0 to 1."""
    pixels = image["pixels"]
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def to_patches(pixels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut (B, C, H, W) into the cells of `grid` (rows, columns): (B, rows * columns, C * h * w)."""
    rows, columns = grid
    batch, channels, height, width = pixels.shape
    cells = pixels.reshape(batch, channels, rows, height // rows, columns, width // columns)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def draw_cells(
    rows: Tensor,
    grid: tuple[int, int],
    ratio: Ratio,
    generator: torch.Generator,
    how: str = "random",
    weight: Tensor | None = None,
) -> Tensor:
    """Return which cells (B, cells) of the grid are hidden; `rows (B, ...)` gives number and device, `weight` is (cells,)."""
    every = torch.ones(len(rows), grid[0] * grid[1], dtype=torch.bool, device=rows.device)
    return CELLS[how](every, grid, ratio, generator, weight)


def paint(pixels: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return pixels (B, C, H, W) with the `hidden (B, cells)` painted in the batch's mean colour."""
    area = F.interpolate(hidden.view(-1, 1, *grid).float(), size=pixels.shape[-2:], mode="nearest")
    return torch.where(area > 0.5, pixels.mean((0, 2, 3), keepdim=True), pixels)


# What is added to a patch's variance: flat patches, of which drawings are full, would otherwise be all noise.
FLOOR = 1e-2


def patch_losses(drawn: Tensor, pixels: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the squared error (H,) of each hidden patch, `drawn (H, C * h * w)`, in row-major order of `hidden (B, cells)`.

    Each patch is normalised by its own mean and deviation (MAE, arXiv:2111.06377, section 4).
    """
    target = to_patches(pixels, grid)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + FLOOR).sqrt()
    return (drawn.float() - target[hidden]).square().mean(-1)


def word_losses(logits: Tensor, ids: Tensor, hidden: Tensor) -> Tensor:
    """Return the cross-entropy (H,) of each hidden word, `logits (H, V)` in row-major order of `hidden (B, N)`."""
    return F.cross_entropy(logits.float(), ids[hidden], reduction="none")


def mean(losses: Tensor) -> Tensor:
    """Return the mean of `losses (H,)`, 0 where nothing was hidden: a curriculum may begin so, and that mean would be NaN."""
    return losses.sum() / max(1, len(losses))


def patch_size(shape: ModelShape) -> int:
    """Return how many numbers a patch is."""
    assert shape.image_size
    assert shape.grid
    return 3 * shape.image_size**2 // (shape.grid[0] * shape.grid[1])
