"""What a reader finds in a folder of another format."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdlab.data.image_files import files_below, is_image_name
from tsdlab.data.images import inspect_image
from tsdlab.errors import DataError, shown

UNSEEN = "labels without an image, left out"
_SPLIT = re.compile(r"(train|val|test)(?:ing|id|idation)?[-_]?(\d{4})?", re.IGNORECASE)


def split_name(name: str) -> str | None:
    """The split that a folder or file is named after: "valid" and "val2017" are val. None if it is none."""
    found = _SPLIT.fullmatch(name)
    return found[1].lower() if found else None


def split_of_path(path: Path, root: Path) -> str | None:
    """The split that the first folder between `root` and the file is named after."""
    names = map(split_name, path.relative_to(root).parts[:-1])
    return next((name for name in names if name is not None), None)


@dataclass
class Found:
    """An object of an image."""

    name: str  # of its class
    box: Sequence[float]  # [x, y, width, height], pixels
    crowd: bool = False  # neither trained on nor counted as an error


@dataclass
class Picture:
    """An image and its objects."""

    path: Path
    size: tuple[int, int]  # (width, height), pixels
    split: str | None
    objects: list[Found]
    # Keys and values of its entry in a COCO file, and of its objects; None if it does not come from one.
    entry: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] | None = None


class Source:
    """A folder that is read: its image files, and what a reader has found.

    Attributes:
        root: the folder.
        files: every file in it that is not an image.
        pictures: what the reader found.
        categories: entries of a COCO file, in the order of their labels; readers that know only names give `names`.
        names: of the classes, in the order of their labels; others follow in alphabetical order.
        problems: what cannot be read: file, line and reason.
        unreadable: images that are damaged, or with a label that cannot be read. Without it they would teach that its
            object is background.
        unlabelled: images that no label is about.
        notes: remarks about what is left out or was decided, each with the files that it is about.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        found = list(files_below(root))
        # Reading a pipe or a device may never end; an image is opened with care (`inspect_image`).
        self.files = [path for path in found if not is_image_name(path) and path.is_file()]
        self.images = {path: None for path in found if is_image_name(path)}
        self.pictures: list[Picture] = []
        self.categories: list[dict[str, Any]] | None = None
        self.names: list[str] = []
        self.problems: list[str] = []
        self.unreadable: set[Path] = set()
        self.unlabelled: set[Path] = set()
        self.notes: dict[str, list[str]] = {}
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        self._by_place: dict[Path, list[Path]] = {}  # without the suffix
        for path in self.images:
            self._by_name.setdefault(same_name(path.name), []).append(path)
            self._by_stem.setdefault(same_name(path.stem), []).append(path)
            self._by_place.setdefault(path.with_suffix(""), []).append(path)
        for path in found:
            if not is_image_name(path) and not path.is_file():
                self.problem(path, "is not a file: a pipe, a device, or a link that leads nowhere")

    def note(self, what: str, where: str | None = None) -> None:
        """Note what is left out or decided, once more for every file `where`."""
        self.notes.setdefault(what, []).extend([] if where is None else [where])

    def remarks(self) -> list[str]:
        """The notes, a line each."""
        return [
            f"{what}: {len(places)}, such as {shown(places[0])}" if places else what
            for what, places in self.notes.items()
        ]

    def problem(self, where: Path, what: str, image: Path | None = None) -> None:
        """Note what cannot be read in a file; `what` begins with the line, if there is one.

        `image` is the one that it is about; None stands for the image of the same name, if there is one.
        """
        self.problems.append(f"{shown(where)}: {what}")
        image = image or self.find_image(where, where.stem)
        if image is not None:
            self.unreadable.add(image)

    def find_image(self, label_file: Path, name: str, folders: Iterable[Path] = ()) -> Path | None:
        """The image that a label file is about, if it can be told.

        Args:
            label_file: the file.
            name: what it calls the image, or its own name: the folder and the suffix may be wrong.
            folders: where the image may be, apart from usual places, best first.
        """
        relative = Path(name.replace("\\", "/"))
        for folder in (*folders, label_file.parent, self.root, self.root / "images"):
            candidate = folder / relative
            if candidate in self.images:
                return candidate
            beside = self._by_place.get(candidate, [])
            if len(beside) == 1:
                return beside[0]
        for table, key in (
            (self._by_name, relative.name),
            (self._by_stem, relative.name),  # it has no suffix, but may have a dot
            (self._by_stem, relative.stem),
        ):
            known = table.get(same_name(key), [])
            near = [path for path in known if _twins(path, label_file)] or known
            if len(near) == 1:
                return near[0]
        return None

    def add(self, path: Path, split: str | None, objects: list[Found], size: tuple[int, int] | None = None) -> None:
        """Add an image; `size` is what its label file says about it, if it does."""
        try:
            real = inspect_image(path, size)
        except DataError as error:
            self.problems.append(str(error))
            self.unreadable.add(path)
            return
        self.pictures.append(Picture(path, real, split, objects))

    def add_unlabelled(self, split_of: Callable[[Path], str | None] | None = None) -> None:
        """Add the images that no label file is about: they have no objects.

        `split_of` names the split of an image; None takes that of its folders.
        """
        known = {picture.path for picture in self.pictures} | self.unreadable
        for path in (path for path in self.images if path not in known):
            self.add(path, split_of_path(path, self.root) if split_of is None else split_of(path), [])
            self.unlabelled.add(path)


def box_around(points: Iterable[Sequence[float]]) -> list[float]:
    """[x, y, width, height] around points (x, y).

    Raises:
        ValueError: a coordinate is not finite, or there are fewer than two points.
    """
    places = [(float(x), float(y)) for x, y in points]
    if len(places) < 2 or not all(map(math.isfinite, (v for place in places for v in place))):
        raise ValueError("its coordinates are not finite numbers")
    xs, ys = zip(*places)
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def same_name(name: str) -> str:
    """Names that some file system takes for the same have the same key."""
    return unicodedata.normalize("NFC", name).casefold()


def _twins(image: Path, label_file: Path) -> bool:
    """Whether both have the same subfolders, but for one folder: images/train/1.jpg and labels/train/1.txt."""
    one, other = image.parent.parts, label_file.parent.parts
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other)) <= 1
