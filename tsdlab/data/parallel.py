"""Reading many images at once.

Threads do: reading waits for the disk, or for a network file system, and decoding does without the GIL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

_IMAGES_PER_TASK = 64
_THREADS = min(16, 2 * (os.cpu_count() or 1))
_Result = TypeVar("_Result")


def in_parallel(work: Callable[[int], _Result], images: Sequence[int] | np.ndarray) -> Iterator[_Result]:
    """The result for the index of every image, in order."""

    def work_on(start: int) -> list[_Result]:
        return [work(image) for image in images[start : start + _IMAGES_PER_TASK]]

    with ThreadPoolExecutor(_THREADS) as pool:
        for found in pool.map(work_on, range(0, len(images), _IMAGES_PER_TASK)):
            yield from found
