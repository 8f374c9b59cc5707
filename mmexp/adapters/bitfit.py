"""BitFit: biases alone are trained (arXiv:2106.10199)."""

from torch import nn

from mmexp.adapters.layers import instead, is_bias, key_of
from mmexp.errors import RequestError


class BitFit:
    """Train all biases of a part, those of norms among them, and nothing else."""

    needs_weights = True
    added = None
    full_rate = True  # the paper's rates are 1e-4 to 1e-3 (appendix A), those of full fine-tuning 1e-5 to 5e-5

    def apply(self, name: str, part: nn.Module) -> None:
        """Freeze all but the biases. Raises RequestError where there is none."""
        part.requires_grad_(False)
        biases = [p for own, p in part.named_parameters() if is_bias(own)]
        if not biases:
            raise RequestError(f"{key_of(name)}: {name} has no biases to train. {instead(name, part)}")
        for bias in biases:
            bias.requires_grad_(True)

    def merge(self, part: nn.Module) -> None:
        """Nothing was added, nothing is merged."""
