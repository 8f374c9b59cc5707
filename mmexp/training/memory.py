"""What a step gives back of the memory, the next one takes again: the system is not asked for it anew."""

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1
# The most that older glibc takes for the second.
_LARGEST_BEFORE = 2**25


def keep_freed_memory() -> bool:
    """Let this process keep what tensors on the CPU free; return whether its allocator can be told so.

    By default glibc gives large blocks back at once, so that the system clears the same pages again in each step: several tens
    of thousands of page faults. The most that is held stays what it was.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mapped = mallopt(_MMAP_THRESHOLD, _LARGEST) or mallopt(_MMAP_THRESHOLD, _LARGEST_BEFORE)
    return bool(mapped and mallopt(_TRIM_THRESHOLD, _LARGEST))
