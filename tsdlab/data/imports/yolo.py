"""YOLO: a text file for each image, a line `class x y width height` for each object, in fractions of the image.

A line with more numbers is a polygon, whose box is taken. The names of the classes are in `data.yaml`, `classes.txt` or
a `.names` file. Splits are those of `data.yaml`, or the names of folders (`images/train`, `valid/labels`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tsdlab.data.images import inspect_image
from tsdlab.data.imports.source import UNSEEN, Found, Source, box_around, split_name, split_of_path
from tsdlab.errors import DataError

_BEYOND = 1.02  # a box may end a little outside the image, as rounding makes it


def finds(source: Source) -> bool:
    """Whether one of the first text files that are called like an image holds labels."""
    texts = [path for path in source.files if path.suffix == ".txt" and source.find_image(path, path.stem)]
    return any(map(_looks_like_labels, texts[:20]))


def read(source: Source) -> None:
    """Fill `source`."""
    settings = _settings(source)
    names = _names(source, settings)
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


def _yaml(path: Path) -> dict[str, Any]:
    """The settings, with all values as text: a class may be called "no" or "1.10".

    Raises:
        ValueError: it is no YAML.
    """
    try:
        content = yaml.load(path.read_bytes(), yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return content if isinstance(content, dict) else {}


def _settings(source: Source) -> dict[str, Any]:
    """Those of the first YAML file that names classes."""
    for path in source.files:
        if path.suffix in (".yaml", ".yml"):
            try:
                found = _yaml(path)
            except ValueError as error:
                source.problem(path, f"is no YAML ({error})")
                continue
            if "names" in found:
                return found
    return {}


def _names(source: Source, settings: dict[str, Any]) -> dict[int, str]:
    """Class number → name; empty if no file says it."""
    named = settings.get("names")
    if isinstance(named, dict):
        try:
            return {int(number): str(name) for number, name in named.items()}
        except (TypeError, ValueError):
            raise DataError(f"{source.root}: names in data.yaml must be numbered from 0, got {named!r}") from None
    if isinstance(named, list):
        return {number: str(name) for number, name in enumerate(named)}
    for path in source.files:
        if path.name.lower() in ("classes.txt", "obj.names", "labels.txt", "names.txt") or path.suffix == ".names":
            lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip()))
    return {}


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
