"""Learned vectors at the input of a tower: as words of a text, or in front of the tokens of a picture or a sound."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.adapters.front import no_tokens, token_width, tried, with_front, without_front
from mmexp.adapters.layers import blocks_of, key_of, own
from mmexp.attention import places_of
from mmexp.errors import RequestError
from mmexp.types import Encoded, Prepared


class Prompts(nn.Module):
    """`count` vectors that `vectors`, of the peft library, gives for their numbers.

    In texts they stand behind the mark of the begin, each as far from the mask mark's vector as was learned, so that the tower
    sees words; elsewhere in front of what the first block takes, and behind the last they are gone (VPT-shallow).
    """

    def __init__(self, vectors: nn.Module, count: int):
        super().__init__()
        self.vectors, self.count = vectors, count
        self.mask_token_id, self.first = 0, 0

    def no_weight_decay(self) -> set[str]:
        """Return the prompts; the network of P-tuning that makes them of its inputs decays."""
        return {"vectors.embedding.weight"}

    def now(self) -> Tensor:
        """Return the vectors (P, D) as they are."""
        return self.vectors(torch.arange(self.count, device=next(self.parameters()).device))

    def in_texts(self, tower: Any) -> None:
        """Stand among the words of a text encoder, whose texts become so much shorter."""
        bare = tower.prepare([""])["ids"][0]
        self.first = int(len(bare) > 0 and int(bare[0]) == tower.marks.begin)
        self.mask_token_id = tower.mask_token_id
        tower.context -= self.count
        tower.register_forward_pre_hook(self.among_words)
        tower.register_forward_hook(self.words_alone)

    def among_words(self, _: nn.Module, args: tuple[Prepared]) -> tuple[Prepared]:
        """Return a prepared text with room for the vectors, and these as `added` there."""
        (prepared,) = args
        ids, mask, vectors = prepared["ids"], prepared["mask"], self.now()
        added = prepared.get("added")
        if added is None:
            added = vectors.new_zeros(*ids.shape, vectors.shape[-1])
        return (
            {
                "ids": self._among(ids, ids.new_full((self.count,), self.mask_token_id)),
                "mask": self._among(mask, mask.new_ones(self.count)),
                "added": self._among(added, vectors),
            },
        )

    def _among(self, rows: Tensor, put: Tensor) -> Tensor:
        put = put.to(rows.dtype).expand(len(rows), *put.shape)
        return torch.cat([rows[:, : self.first], put, rows[:, self.first :]], 1)

    def words_alone(self, _: nn.Module, args: Any, encoded: Encoded) -> Encoded:
        """Return the encoding of the words; what was pooled saw all."""
        end = self.first + self.count
        tokens, mask = (torch.cat([x[:, : self.first], x[:, end:]], 1) for x in (encoded.tokens, encoded.mask))
        return Encoded(tokens, encoded.pooled, mask, encoded.parts, encoded.present)

    def in_blocks(self, tower: nn.Module) -> None:
        """Stand in front of the tokens from the first block to the last."""
        blocks = list(blocks_of(tower).values())
        for block in blocks:
            put = self.enter if block is blocks[0] else self.stay
            block.register_forward_pre_hook(put, with_kwargs=True)
        blocks[-1].register_forward_hook(self.leave)

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of the first block, with the vectors."""
        return with_front(args, kwargs, self.now())

    def stay(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of a later block: its tokens have the vectors, and what is said of them is to hold for these too."""
        if args[0].dim() > 2:
            return args, kwargs
        mask = F.pad(args[1], (self.count, 0), value=True)
        return (args[0], mask, places_of(mask), *args[3:]), kwargs

    def leave(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """What the last block gave, without the vectors."""
        return without_front(args, output, self.count)


def put_prompts(kind: str, name: str, part: Any, count: int, make: Callable[[int], nn.Module]) -> None:
    """Freeze a part and give it `count` prompts, whose vectors `make(width)` makes. Raises RequestError where none can stand."""
    part.requires_grad_(False)
    texts = getattr(part, "modality", None) == "text"
    if texts and getattr(part, "word_dim", None) is None:
        raise no_tokens(name, part, "it takes words alone, and no vectors")
    if texts and part.context < 2 * count:
        raise RequestError(
            f"{key_of(name)}: {count} prompts leave no room for words: a text has at most {part.context} tokens."
        )
    prompts = Prompts(make(part.word_dim if texts else token_width(name, part)), count)
    own(part, kind, prompts)
    (prompts.in_texts if texts else prompts.in_blocks)(part)
    tried(name, part)
