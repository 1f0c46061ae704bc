"""Errors that a user can mend: one base class, so that the command line shows them in one line and nothing else.

Anything else that is raised is a fault of the program and keeps its traceback. The classes also inherit from Python's
own (`ValueError`, `FileNotFoundError`, …), so that code which catches those keeps working.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from pathlib import PurePath


class TsdlabError(Exception):
    """Base of every error that a user can mend. The message names what was given and says what to do."""


class InputError(TsdlabError, ValueError):
    """An argument, a field of a config or a shape cannot be used; the message names it."""


class DataError(InputError):
    """A data set cannot be used as it is; the message names the file and the entry, and says what to do."""


class WeightsError(InputError):
    """A weights file cannot be read, or does not fit; the message names the file and the tensors."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, or does not belong to the run that asks for it."""


class MissingFileError(TsdlabError, FileNotFoundError):
    """There is no such file or folder; the message says what was looked for."""


class ExistingFileError(TsdlabError, FileExistsError):
    """Something is already where a file or folder would be written; nothing was changed."""


class BusyFolderError(TsdlabError, BlockingIOError):
    """Another process writes to this folder; nothing was changed."""


class LoaderError(TsdlabError, RuntimeError):
    """A process that loads images has died, or memory that it shares ran out; says what to do."""


class NonFiniteLossError(TsdlabError, RuntimeError):
    """Training has diverged; the message names the step and the losses."""


def shown(value: object, limit: int = 240) -> str:
    """How a message shows what a user gave: on one line and shortened in the middle.

    Strings and paths stand as they are, anything else as its `repr`. Characters that a terminal cannot print, such as
    line breaks or the bytes of a name that is not UTF-8, are escaped.
    """
    try:
        text = value if isinstance(value, str) else str(value) if isinstance(value, PurePath) else repr(value)
    except Exception:  # Python refuses to print whole numbers of more than 4,300 digits
        text = f"a value of type {type(value).__name__} that cannot be printed"
    head, tail = limit // 2, limit // 4
    if len(text) > limit:
        text = f"{text[:head]}…{text[-tail:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_value(value: object, limit: int = 100) -> str:
    """As `shown`, with quotes around a string."""
    return repr(shown(value, limit)) if isinstance(value, str) else shown(value, limit)


def listed(
    values: Collection[object],
    most: int = 5,
    separator: str = ", ",
    last: str = " and ",
    limit: int = 240,
    count: int | None = None,
) -> str:
    """The first few values, and how many more there are: "a, b, c, d, e and 2 more".

    Args:
        values: each is `shown`.
        most: that many are spelled out.
        separator: stands between two of them.
        last: stands before the number of the others.
        limit: characters of a value.
        count: how many there are, if `values` are only the first of them.
    """
    first = [shown(value, limit) for value in islice(values, most)]
    others = (len(values) if count is None else count) - len(first)
    return separator.join(first) + (f"{last}{others:,} more" if others else "")
