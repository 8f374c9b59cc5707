"""What the masked objectives share: hiding words and patches, and the losses on what was hidden."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.draws import RowGenerator
from mmexp.errors import RequestError
from mmexp.objectives.masks import CELLS, WORDS, Ratio
from mmexp.objectives.words import word_tokens
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
        self.how, self.draw, self.marks = how, WORDS[how], shape.marks
        self.mask_id, self.vocab_size = shape.mask_token_id or 0, shape.vocab_size or 0
        self.register_buffer("edges", None if how == "random" else shape.word_edges, persistent=False)

    def forward(
        self, text: Prepared, ratio: Ratio, generator: RowGenerator, weight: Tensor | None = None
    ) -> tuple[Prepared, Tensor]:
        """Return `text` with words hidden and the places (B, N) where; of them 80 % become the mask word, 10 % a random one.

        `weight (B, N)` draws heavier places sooner. A span is replaced in one way as a whole (SpanBERT, section 3.1).
        """
        ids, among = text["ids"], word_tokens(text, self.marks)
        hidden = self._hidden(ids, among, ratio, generator, weight)
        draw, other = (generator.rand(*ids.shape).to(ids.device) for _ in range(2))
        if self.how == "spans":
            draw = draw.gather(1, beginnings(hidden).cumsum(1).sub(1).clamp_min(0))
        random = (other * self.vocab_size).long().clamp_max(self.vocab_size - 1)
        changed = torch.where(hidden & (draw < 0.8), self.mask_id, ids)
        changed = torch.where(hidden & (draw >= 0.9), random, changed)
        return {**text, "ids": changed}, hidden

    def _hidden(
        self, ids: Tensor, among: Tensor, ratio: Ratio, generator: RowGenerator, weight: Tensor | None
    ) -> Tensor:
        if self.edges is None:
            return self.draw(among, ratio, generator, weight)
        word, words = numbered_words(ids, among, self.edges)
        if weight is not None:
            tokens = torch.zeros_like(weight).scatter_add_(1, word, among.to(weight.dtype))
            weight = torch.zeros_like(weight).scatter_add_(1, word, weight * among) / tokens.clamp_min(1)
        return among & self.draw(words, ratio, generator, weight).gather(1, word)


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
    generator: RowGenerator,
    how: str = "random",
    weight: Tensor | None = None,
) -> Tensor:
    """Return which cells (B, cells) of the grid are hidden; `rows (B, ...)` gives number and device, `weight` is (cells,)."""
    every = torch.ones(len(rows), grid[0] * grid[1], dtype=torch.bool, device=rows.device)
    return CELLS[how](every, grid, ratio, generator, weight)


class MaskPatch(nn.Module):
    """A learned patch that stands in the input wherever a patch is hidden, the same in all places.

    What a vision transformer's patch embedding, a linear map of single patches, makes of it is SimMIM's mask token
    (arXiv:2111.09886, section 3.2), and any token of at most as many dimensions as a patch has numbers can be learned. An
    encoder whose stem is convolutional sees the patch itself. No other row of the batch changes what a hidden patch becomes.

    Args:
        channels: 3 of pictures, 1 of spectrograms.
        size: Height and width `(H, W)` of the input.
        grid: Its rows and columns of patches.
    """

    def __init__(self, channels: int, size: tuple[int, int], grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.mask_token = nn.Parameter(torch.empty(channels, size[0] // grid[0], size[1] // grid[1]))
        nn.init.normal_(self.mask_token, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that do not decay."""
        return {"mask_token"}

    def forward(self, inputs: Tensor, hidden: Tensor, centre: Tensor | float) -> Tensor:
        """Return the inputs with the mask patch, which is learned around `centre`, in the place of what is hidden.

        Args:
            inputs: `(B, C, H, W)`.
            hidden: The hidden patches `(B, rows * columns)`.
            centre: A number, or one for each row `(B, 1, 1, 1)`.

        Returns:
            `(B, C, H, W)`.
        """
        area = F.interpolate(hidden.view(-1, 1, *self.grid).float(), size=inputs.shape[-2:], mode="nearest")
        return torch.where(area > 0.5, self.mask_token.repeat(1, *self.grid) + centre, inputs)


GREY = 0.5
"""Around which the mask patch of pictures is learned, in pixels from 0 to 1."""

# Of ImageNet, in which SimMIM's code measures pixels (arXiv:2111.09886).
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def patch_targets(pixels: Tensor, grid: tuple[int, int], norm_eps: float | None) -> Tensor:
    """Return what is to be predicted of every patch.

    Args:
        pixels: `(B, 3, H, W)` from 0 to 1.
        grid: Rows and columns of patches.
        norm_eps: Each patch is normalized by its own mean and variance, to which this is added (MAE, arXiv:2111.06377,
            section 4: 1e-6). None: pixels in ImageNet's standard deviations from its mean (SimMIM).

    Returns:
        `(B, rows * columns, 3 * h * w)`.
    """
    if norm_eps is None:
        mean, deviation = (pixels.new_tensor(numbers).view(1, 3, 1, 1) for numbers in (_MEAN, _DEVIATION))
        return to_patches((pixels - mean) / deviation, grid)
    return normalized(to_patches(pixels, grid), norm_eps)


def normalized(patches: Tensor, norm_eps: float) -> Tensor:
    """Return `patches (B, N, P)`, each with mean 0 and variance 1; `norm_eps` is added to the variance."""
    variance, mean = torch.var_mean(patches, -1, keepdim=True)
    return (patches - mean) / (variance + norm_eps).sqrt()


def patch_losses(predicted: Tensor, target: Tensor, hidden: Tensor, loss: str = "l2") -> Tensor:
    """Return the mean absolute (`l1`) or squared (`l2`) error of each hidden patch.

    Args:
        predicted: `(H, P)` of the hidden patches, in row-major order of `hidden`.
        target: `(B, N, P)` of all patches.
        hidden: `(B, N)` true for those that are hidden.
        loss: `l1` (SimMIM) or `l2` (MAE).

    Returns:
        `(H,)`.
    """
    error = predicted.float() - target[hidden]
    return (error.abs() if loss == "l1" else error.square()).mean(-1)


def word_losses(logits: Tensor, ids: Tensor, hidden: Tensor) -> Tensor:
    """Return the cross-entropy (H,) of each hidden word, `logits (H, V)` in row-major order of `hidden (B, N)`."""
    return F.cross_entropy(logits.float(), ids[hidden], reduction="none")


def patch_size(shape: ModelShape) -> int:
    """Return how many numbers a patch is."""
    assert shape.image_size
    assert shape.grid
    return 3 * shape.image_size**2 // (shape.grid[0] * shape.grid[1])
