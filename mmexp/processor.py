"""What the processor at hand computes natively."""

from functools import cache

import torch


@cache
def has_bf16() -> bool:
    """Tell whether this CPU multiplies matrices in bfloat16 itself (avx512_bf16, which AMX comes with), not by emulation.

    Returns:
        False too where `ATEN_CPU_CAPABILITY` keeps PyTorch below AVX-512.
    """
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()
