"""Stopping a run with Ctrl-C, SIGTERM or SIGHUP: it finishes its step, saves, and ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class TrainingInterrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP ended the run; everything up to `step` is saved.

    Attributes:
        signum: the signal's number.
        step: completed steps.
    """

    def __init__(self, signum: int, step: int, out: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; resume {out} with --resume")
        self.signum = signum
        self.step = step


class StopRequest:
    """A signal handler that remembers the first signal, so that the run can finish its step and save.

    The second signal raises KeyboardInterrupt: press Ctrl-C again to quit without saving.

    Attributes:
        signum: the number of the first signal; None until it comes.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._action: Callable[[], None] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            signal.default_int_handler(signum, frame)  # raises KeyboardInterrupt
        self.signum = signum
        if self._action is not None:
            self._action()

    @contextmanager
    def immediately(self, action: Callable[[], None]) -> Iterator[None]:
        """Inside the block, call `action` as soon as a signal comes, or now if one has come already."""
        self._action = action
        try:
            if self.signum is not None:
                action()
            yield
        finally:
            self._action = None


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Inside the block, Ctrl-C, SIGTERM and SIGHUP set the yielded request; afterwards the previous handlers are back.

    SIGHUP, which comes when the terminal is closed, stays ignored under nohup. In any thread but the main one nothing
    is caught: Python lets only the main thread set handlers.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not on Windows
        signals.append(signal.SIGHUP)
    previous = {signum: signal.signal(signum, stop) for signum in signals}
    try:
        yield stop
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
