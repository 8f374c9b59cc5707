"""Early fusion: the tokens of all modalities go through one transformer together."""

from collections.abc import Mapping

from torch import nn

from mmexp.attention import masked_mean, pack, places_of, unpack
from mmexp.fusion.streams import check_heads, joined, projected_streams
from mmexp.transformer_block import Block
from mmexp.types import Encoded, Fraction, PositiveInt


class EarlyFusion(nn.Module):
    """A single stream as in VisualBERT (arXiv:1908.03557) and ViLT (arXiv:2102.03334): any token may look at any other.

    The bias of each projection tells the modalities apart, as the type embeddings of these do. Pooled is the mean of all real
    tokens. `dropout` is of the tokens that go in.
    """

    keeps_tokens = True
    adapter_targets = r"blocks\.\d+\.(qkv|proj|fc1|fc2)"

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: PositiveInt = 192,
        heads: PositiveInt = 3,
        depth: PositiveInt = 2,
        dropout: Fraction = 0.0,
    ):
        super().__init__()
        check_heads(dim, heads)
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, depth) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; a missing modality has no tokens, so that nothing looks at it."""
        padded, mask, parts = joined(projected_streams(self.project, encoded))
        places = places_of(mask)
        tokens = self.dropout(pack(padded, places))
        for block in self.blocks:
            tokens = block(tokens, mask, places)
        padded = unpack(self.norm(tokens), places, mask)
        return Encoded(padded, masked_mean(padded, mask), mask, parts)
