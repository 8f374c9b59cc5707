"""Prompt tuning (arXiv:2104.08691); of pictures visual prompt tuning, VPT-shallow (arXiv:2203.12119)."""

from typing import Any

from torch import nn

from mmexp.adapters.prompts import put_prompts
from mmexp.types import PositiveFloat, PositiveInt


class PromptTuning:
    """Freeze a tower and train `count` vectors at its input, which start `spread` wide."""

    needs_weights = True
    towers_only = True
    added = ".adapter.prompt_tuning."

    def __init__(self, count: PositiveInt = 8, spread: PositiveFloat = 0.02):
        self.count, self.spread = count, spread

    def apply(self, name: str, part: nn.Module) -> None:
        """Put the vectors there. Raises RequestError where the tower takes none."""
        put_prompts("prompt_tuning", name, part, self.count, self._vectors)

    def _vectors(self, width: int) -> nn.Module:
        from peft import PromptEmbedding, PromptTuningConfig

        config = PromptTuningConfig(num_virtual_tokens=self.count, token_dim=width, num_transformer_submodules=1)
        vectors: Any = PromptEmbedding(config, None)
        nn.init.normal_(vectors.embedding.weight, std=self.spread)
        made: nn.Module = vectors
        return made

    def merge(self, part: nn.Module) -> None:
        """The vectors stay where they are."""
