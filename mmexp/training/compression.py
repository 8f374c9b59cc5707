"""What a run keeps of how its weights were made smaller."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Compression:
    """With `shapes` loaded, layers are as wide as those of the weights that a run starts from, own: as the configuration says.

    With `zeros` kept, weights that are zero there stay zero. `quantize` is what linear layers compute with when the run is
    measured and used, `aware` that they are trained as if they did.
    """

    shapes: Literal["own", "loaded"] = "own"
    zeros: Literal["free", "kept"] = "free"
    quantize: Literal["int8", "int8_static", "int8_mixed", "int8_weights", "int4_weights"] | None = None
    aware: bool = False
