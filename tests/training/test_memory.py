"""Memory that a step gave back is there for the next one, without the system."""

import subprocess
import sys

import pytest

# The faults of taking a large tensor fifty times; the first is not counted.
TAKEN = """
import resource, sys, torch
from mmexp.training.memory import keep_freed_memory
known = sys.argv[1] == "kept" and keep_freed_memory()
def take():
    # More than glibc's own threshold ever becomes, so that by default the system is asked each time.
    torch.ones(48 * 2**18)
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    take()
print(int(known), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_large_tensors_are_taken_without_page_faults():
    told = [subprocess.check_output([sys.executable, "-c", TAKEN, how], text=True) for how in ("given", "kept")]
    (_, given), (known, kept) = (map(int, line.split()) for line in told)
    if not known:
        pytest.skip("another allocator")
    assert given > 50 * 1000
    # Not none: a few are taken before the holes are large enough for the next ones.
    assert kept < given / 5
