"""COCO in other layouts: COCO's own (`annotations/instances_train2017.json`, `train2017/`), Roboflow's
(`train/_annotations.coco.json` beside the images) and CVAT's (`annotations/instances_default.json`, `images/`).

Entries are taken over as they are, with their ids: `tsdlab data check` judges them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tsdlab.data.imports.source import UNSEEN, Picture, Source, split_name, split_of_path
from tsdlab.errors import shown

_OTHER_TASKS = re.compile(r"(captions|person_keypoints|stuff|panoptic|image_info)_")


def finds(source: Source) -> bool:
    """Whether a JSON file has images and annotations."""
    return any(_content(path) is not None for path in _files(source)[:3])


def read(source: Source) -> None:
    """Fill `source`."""
    categories: dict[str, dict[str, Any]] = {}
    for path in _files(source):
        content = _content(path)
        if content is None:
            source.problem(path, 'is no JSON with lists "images", "annotations" and "categories"')
            continue
        for entry in content["categories"]:
            if not isinstance(entry, dict):
                source.problem(path, f"categories: {entry!r} is no object")
                continue
            known = categories.setdefault(json.dumps(entry.get("id")), entry)
            if known.get("name") != entry.get("name"):
                names = f"{shown(entry.get('name'))} here and {shown(known.get('name'))} elsewhere"
                source.problem(path, f"category {entry.get('id')} is {names}; rename one")
        _read_file(path, content, source)
    used = {json.dumps(a.get("category_id")) for p in source.pictures for a in p.annotations or []}
    source.categories = [entry for key, entry in categories.items() if key in used or not _is_root(entry, categories)]


def _files(source: Source) -> list[Path]:
    found = [p for p in source.files if p.suffix.lower() == ".json" and not _OTHER_TASKS.match(p.name)]
    return [p for p in found if p.name.startswith("instances_")] or found


def _content(path: Path) -> dict[str, list] | None:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    keys = ("images", "annotations", "categories")
    return content if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys) else None


def _read_file(path: Path, content: dict[str, list], source: Source) -> None:
    own = path.stem.removeprefix("instances_")
    split = split_name(own) or split_of_path(path, source.root)
    top = path.parent.parent
    folders = (top / own, top / "images" / own, top / "images", path.parent / own, top)
    annotations: dict[str, list[dict[str, Any]]] = {}
    for entry in content["annotations"]:
        if isinstance(entry, dict):
            annotations.setdefault(json.dumps(entry.get("image_id")), []).append(entry)
        else:
            source.problem(path, f"annotations: {entry!r} is no object")
    for entry in content["images"]:
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            source.problem(path, f"images: {str(entry)[:100]} has no file_name")
            continue
        objects = annotations.pop(json.dumps(entry.get("id")), [])
        image = source.find_image(path, name, folders)
        if image is None:
            source.note(UNSEEN, name)
            continue
        where = split or split_of_path(image, source.root)
        source.pictures.append(Picture(image, (0, 0), where, [], entry, objects))
    for image_id, entries in annotations.items():
        source.problem(path, f'{len(entries)} annotations are of image {image_id}, which is not among "images"')


def _is_root(entry: dict[str, Any], categories: dict[str, dict[str, Any]]) -> bool:
    """Roboflow's first category is the name of the project, above all classes."""
    return entry.get("supercategory") == "none" and any(
        other.get("supercategory") == entry.get("name") for other in categories.values()
    )
