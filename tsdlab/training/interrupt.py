"""SIGTERM and Ctrl-C as a request: a training finishes its step, saves and leaves."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Remembers the first SIGTERM or Ctrl-C; a second one, of either kind, raises KeyboardInterrupt.

    So whoever does not want to wait for the end of the step leaves at once, and without saving.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._act: Callable[[], None] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            signal.default_int_handler(signum, frame)  # raises KeyboardInterrupt
        self.signum = signum
        if self._act is not None:
            self._act()

    @contextmanager
    def at_once(self, act: Callable[[], None]) -> Iterator[None]:
        """Call `act` as soon as a signal comes, instead of leaving it to the end of the step."""
        self._act = act
        try:
            if self.signum is not None:
                act()
            yield
        finally:
            self._act = None


@contextmanager
def catch_signals() -> Iterator[Stop]:
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers; there the caller decides how to stop
        return
    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def leave_process_group(worker: int) -> None:
    """Keep Ctrl-C, sent to the whole group, from a loader's process: the main one decides when to stop."""
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)
