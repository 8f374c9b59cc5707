"""FLOPs of whatever runs inside the counter; a multiplication and an addition are two."""

from typing import Any

from torch.ops import aten
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def _forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


# Attention on a CPU has kernels of its own, which torch has no formula for and would count as nothing.
_OF_CPUS = {
    aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}


def flop_counter() -> FlopCounterMode:
    """Return a context that counts the FLOPs of matrix products, convolutions and attention, forward and backward."""
    return FlopCounterMode(display=False, custom_mapping=dict(_OF_CPUS))
