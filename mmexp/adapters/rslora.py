"""rsLoRA (arXiv:2312.03732) by peft: LoRA whose updates do not shrink as the rank grows."""

from typing import Any, ClassVar

from mmexp.adapters.lora import Lora
from mmexp.types import Fraction, PositiveInt


class RsLora(Lora):
    """As `Lora`, with updates scaled by alpha / sqrt(rank)."""

    variant: ClassVar[dict[str, Any]] = {"use_rslora": True}

    def __init__(
        self,
        rank: PositiveInt = 8,
        alpha: PositiveInt = 16,
        dropout: Fraction = 0.0,
        targets: str | None = None,
    ):
        super().__init__(rank, alpha, dropout, targets)
