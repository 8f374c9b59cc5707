"""Print the GFLOP a second of the best product of two square matrices, of a precision and the sizes given, on all cores."""

import sys
import time

import torch


def rate(size: int, dtype: torch.dtype) -> float:
    """Return that of one size, the best of several."""
    a, b = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times) / 1e9


precision, *sizes = sys.argv[1:]
print(max(rate(int(size), torch.bfloat16 if "bf16" in precision else torch.float32) for size in sizes))
