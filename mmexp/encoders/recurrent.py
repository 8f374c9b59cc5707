"""A recurrent text encoder, trained from scratch: GRU (arXiv:1406.1078) or LSTM (Hochreiter and Schmidhuber, 1997)."""

from typing import Literal

from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from mmexp.attention import masked_mean
from mmexp.encoders.text_encoder import TextEncoder
from mmexp.errors import RequestError
from mmexp.types import Encoded, Fraction, PositiveInt, Prepared


class Recurrent(TextEncoder):
    """PyTorch's `kind` of `depth` layers, a projection and a norm; pooled as the mean of the real tokens.

    `bidirectional` reads half of the channels from the end. `dropout` is of what enters and leaves each layer, never of what
    a layer hands on in time (arXiv:1409.2329). Adapters attach to the projection: a layer's own weights are no Linear.
    """

    adapter_targets = "proj"

    def __init__(
        self,
        kind: Literal["gru", "lstm"],
        dim: PositiveInt = 192,
        depth: PositiveInt = 1,
        bidirectional: bool = True,
        context_length: PositiveInt = 48,
        tokenizer: str | None = None,
        dropout: Fraction = 0.0,
    ):
        if bidirectional and dim % 2:
            raise RequestError(f"dim={dim} does not divide into two directions.")
        super().__init__(dim, context_length, tokenizer)
        self.dropout = nn.Dropout(dropout)
        self.embed = nn.Embedding(self.vocab_size, dim)
        make, width = {"gru": nn.GRU, "lstm": nn.LSTM}[kind], dim // (1 + bidirectional)
        # One by one: between layers of its own cuDNN draws by a state that no seed of a step reaches.
        self.layers = nn.ModuleList(
            make(dim, width, batch_first=True, bidirectional=bidirectional) for _ in range(depth)
        )
        self.proj, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        nn.init.normal_(self.embed.weight, std=0.3)

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `ids (B, N)` with `mask (B, N)`; `added (B, N, dim)` is added to the words' vectors."""
        ids, mask = prepared["ids"], prepared["mask"]
        words = self.embed(ids)
        words = self.dropout(words + prepared["added"] if "added" in prepared else words)
        # Padding follows the words: a layer that reads from the end must not begin in it. A row without words is read as one.
        packed = pack_padded_sequence(words, mask.sum(1).clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
        for number, layer in enumerate(self.layers):
            packed = layer(PackedSequence(self.dropout(packed.data), *packed[1:]) if number else packed)[0]
        read, _ = pad_packed_sequence(packed, batch_first=True, total_length=ids.shape[1])
        tokens = self.norm(self.proj(self.dropout(read))) * mask[..., None]
        return Encoded(tokens, masked_mean(tokens, mask), mask)
