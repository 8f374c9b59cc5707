"""rsLoRA (arXiv:2312.03732) by peft: LoRA whose updates do not shrink as the rank grows."""

from typing import Any, ClassVar

from mmexp.adapters.lora import Lora


class RsLora(Lora):
    """As `Lora`, with updates scaled by alpha / sqrt(rank)."""

    variant: ClassVar[dict[str, Any]] = {"use_rslora": True}
