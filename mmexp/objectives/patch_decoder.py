"""The decoder of a masked autoencoder: from the encoded visible patches to the pixels of all."""

import torch
from torch import Tensor, nn

from mmexp.attention import fast_attention
from mmexp.errors import RequestError


def sine_positions(grid: tuple[int, int], dim: int) -> Tensor:
    """Return fixed positions (rows * columns, dim): sines and cosines of the row, then those of the column.

    As in MoCo v3 (arXiv:2104.02057), which MAE follows; `dim` is a multiple of 4.
    """
    rates = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    row, column = (torch.arange(size)[:, None] * rates for size in grid)
    row, column = (torch.cat([angle.sin(), angle.cos()], 1) for angle in (row, column))
    whole = [row[:, None].expand(-1, grid[1], -1), column[None].expand(grid[0], -1, -1)]
    return torch.cat(whole, -1).flatten(0, 1)


class PatchDecoder(nn.Module):
    """Puts a learned mask token wherever a patch was hidden, and draws every patch (MAE, arXiv:2111.06377, section 3).

    `width` is that of the encoder's tokens, `patch` the numbers of a patch. Raises RequestError where `dim` does not divide.
    """

    positions: Tensor

    def __init__(self, width: int, grid: tuple[int, int], patch: int, dim: int, depth: int, heads: int):
        super().__init__()
        if dim % heads or dim % 4:
            raise RequestError(f"dim={dim} must divide into heads={heads}, and by 4 for its positions.")
        self.embed = nn.Linear(width, dim)
        self.mask_token = nn.Parameter(torch.empty(dim))
        self.register_buffer("positions", sine_positions(grid, dim), persistent=False)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.draw = nn.Linear(dim, patch)
        # As in the paper's own code; it also makes the layers differ, which are copies of one.
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Return the patches (B, cells, patch) of pictures of which `tokens (B, K, D)` at the places `keep (B, K)` are known."""
        known = self.embed(tokens).to(self.mask_token.dtype)
        whole = self.mask_token.expand(len(tokens), len(self.positions), -1)
        whole = whole.scatter(1, keep[..., None].expand_as(known), known) + self.positions
        with fast_attention(whole.device, whole.dtype):
            return self.draw(self.layers(whole))
