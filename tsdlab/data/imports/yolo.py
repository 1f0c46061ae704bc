"""YOLO: a text file for each image, a line `class x y width height` for each object, in fractions of the image.

A line with more numbers is a polygon, whose box is taken. The names of the classes are in `data.yaml`, `classes.txt` or
a `.names` file. Splits are those of `data.yaml`, or the names of folders (`images/train`, `valid/labels`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tsdlab.data.images import inspect_image
from tsdlab.data.imports.source import UNSEEN, Found, Source, box_around, split_name, split_of_path
from tsdlab.errors import DataError, shown

_BEYOND = 1.02  # a box may end a little outside the image, as rounding makes it


def finds(source: Source) -> bool:
    """Whether one of the first text files that are called like an image holds labels."""
    texts = [path for path in source.files if path.suffix == ".txt" and source.find_image(path, path.stem)]
    return any(map(_looks_like_labels, texts[:20]))


def read(source: Source) -> None:
    """Fill `source`."""
    file, settings = _settings(source)
    names = _names(source, file, settings.get("names"))
    splits = _splits(source, settings)
    labels = {path.with_suffix(""): path for path in source.files if path.suffix == ".txt"}
    used: set[Path] = set()
    for image in source.images:
        path = next((labels[place] for place in _places(image) if place in labels), None)
        objects: list[Found] = []
        if path is None:
            source.unlabelled.add(image)
        else:
            used.add(path)
            try:
                size = inspect_image(image)
            except DataError as error:
                source.problems.append(str(error))
                source.unreadable.add(image)
                continue
            objects = list(_objects(path, size, names, settings, source))
        source.add(image, splits.get(image, split_of_path(image, source.root)), objects)
    for path in labels.values():
        if path not in used and _looks_like_labels(path):
            source.note(UNSEEN, path.name)
    everything = [found for picture in source.pictures for found in picture.objects]
    if not names and everything:
        names = {number: f"class {number}" for number in range(1 + max(int(found.name) for found in everything))}
        source.note("no file names the classes; they are called class 0, class 1, …")
    for found in everything:
        found.name = names[int(found.name)]
    source.names = [names[number] for number in sorted(names)]


class _Loader(yaml.BaseLoader):
    """All values are text: a class may be called "no" or "1.10". A key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                what = f"the key {shown(repr(key), 80)} is given twice"
                raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        return found


def _yaml(path: Path) -> dict[str, Any]:
    """The settings.

    Raises:
        ValueError: it is no YAML, or names classes by aliases: a few lines of these can stand for billions of names.
    """
    try:
        text = path.read_bytes()
        content = yaml.load(text, _Loader)
        if isinstance(content, dict) and "names" in content:
            for event in yaml.parse(text, yaml.BaseLoader):
                if isinstance(event, yaml.AliasEvent):
                    line = event.start_mark.line + 1
                    what = f"has the alias *{shown(event.anchor, 80)} in line {line}; write out what it stands for"
                    raise ValueError(what)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is no YAML ({' '.join(str(error).split())})") from error
    return content if isinstance(content, dict) else {}


def _settings(source: Source) -> tuple[Path | None, dict[str, Any]]:
    """The first YAML file that names classes, and what it holds."""
    for path in source.files:
        if path.suffix in (".yaml", ".yml"):
            try:
                found = _yaml(path)
            except ValueError as error:
                source.problem(path, str(error))
                continue
            if "names" in found:
                return path, found
    return None, {}


def _names(source: Source, file: Path | None, named: Any) -> dict[int, str]:
    """Class number → name; empty if no file says it. `named` is what the settings in `file` say.

    Raises:
        DataError: a number or a name is none, or is given twice.
    """
    if file is not None and named:
        if isinstance(named, str):
            raise DataError(f"{shown(file)}: names must be a list of names, got {shown(repr(named), 80)}")
        return _numbered(file, list(named.items() if isinstance(named, dict) else enumerate(named)))
    for path in source.files:
        if path.name.lower() in ("classes.txt", "obj.names", "labels.txt", "names.txt") or path.suffix == ".names":
            lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
            return _numbered(path, list(enumerate(line.strip() for line in lines if line.strip())))
    return {}


