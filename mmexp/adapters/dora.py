"""DoRA (arXiv:2402.09353) by peft: a weight's direction is updated as in LoRA, its length is trained beside it."""

from typing import Any, ClassVar

from mmexp.adapters.layers import Named
from mmexp.adapters.lora import Lora
from mmexp.adapters.peft_layers import refuse_fused


class DoRA(Lora):
    """As `Lora`, with a trained length for each output of a layer."""

    variant: ClassVar[dict[str, Any]] = {"use_dora": True}

    def check(self, name: str, layers: Named) -> None:
        """Raise RequestError for a fused attention."""
        refuse_fused(name, layers, "DoRA")
