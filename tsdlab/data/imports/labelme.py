"""LabelMe: a JSON file for each image.

Polygons, circles and masks become the boxes around them. Points and lines have no box and are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsdlab.data.imports.source import UNSEEN, Found, Source, box_around, split_of_path

_WITHOUT_BOX = {"point", "points", "line", "linestrip"}


def finds(source: Source) -> bool:
    """Whether one of the first JSON files lists shapes."""
    files = [path for path in source.files if path.suffix.lower() == ".json"]
    return any(isinstance(_content(path), dict) and "shapes" in _content(path) for path in files[:5])


def read(source: Source) -> None:
    """Fill `source`."""
    for path in (path for path in source.files if path.suffix.lower() == ".json"):
        content = _content(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            reason = content if isinstance(content, str) else 'it has no list "shapes"'
            source.problem(path, f"is no file of LabelMe ({reason})")
            continue
        names = [str(content.get("imagePath") or path.stem), path.stem]
        image = next((found for name in names for found in [source.find_image(path, name)] if found is not None), None)
        if image is None:
            source.note(UNSEEN, path.name)
            continue
        size = content.get("imageWidth"), content.get("imageHeight")
        known = all(isinstance(side, int) and side > 0 for side in size)
        objects = list(_objects(content["shapes"], path, source))
        source.add(image, split_of_path(image, source.root), objects, size if known else None)  # type: ignore[arg-type]
    source.add_unlabelled()


def _content(path: Path) -> Any:
    """The JSON; text that says why it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"no JSON: {error}"


def _objects(shapes: list[Any], path: Path, source: Source) -> Iterator[Found]:
    for number, shape in enumerate(shapes, 1):
        try:
            kind, label = shape.get("shape_type") or "polygon", str(shape["label"]).strip()
            if kind in _WITHOUT_BOX:
                source.note(f"shapes without a box ({kind}), left out", path.name)
                continue
            points = [(float(x), float(y)) for x, y in shape["points"]]
            if kind == "circle":  # its centre, and a point on it
                (x, y), on = points
                radius = math.dist((x, y), on)
                points = [(x - radius, y - radius), (x + radius, y + radius)]
            if not label:
                raise ValueError("it has no label")
            yield Found(label, box_around(points))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            source.problem(path, f"shape {number} cannot be read ({error or type(error).__name__})")