def _numbered(file: Path, names: list[tuple[Any, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    numbers: dict[str, int] = {}  # by name
    for key, name in names:
        if not re.fullmatch("[0-9]{1,9}", str(key)):
            raise DataError(f"{shown(file)}: names must be numbered from 0, got {shown(repr(key), 80)}")
        number = int(key)
        if not isinstance(name, str) or not name.strip():
            what = "nothing" if not name else shown(repr(name), 80) if isinstance(name, str) else "a list or a mapping"
            raise DataError(f"{shown(file)}: names: class {number} must be called by a text, got {what}")
        if number in found:
            raise DataError(f"{shown(file)}: names: class {number} is given twice; keep the right one")
        if name in numbers:
            raise DataError(
                f"{shown(file)}: names: {shown(repr(name), 80)} is the name of the classes {numbers[name]} and "
                f"{number}; rename one"
            )
        found[number], numbers[name] = name, number
    return found


def _splits(source: Source, settings: dict[str, Any]) -> dict[Path, str]:
    """Image → split, as far as data.yaml says it of folders and lists that are in the source."""
    found: dict[Path, str] = {}
    for key in ("train", "val", "valid", "test"):
        entries = settings.get(key) or []
        for entry in [entries] if isinstance(entries, str) else entries if isinstance(entries, list) else []:
            relative = Path(*[part for part in Path(str(entry)).parts if part not in ("..", "/")])
            base = Path(str(settings.get("path") or "")).name
            for place in (source.root / relative, source.root / base / relative):
                members: list[Path] = []
                if place.is_dir():
                    members = [image for image in source.images if image.is_relative_to(place)]
                elif place.is_file() and place.suffix == ".txt":
                    lines = place.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
                    images = (source.find_image(place, line.strip()) for line in lines if line.strip())
                    members = [image for image in images if image is not None]
                for image in members:
                    found.setdefault(image, split_name(key) or key)
    return found


def _places(image: Path) -> Iterator[Path]:
    """Where its label file may be, without the suffix: beside it, or in labels/ for images/."""
    stem = image.with_suffix("")
    for position in reversed(range(len(stem.parts) - 1)):
        if stem.parts[position].lower() in ("images", "imgs", "img"):
            yield Path(*stem.parts[:position], "labels", *stem.parts[position + 1 :])
    yield stem
    yield stem.parent / "labels" / stem.name
    yield stem.parent.parent / "labels" / stem.name


def _looks_like_labels(path: Path) -> bool:
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
        return bool(lines) and all(len(line) >= 5 and line[0].isdigit() and float(line[1]) <= 1 for line in lines[:5])
    except (ValueError, OSError):
        return False


def _objects(
    path: Path, size: tuple[int, int], names: dict[int, str], settings: dict[str, Any], source: Source
) -> Iterator[Found]:
    """The class is its number, until all are known."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        source.problem(path, f"is no text ({error.reason} at byte {error.start})")
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Found(*_label(line.split(), size, names, settings))
        except ValueError as error:
            source.problem(path, f"line {number} cannot be read ({error})")


def _label(
    cells: list[str], size: tuple[int, int], names: dict[int, str], settings: dict[str, Any]
) -> tuple[str, list[float]]:
    kind, *values = (float(cell) for cell in cells)
    if not kind.is_integer() or kind < 0 or (names and int(kind) not in names):
        raise ValueError(f"class {cells[0]} is not among the {len(names)} names" if names else f"class {cells[0]}")
    if settings.get("kpt_shape"):  # a box, and key points after it
        values = values[:4]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"{len(values)} numbers after the class; a box has 4, a polygon 6, 8, 10, …")
    if not all(math.isfinite(v) and 1 - _BEYOND <= v <= _BEYOND for v in values):
        raise ValueError("coordinates must be fractions of the image, from 0 to 1")
    scaled = [value * size[i % 2] for i, value in enumerate(values)]
    if len(values) == 4:
        x, y, width, height = scaled
        if width < 0 or height < 0:
            raise ValueError("a side is negative")
        return f"{int(kind)}", [x - width / 2, y - height / 2, width, height]
    return f"{int(kind)}", box_around(list(zip(scaled[::2], scaled[1::2])))
