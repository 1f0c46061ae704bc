"""Faster allocation on a CPU: freed memory is kept for reuse instead of being returned to the system.

glibc requests each large block from the system and returns it when it is freed. A training step allocates and frees
hundreds of them, and each time the system has to supply and zero their pages again. `benchmarks/roi_ops.py` measures
how fast a new result is written with and without this.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """From now on, let this process keep the memory that it frees.

    This cannot be undone: the process stays as large as it was at its largest. The command line and the benchmarks
    call it; `train` does not, because it also runs in notebooks. Call it in a notebook's first cell to train faster.

    Returns:
        Whether it took effect. It does nothing if the C library is not glibc, or if the environment already says how to
        allocate (`MALLOC_…`, see mallopt(3)).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
