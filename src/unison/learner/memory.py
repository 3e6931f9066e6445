"""The C library's memory between two steps: kept, where giving it back would cost more than it saves.

glibc maps large pieces of memory one by one and gives the free end of its heap back to the system. A step on the CPU
frees its activations and needs as many in the next one, page by page from the system: with wide layers and large
minibatches a tenth of the time. What lies in larger pieces, such as a replay, is given back as before.
"""

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_LARGEST_PIECE = 32 << 20  # the most that glibc takes
_KEPT = 1 << 30


@cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed pieces of up to 32 MiB each, once; returns whether it does.

    Nothing changes where the C library is not glibc, or the user has set `MALLOC_...` or `GLIBC_TUNABLES`.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_PIECE) and mallopt(_TRIM_THRESHOLD, _KEPT))
