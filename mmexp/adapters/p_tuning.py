"""P-tuning (arXiv:2103.10385): prompts that a small network makes, so that they learn together."""

from typing import Literal

from torch import nn

from mmexp.adapters.prompts import put_prompts
from mmexp.types import PositiveInt


class PTuning:
    """As prompt tuning, with `count` vectors that an MLP, or an LSTM and an MLP, of `hidden` makes of trained ones."""

    needs_weights = True
    towers_only = True
    added = ".adapter.p_tuning."

    def __init__(self, count: PositiveInt = 8, network: Literal["mlp", "lstm"] = "mlp", hidden: PositiveInt = 96):
        self.count, self.network, self.hidden = count, network, hidden

    def apply(self, name: str, part: nn.Module) -> None:
        """Put the vectors there. Raises RequestError where the tower takes none."""
        put_prompts("p_tuning", name, part, self.count, self._vectors)

    def _vectors(self, width: int) -> nn.Module:
        from peft import PromptEncoder, PromptEncoderConfig

        config = PromptEncoderConfig(
            num_virtual_tokens=self.count,
            token_dim=width,
            num_transformer_submodules=1,
            encoder_reparameterization_type=self.network.upper(),
            encoder_hidden_size=self.hidden,
            encoder_num_layers=2 if self.network == "mlp" else 1,
        )
        return PromptEncoder(config)

    def merge(self, part: nn.Module) -> None:
        """The network stays: what it makes is no weight of the tower."""
