"""Which files of a folder are images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)


def is_image_name(path: Path) -> bool:
    """Whether a file is called like an image; upper and lower case are the same."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and its subfolders, sorted by name; links are followed, hidden files are left out.

    Raises:
        OSError: a folder cannot be listed.
    """
    yield from _files_below(folder, frozenset())


def _files_below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that it is in
        return
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield from _files_below(folder / entry.name, above | {here})
        else:
            yield folder / entry.name
