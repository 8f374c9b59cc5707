"""One block of the small transformers: of words, sounds, and of what modalities say together."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import attention, pack, unpack
from mmexp.plain_attention import Heads
from mmexp.positions import NOWHERE, Relation


class Block(nn.Module):
    """Pre-norm attention, then an MLP four times as wide (arXiv:2002.04745).

    `dropout` is of what each of the two adds to the tokens, as in arXiv:1706.03762.
    """

    def __init__(self, dim: int, heads: int, depth: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        # As in GPT-2 and CLIP: what is added to the residual stream shrinks with the number of additions.
        spread = {self.qkv: dim**-0.5, self.proj: (2 * depth * dim) ** -0.5}
        spread |= {self.fc1: (2 * dim) ** -0.5, self.fc2: (2 * depth * dim) ** -0.5}
        for layer, std in spread.items():
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, mask: Tensor, places: Tensor, relation: Relation = NOWHERE) -> Tensor:
        """Return `tokens (T, D)`, the real ones of a batch in a row, after looking at those of their own caption.

        `mask (B, N)` says which tokens of the padded batch are real, `places (T,)` are their positions in it, flattened.
        `relation` tells where its N columns stand.
        """
        padded = unpack(self.qkv(self.norm1(tokens)), places, mask)
        query, key, value = Heads.apply(padded.unflatten(-1, (3, self.heads, -1)))
        query, key = relation.turn(query), relation.turn(key)
        seen = attention(query, key, value, mask, relation.bias).transpose(1, 2).flatten(2)
        tokens = tokens + self.dropout(self.proj(pack(seen, places)))
        return tokens + self.dropout(self.fc2(F.gelu(self.fc1(self.norm2(tokens)))))
