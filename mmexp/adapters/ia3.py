"""(IA)^3 (arXiv:2205.05638) by peft: trained factors on keys, values and what goes into the end of an MLP."""

from torch import nn

from mmexp.adapters.layers import instead, key_of, keys_and_values, mlp_ends, targets_of
from mmexp.adapters.peft_layers import inject, merge, pattern_of, refuse_fused
from mmexp.errors import RequestError


class IA3:
    """One factor, from 1 on, for each output of the layers of keys and values and each input of the layers that end MLPs.

    Where one layer makes queries too, these are scaled with the others. A part of convolutions has its outputs scaled.
    `targets` is a regular expression of the layers to scale instead; those of them that end an MLP are scaled at their input.
    """

    needs_weights = True
    added = ".ia3_"

    def __init__(self, targets: str | None = None):
        self.targets = targets

    def apply(self, name: str, part: nn.Module) -> None:
        """Inject the factors and freeze the rest. Raises RequestError where nothing matches, or peft cannot."""
        from peft import IA3Config

        known = targets_of(name, part, self.targets)
        refuse_fused(name, known, "(IA)^3")
        ends, keys = mlp_ends(part), keys_and_values(part)
        convolutions = all(isinstance(layer, nn.Conv2d) for layer in known.values())
        layers = known if self.targets or convolutions else {**keys, **ends}
        if not layers:
            raise RequestError(
                f"{key_of(name)}: {name} has no keys and values, and no MLPs in blocks. {instead(name, part)}"
            )
        inputs = {n: layer for n, layer in layers.items() if n in ends}
        inject(part, IA3Config(target_modules=pattern_of(layers), feedforward_modules=pattern_of(inputs) or "(?!)"))

    def merge(self, part: nn.Module) -> None:
        """Multiply every factor into its weight."""
        merge(part)
