"""Keep freed memory on a CPU: the system hands out fresh pages more slowly than a training step fills them.

glibc maps every large block anew and gives it back when it is freed. A step takes and frees hundreds, and each page of
each is faulted in and zeroed again. `benchmarks/roi_ops.py` measures how fast a new result is written with and without.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """From now on this process keeps the memory it has freed, for reuse; its size stays at its peak.

    Does nothing, and returns False, where the C library is not glibc or the environment says how it shall allocate
    (`MALLOC_…`, see mallopt(3)).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
