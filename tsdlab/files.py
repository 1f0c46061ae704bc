"""Writing files so that they are never incomplete: a reader sees the old content or the new one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tsdlab.errors import ExistingFileError, MissingFileError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a new version of `path`: yields a binary file, which replaces `path` when the block ends.

    The bytes are on the disk (fsync of file and folder) before the file gets its name, so neither a killed process nor
    a power cut leaves an incomplete file. After an exception inside the block, `path` is as it was before.

    Args:
        path: the file; its folder must exist.
    """
    # One fixed name: a killed process leaves it behind, and the next write to `path` overwrites it.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def require_place(path: Path) -> None:
    """Check that a file can be called `path`, before the work that it will hold is done.

    Raises:
        MissingFileError: its folder does not exist.
        ExistingFileError: it is a folder.
    """
    if path.is_dir():
        raise ExistingFileError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise MissingFileError(f"there is no folder {path.parent} to write {path.name} to")


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its renames need no fsync
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as indented JSON, UTF-8, with `atomic_write`."""
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n")
