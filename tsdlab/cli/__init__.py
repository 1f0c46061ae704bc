"""The command line, `tsdlab data|train|eval|detect|analyze|weights`.

A command is a dataclass with a `run`, in a file of its own. `run` gets the command line that it was called by, for
results that record it, and imports what it needs: help has to answer before torch is imported.

This file is what the entry point imports first. It imports nothing that takes time before Ctrl-C is handled.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence

from tsdlab.errors import TsdlabError

_OUT_OF_MEMORY = (
    "out of memory; smaller batches and smaller images need less (train.batch_size, image.min_size and image.max_size "
    "of a run, --batch-size and --min-sizes of eval), and so do narrower layers"
)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: exits 0, 1 after an error that the user can mend, 2 on wrong usage, 128 + signal when stopped."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"tsdlab: warning: {message}", file=sys.stderr)
            _run(sys.argv[1:] if args is None else list(args))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (TsdlabError, OSError) as error:
        message = _message(error)
        if message is None:
            raise
        print(f"tsdlab: {message}", file=sys.stderr)
        sys.exit(1)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        print(f"tsdlab: {_OUT_OF_MEMORY}", file=sys.stderr)
        sys.exit(1)


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class of its own for devices only; its allocator on the CPU raises a RuntimeError."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _run(args: list[str]) -> None:
    from tsdlab.cli.parsing import parse
    from tsdlab.memory import keep_freed_memory

    command = parse(args)
    keep_freed_memory()
    command.run(shlex.join(["tsdlab", *args]))


def _message(error: TsdlabError | OSError) -> str | None:
    """What the user is told; None for what is not theirs to mend."""
    from urllib.error import URLError

    if isinstance(error, TsdlabError):
        return str(error)
    if isinstance(error, URLError):
        return f"cannot download: {error.reason}. Without a network give a local file: --weights or --source FILE.pth"
    if error.strerror is None:  # not raised by the operating system
        return None
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return ": ".join([" → ".join(paths), error.strerror] if paths else [error.strerror])
