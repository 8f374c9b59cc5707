"""LoRA (arXiv:2106.09685) by peft: frozen weights, each with a trained low-rank update beside it."""

from typing import Any, ClassVar

from torch import nn

from mmexp.adapters.layers import Named, key_of, targets_of
from mmexp.adapters.peft_layers import inject, merge, pattern_of
from mmexp.errors import RequestError
from mmexp.types import Fraction, PositiveInt


class Lora:
    """Wrap the layers that a part names as its `adapter_targets`, or those matching `targets` (a regular expression).

    A starts Kaiming-uniform (peft's default) and B zero, so the adapted model starts as the one it was made from. The update
    is scaled by alpha / rank.
    With `last` only layers of the last so many blocks are wrapped: what lies below them is frozen as it was.
    """

    needs_weights = True
    added = ".lora_"
    variant: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        rank: PositiveInt = 8,
        alpha: PositiveInt = 16,
        dropout: Fraction = 0.0,
        targets: str | None = None,
        last: PositiveInt | None = None,
    ):
        self.rank, self.alpha, self.dropout, self.targets, self.last = rank, alpha, dropout, targets, last

    def apply(self, name: str, part: nn.Module) -> None:
        """Inject the low-rank layers and freeze the rest. Raises RequestError where nothing matches, or peft cannot."""
        from peft import LoraConfig

        layers = targets_of(name, part, self.targets, self.last)
        self.check(name, layers)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=pattern_of(layers),
            # Not "gaussian": its deviation of 1 / rank would cancel the scaling of rsLoRA.
            init_lora_weights=True,
            **self.variant,
        )
        inject(part, config)

    def check(self, name: str, layers: Named) -> None:
        """Raise RequestError for dropout on a fused attention, whose input no layer of ours sees."""
        fused = any(isinstance(layer, nn.MultiheadAttention) for layer in layers.values())
        if fused and self.dropout:
            raise RequestError(
                f"{key_of(name)}: dropout={self.dropout}, which peft does not have on the fused attention of {name}. "
                "Set dropout to 0."
            )

    def merge(self, part: nn.Module) -> None:
        """Fold every update into its weight."""
        merge(part)
