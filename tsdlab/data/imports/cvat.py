"""CVAT's own XML ("CVAT for images 1.1"): one file for all images.

Polygons, masks, ellipses and turned boxes become the boxes around them. Points and lines have no box and are left out.
A subset of CVAT is a split.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from tsdlab.data.imports.source import UNSEEN, Found, Source, box_around, split_name, split_of_path

_WITHOUT_BOX = {"polyline", "points", "skeleton", "cuboid", "tag"}


def finds(source: Source) -> bool:
    """Whether an XML file lists images."""
    return bool(_files(source))


def read(source: Source) -> None:
    """Fill `source`."""
    for path in _files(source):
        images = 0
        try:
            for _, element in ElementTree.iterparse(path):
                if element.tag == "label" and element.findtext("name"):
                    source.names.append(str(element.findtext("name")).strip())
                elif element.tag == "image" and element.get("name") is not None:
                    images += 1
                    _read_image(element, path, source)
                    element.clear()
                elif element.tag == "track" and element.get("id") is not None:
                    source.problem(path, 'is "CVAT for video", without images; export it as "CVAT for images"')
                    break
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            source.problem(path, f"is no XML ({error})")
    source.names = list(dict.fromkeys(source.names))
    source.add_unlabelled()


def _files(source: Source) -> list[Path]:
    return [path for path in source.files if path.suffix.lower() == ".xml" and _begins_with_annotations(path)]


def _begins_with_annotations(path: Path) -> bool:
    try:
        return next(element.tag for _, element in ElementTree.iterparse(path, ["start"])) == "annotations"
    except (ElementTree.ParseError, ValueError, LookupError, StopIteration):
        return False


def _read_image(element: ElementTree.Element, path: Path, source: Source) -> None:
    name, subset = str(element.get("name")), element.get("subset") or ""
    beside = path.parent
    image = source.find_image(path, name, (beside / "images" / subset, beside / "images", beside / subset))
    if image is None:
        source.note(UNSEEN, name)
        return
    objects = []
    for number, shape in enumerate(element, 1):
        if shape.tag in _WITHOUT_BOX:
            source.note(f"shapes without a box ({shape.tag}), left out", name)
            continue
        label = (shape.get("label") or "").strip()
        try:
            box = _box(shape)
            if not label:
                raise ValueError("it has no label")
        except (TypeError, ValueError) as error:
            source.problem(path, f"image {name}, shape {number} ({shape.tag}) cannot be read ({error})", image)
            continue
        objects.append(Found(label, box))
    try:
        size = int(element.get("width") or 0), int(element.get("height") or 0)
    except ValueError:
        size = (0, 0)
    split = split_name(subset) or split_of_path(image, source.root)
    source.add(image, split, objects, size if min(size) > 0 else None)


def _box(shape: ElementTree.Element) -> list[float]:
    def number(key: str, default: str | None = None) -> float:
        return float(shape.get(key, default))  # type: ignore[arg-type]

    if shape.tag == "box":
        corners = [(number("xtl"), number("ytl")), (number("xbr"), number("ybr"))]
        (x1, y1), (x2, y2) = corners
        angle = math.radians(number("rotation", "0"))
        if angle:
            x, y, across, down = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
            corners = [
                (x + i * across * math.cos(angle) - j * down * math.sin(angle),
                 y + i * across * math.sin(angle) + j * down * math.cos(angle))
                for i in (-1, 1) for j in (-1, 1)
            ]  # fmt: skip
        return box_around(corners)
    if shape.tag == "polygon":
        points = [point.split(",") for point in str(shape.get("points")).split(";")]
        return box_around([(float(x), float(y)) for x, y in points])
    if shape.tag == "ellipse":
        x, y, across, down = (number(key) for key in ("cx", "cy", "rx", "ry"))
        angle = math.radians(number("rotation", "0"))
        half = (math.hypot(across * math.cos(angle), down * math.sin(angle)),
                math.hypot(across * math.sin(angle), down * math.cos(angle)))  # fmt: skip
        return box_around([(x - half[0], y - half[1]), (x + half[0], y + half[1])])
    if shape.tag == "mask":
        x, y, width, height = (number(key) for key in ("left", "top", "width", "height"))
        return box_around([(x, y), (x + width, y + height)])
    raise ValueError("unknown kind of shape")
