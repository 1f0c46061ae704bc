"""The progress bar of everything that goes over images and leaves nothing but its result."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

# Seconds between two states of a bar. Where they do not overwrite each other, in a log or a notebook, fewer will do.
PROGRESS_INTERVAL = 0.5 if os.isatty(2) else 10.0
# Seconds until a bar appears: what is over sooner needs none, and in a notebook a bar leaves an empty line behind.
_DELAY = 3.0


def progress_bar(items: Iterable[T], name: str, total: int | None = None, shown: bool = True) -> tqdm[T]:
    """`items` with a bar on standard error that vanishes at the end.

    Args:
        total: how many there are, if `items` has no length.
    """
    return tqdm(items, name, total, disable=not shown, leave=False, mininterval=PROGRESS_INTERVAL, delay=_DELAY)
