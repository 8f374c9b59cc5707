"""Bottleneck adapters (Houlsby, arXiv:1902.00751), one a block behind its MLP (Pfeiffer, arXiv:2005.00247)."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.adapters.layers import instead, key_of, mlp_ends, own
from mmexp.errors import RequestError
from mmexp.types import PositiveInt


class Bottleneck:
    """A small MLP of `width` behind the MLP of every block, before the residual sum; it starts as the identity."""

    needs_weights = True
    added = ".adapter.bottleneck."

    def __init__(self, width: PositiveInt = 24):
        self.width = width

    def apply(self, name: str, part: nn.Module) -> None:
        """Hang one behind each MLP and freeze the rest. Raises RequestError where there are none."""
        ends = mlp_ends(part)
        if not ends:
            raise RequestError(
                f"{key_of(name)}: {name} ({type(part).__name__}) has no blocks with MLPs for bottlenecks. "
                f"{instead(name, part)}"
            )
        part.requires_grad_(False)
        layers = [Narrow(int(str(end.out_features)), self.width) for end in ends.values()]
        for end, layer in zip(ends.values(), layers, strict=True):
            end.register_forward_hook(layer.behind)
        own(part, "bottleneck", nn.ModuleList(layers))

    def merge(self, part: nn.Module) -> None:
        """Nothing can be folded into a weight: there is an activation between."""


class Narrow(nn.Module):
    """Down to `width`, GELU, and up again from zeros, added to what goes in."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.down, self.up = nn.Linear(dim, width), nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (..., dim) as it came in."""
        return tokens + self.up(F.gelu(self.down(tokens)))

    # A method, no closure: a copy of the tower then calls the copy of this layer.
    def behind(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The forward hook of the layer that this one stands behind."""
        return self(output)
