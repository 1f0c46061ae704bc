"""Which files of a folder are images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tsdlab.errors import DataError, InputError, MissingFileError, shown

_WANTED = "give image files, folders, patterns, or text files with one image a line"

_LONGEST_LIST = 100_000_000  # bytes

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


def find_images(words: Sequence[str], leave_out: Path | None = None) -> list[Path]:
    """The image files that a user means, each once, in the order of `words`.

    Args:
        words: each an image file; a folder, of which all images are taken, those of its subfolders too; a pattern such
            as "photos/*.jpg" or "photos/**/*.jpg"; or a text file with one image file a line.
        leave_out: a folder whose files are not taken from folders and patterns.

    Raises:
        MissingFileError: there is no such file, or a folder or pattern has no images; names it.
        InputError: a word is empty or a file is no image.
    """
    found: dict[str, Path] = {}
    barred = None if leave_out is None else leave_out.resolve()
    for word in words:
        for path in _images_of(word, barred):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - Path.resolve would follow links
    return list(found.values())


def _images_of(word: str, barred: Path | None) -> list[Path]:
    path = Path(word)
    if not word.strip():
        raise InputError(f"an empty name of an image; {_WANTED}")
    if path.is_dir():
        found = [file for file in files_below(path) if is_image_name(file) and not _is_below(file, barred)]
    elif path.is_file() or path.is_symlink():
        if path.suffix.lower() == ".txt":
            found = _listed(path)
        elif is_image_name(path) or _is_image(path):
            found = [path]
        else:
            raise InputError(f"{shown(path)} is not an image; {_WANTED}")
    elif any(character in word for character in "*?["):
        matches = [Path(name) for name in glob.glob(word, recursive=True)]  # noqa: PTH207 - of any folder
        matches.sort(key=lambda file: (len(file.parts), file))
        usable = [file for file in matches if is_image_name(file) and file.is_file() and not _is_below(file, barred)]
        found = list({file.resolve(): file for file in reversed(usable)}.values())[::-1]  # ** follows links in circles
    else:
        raise MissingFileError(f"there is no file or folder {shown(path)}; {_WANTED}")
    if not found:
        raise MissingFileError(f"{shown(path)} has no images; {_WANTED}")
    return found


def _listed(file: Path) -> list[Path]:
    """The lines of a text file: paths as they are, or from the file's folder."""
    if not file.is_file():  # it is a link
        raise MissingFileError(f"{shown(file)} leads to no file; {_WANTED}")
    if file.stat().st_size > _LONGEST_LIST:
        raise InputError(f"{shown(file)} has more than {_LONGEST_LIST // 10**6} MB, too many for a list of images")
    lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    paths = [Path(line.strip()) for line in lines if line.strip()]
    # os.path.exists: unlike that of a Path, it is False for what cannot be a path, such as a text of 5,000 characters.
    return [path if _exists(path) or not _exists(file.parent / path) else file.parent / path for path in paths]


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110


def _is_below(file: Path, folder: Path | None) -> bool:
    return folder is not None and file.resolve().is_relative_to(folder)


def _is_image(path: Path) -> bool:
    """Whether a file with an unusual name is an image."""
    from tsdlab.data.images import inspect_image

    try:
        inspect_image(path)
    except DataError:
        return False
    return True
