"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` only when the block ends well; until then the old `path` stays.

    The bytes are on the disk (fsync of file and folder) before the name changes hands, so neither a killed
    process nor a power cut leaves a torn file. After a failure inside the block nothing is left behind.
    """
    # One fixed name: what a killed process leaves behind is overwritten by the next write, never piles up.
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


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is durable by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n")
