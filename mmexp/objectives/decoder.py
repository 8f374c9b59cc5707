"""A small autoregressive transformer over words: what it has read is kept, so that each further word costs one token."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import attention
from mmexp.errors import RequestError
from mmexp.plain_attention import Heads

KeysValues = tuple[Tensor, Tensor]
"""Keys and values (R, H, L, d) of one block."""


@dataclass(frozen=True)
class State:
    """What R rows have read so far: `real (R, L)` says which of the L tokens count, `words` how many of them are text.

    `own` are the blocks' keys and values of these tokens, `memory` those of the encoding that the blocks look at, whose
    tokens count where `memory_mask (R, M)` is true.
    """

    real: Tensor
    words: int = 0
    own: tuple[KeysValues, ...] = ()
    memory: tuple[KeysValues, ...] = ()
    memory_mask: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> "State":
        """Return the chosen rows, for example the beams that go on."""
        own, memory = (tuple((k[rows], v[rows]) for k, v in kept) for kept in (self.own, self.memory))
        mask = None if self.memory_mask is None else self.memory_mask[rows]
        return replace(self, real=self.real[rows], own=own, memory=memory, memory_mask=mask)


class Block(nn.Module):
    """Pre-norm self-attention, attention to another encoding where it `reads`, then an MLP four times as wide."""

    def __init__(self, dim: int, heads: int, depth: int, reads: bool):
        super().__init__()
        self.heads = heads
        self.norm, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        added = {self.proj: (2 * depth * dim) ** -0.5, self.fc2: (2 * depth * dim) ** -0.5}
        spread = {self.qkv: dim**-0.5, self.fc1: (2 * dim) ** -0.5, **added}
        if reads:
            self.norm_query = nn.LayerNorm(dim)
            self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
            spread |= {self.q: dim**-0.5, self.kv: dim**-0.5, self.out: (2 * depth * dim) ** -0.5}
        # As in GPT-2: what is added to the residual stream shrinks with the number of additions.
        for layer, std in spread.items():
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        tokens: Tensor,
        seen: Tensor,
        past: KeysValues | None,
        memory: KeysValues | None,
        memory_mask: Tensor | None,
    ) -> tuple[Tensor, KeysValues]:
        """Return `tokens (R, N, D)` enriched, and the keys and values of all L + N tokens; `seen (R, N, L + N)`."""
        query, key, value = self._heads(self.qkv(self.norm(tokens)), 3)
        if past:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        tokens = tokens + self.proj(attention(query, key, value, seen).transpose(1, 2).flatten(2))
        if memory and memory_mask is not None:
            (asked,) = self._heads(self.q(self.norm_query(tokens)), 1)
            tokens = tokens + self.out(attention(asked, *memory, memory_mask).transpose(1, 2).flatten(2))
        return tokens + self.fc2(F.gelu(self.fc1(self.norm_mlp(tokens)))), (key, value)

    def remember(self, memory: Tensor) -> KeysValues:
        """Return keys and values of another encoding's tokens (R, M, D)."""
        key, value = self._heads(self.kv(memory), 2)
        return key, value

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return Heads.apply(x.unflatten(-1, (parts, self.heads, -1)))


class Decoder(nn.Module):
    """`depth` blocks over the embeddings of `vocab_size` words, which also name the next word (weights are tied).

    `longest` is the most words that it can read. Blocks that `read` attend to another encoding too. Raises RequestError
    where `dim` does not divide into `heads`.
    """

    def __init__(self, vocab_size: int, dim: int, depth: int, heads: int, longest: int, reads: bool):
        super().__init__()
        if dim % heads:
            raise RequestError(f"dim={dim} does not divide into heads={heads}.")
        self.embedding = nn.Embedding(vocab_size, dim)
        self.positions = nn.Parameter(torch.empty(longest, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, depth, reads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def start(self, tokens: Tensor, mask: Tensor) -> State:
        """Return the state of having read nothing, before another encoding: `tokens (R, M, D)`, `mask (R, M)`."""
        memory = tuple(block.remember(tokens) for block in self.blocks)  # type: ignore[operator]
        return State(mask[:, :0], memory=memory, memory_mask=mask)

    def embed(self, ids: Tensor, place: int = 0) -> Tensor:
        """Return the tokens (R, N, D) of words `ids (R, N)`, the first of which stands at `place` of the text."""
        return self.embedding(ids) + self.positions[place : place + ids.shape[1]]

    def forward(self, tokens: Tensor, seen: Tensor, state: State) -> tuple[Tensor, State]:
        """Return what is known after each of `tokens (R, N, D)`, and the state with their keys and values.

        `seen (R, N, L + N)`, or `(1, N, L + N)`, says what each token may look at: L tokens of the state, then these.
        """
        own = []
        for i, block in enumerate(self.blocks):
            past = state.own[i] if state.own else None
            tokens, kept = block(tokens, seen, past, state.memory[i] if state.memory else None, state.memory_mask)
            own.append(kept)
        return self.norm(tokens), replace(state, own=tuple(own))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return how likely each word comes next: (..., D) -> (..., vocab_size)."""
        return F.linear(hidden, self.embedding.weight)

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more word of each row, `ids (R,)`; return the logits (R, vocab_size) of the next, and the new state."""
        real = torch.cat([state.real, torch.ones_like(ids, dtype=torch.bool)[:, None]], 1)
        hidden, after = self(self.embed(ids[:, None], state.words), real[:, None], state)
        return self.logits(hidden[:, 0]), replace(after, real=real, words=state.words + 1)


def causal(length: int, device: torch.device) -> Tensor:
    """Return (1, N, N): each token sees itself and those before it."""
    return torch.ones(1, length, length, dtype=torch.bool, device=device).tril()
