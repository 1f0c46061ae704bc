"""Runs a command: what it says when it ends, and its exit status."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tsdlab.errors import TsdlabError, shown

_OUT_OF_MEMORY = (
    "out of memory; smaller batches and smaller images need less (train.batch_size, which the learning rate follows, "
    "image.min_size and image.max_size of a run, --batch-size and --min-sizes of eval), and so do narrower layers"
)


def run(args: Sequence[str] | None) -> None:
    """Run the command line `args`, by default that of the process; see `tsdlab.cli.main` for how it exits."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack ×, and file names may have no characters
        sys.stdout.reconfigure(errors="backslashreplace")
    with _noticing_ctrl_c() as pressed:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_: print(f"tsdlab: warning: {message}", file=sys.stderr)
                try:
                    _parse_and_run(sys.argv[1:] if args is None else list(args))
                finally:
                    sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
            _discard_unwritable_output()
            sys.exit(1)
        except Exception as error:
            if pressed.is_set():  # a module that was interrupted while it was imported says it in its own way
                sys.exit(128 + signal.SIGINT)
            message = _message(error)
            if message is None:
                raise
            print(f"tsdlab: {message}", file=sys.stderr)
            _discard_unwritable_output()
            sys.exit(1)


@contextmanager
def _noticing_ctrl_c() -> Iterator[threading.Event]:
    """Inside the block, the yielded event is set once Ctrl-C has been pressed. It still raises KeyboardInterrupt."""
    pressed = threading.Event()
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is not signal.default_int_handler:
        yield pressed
        return

    def notice(signum: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(signum, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _discard_unwritable_output() -> None:
    """Python would try again to write it at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class of its own for devices only; its allocator on the CPU raises a RuntimeError."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    return "out of memory" in str(error) or "can't allocate memory" in str(error)


def _parse_and_run(args: list[str]) -> None:
    from tsdlab.cli.parsing import parse
    from tsdlab.memory import keep_freed_memory

    command = parse(args)
    keep_freed_memory()
    command.run(shlex.join(["tsdlab", *args]))


def _message(error: Exception) -> str | None:
    """What the user is told; None for what is not theirs to mend."""
    from urllib.error import URLError

    if isinstance(error, TsdlabError):
        return str(error)
    if isinstance(error, URLError):
        return (
            f"cannot download: {error.reason}. Without a network give a local file: --weights, --imagenet or --source "
            "FILE.pth"
        )
    if _is_out_of_memory(error):
        return _OUT_OF_MEMORY
    if not isinstance(error, OSError) or error.strerror is None:  # not raised by the operating system
        return None
    paths = [shown(path) for path in (error.filename, error.filename2) if path is not None]
    return ": ".join([" → ".join(paths), error.strerror] if paths else [error.strerror])
