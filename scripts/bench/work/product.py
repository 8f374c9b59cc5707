"""Print the GFLOP a second of the best product of two square bf16 matrices, of the sizes that are given, on all cores."""

import sys
import time

import torch


def rate(size: int) -> float:
    """Return that of one size, the best of several."""
    a, b = (torch.randn(size, size).bfloat16() for _ in range(2))
    times = []
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times) / 1e9


print(max(rate(int(size)) for size in sys.argv[1:]))
