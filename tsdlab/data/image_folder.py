"""Which file an entry of "images" means."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PureWindowsPath

from tsdlab.data.images import inspect_image
from tsdlab.errors import DataError, shown


class NotFound(Exception):
    """An entry without a usable file: the kind of fault, the name of the file and what to do, for a message."""

    def __init__(self, kind: str, where: str, what: str) -> None:
        super().__init__(kind, where, what)
        self.kind, self.where, self.what = kind, where, what


class ImageFolder:
    """The image folder of a split.

    A name may contain subfolders, written with / or with the \\ of Windows. It never leaves the folder. The folder, its
    subfolders and the images themselves may be links to other places.

    Every folder is listed once: that is much faster than looking for each image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listings: dict[Path, dict[str, bool]] = {}  # name → whether it is a file, not a link or anything else

    def locate(self, file_name: str) -> Path:
        """The file that an entry names.

        Raises:
            NotFound: there is none, it is not a file, or the name leaves the folder.
        """
        names = [file_name, file_name.replace("\\", "/")] if "\\" in file_name else [file_name]
        for name in names:
            path = self._within(name)
            if path is not None and self._found(path):
                return path
        if _leaves(names[-1]) or PureWindowsPath(file_name).is_absolute():
            raise NotFound(
                "outside",
                f"image file name {shown(repr(file_name), 120)}",
                f" leaves the folder of the split; move the image to {shown(self.folder)}, or link it from there, "
                "and name it relative to that folder",
            )
        raise self._absence(self.folder / os.path.normpath(names[-1]))

    def _within(self, name: str) -> Path | None:
        return None if _leaves(name) else self.folder / os.path.normpath(name)

    def _found(self, path: Path) -> bool:
        """Whether there is such a file; NotFound if there is something else."""
        listing = self._listing(path.parent)
        if path.name not in listing:
            return False
        if not listing[path.name] and not os.path.isfile(path):  # noqa: PTH113 - never raises, unlike Path's
            try:
                inspect_image(path)
            except DataError as error:
                name = shown(path)
                raise NotFound("not a file", f"image {name}", str(error).removeprefix(name)) from error
        return True

    def _absence(self, path: Path) -> NotFound:
        where, folder = f"image {shown(path)}", path.parent
        if not self._listing(folder):
            return NotFound("folder", where, f" does not exist: {shown(folder)} {_state(folder)}; put the images there")
        # File systems and archives write é as one character or as two, and some ignore case.
        alike = [name for name in self._listings[folder] if _folded(name) == _folded(path.name)]
        hint = f"there is {shown(alike[0])}: correct the name" if alike else "add the file or remove its entry"
        return NotFound("absent", where, f" does not exist; {hint}")

    def _listing(self, folder: Path) -> dict[str, bool]:
        if folder not in self._listings:
            try:
                with os.scandir(folder) as entries:
                    found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
            except OSError:  # no such folder, or it must not be read: its images are not there
                found = {}
            self._listings[folder] = found
        return self._listings[folder]


def _state(folder: Path) -> str:
    """Why a folder has no images."""
    if not os.path.lexists(folder):
        return "does not exist"
    if not folder.is_dir():
        return "is a link to nothing" if folder.is_symlink() else "is not a folder"
    return "is empty" if os.access(folder, os.R_OK | os.X_OK) else "cannot be read"


def _leaves(name: str) -> bool:
    """Whether a path leads out of the folder that it starts in, or to the folder itself."""
    normal = os.path.normpath(name)
    return Path(name).is_absolute() or Path(normal).parts[:1] == ("..",) or normal == os.curdir


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
