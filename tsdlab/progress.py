"""The progress bar of everything that goes over images and leaves nothing but its result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# Seconds between two states of a bar. Where they do not overwrite each other, in a log or a notebook, fewer will do.
PROGRESS_INTERVAL = 0.5 if os.isatty(2) else 10.0
# Seconds until a bar appears: what is over sooner needs none, and in a notebook a bar leaves an empty line behind.
_DELAY = 3.0


class Bar(tqdm):
    """A bar of tqdm that does not end the work if nobody can read it: a pipe or a terminal that was closed."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Called by tqdm for the function that shows a state of the bar."""
        try:
            show = tqdm.status_printer(file)
        except OSError:
            return lambda text: None

        def show_if_possible(text: str) -> None:
            with suppress(OSError):
                show(text)

        return show_if_possible

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def progress_bar(items: Iterable[T], name: str, total: int | None = None, shown: bool = True) -> tqdm[T]:
    """`items` with a bar on standard error that vanishes at the end.

    Args:
        total: how many there are, if `items` has no length.
    """
    return Bar(items, name, total, disable=not shown, leave=False, mininterval=PROGRESS_INTERVAL, delay=_DELAY)
