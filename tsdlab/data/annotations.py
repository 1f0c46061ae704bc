"""Annotation files in COCO's format: read, and judged at the same time.

`read_split` never raises: it collects every problem. `CocoDataset` refuses a split with problems, and
`tsdlab data check` reports them, so data that passes the check trains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsdlab.structures import Category

_PREFIX, _SUFFIX = "instances_", ".json"
FILE_PATTERN = f"annotations/{_PREFIX}<split>{_SUFFIX}"
_LISTED = 5  # entries that a message spells out


def annotation_file(root: Path, split: str) -> Path:
    """The annotation file of a split, whether it exists or not."""
    return root / "annotations" / f"{_PREFIX}{split}{_SUFFIX}"


def split_names(root: str | Path) -> list[str]:
    """Names of the splits that have an annotation file, sorted."""
    files = (Path(root) / "annotations").glob(f"{_PREFIX}*{_SUFFIX}")
    return sorted(file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for file in files)


# What a split holds -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageEntry:
    """One entry of "images"."""

    id: int
    path: Path
    size: tuple[int, int]  # (width, height), pixels


@dataclass
class Objects:
    """Objects as columns of equal length; crowds are not among them."""

    boxes: np.ndarray  # [N, 4] float32, xyxy pixels, inside the image
    labels: np.ndarray  # [N] int64 in 1…C
    area: np.ndarray  # [N] float32, pixels²
    salient_boxes: np.ndarray | None  # [N, 4] float32, xyxy pixels; None if some object of the split has none

    def rows(self, which: slice | np.ndarray) -> Objects:
        """Some of the objects."""
        salient = None if self.salient_boxes is None else self.salient_boxes[which]
        return Objects(self.boxes[which], self.labels[which], self.area[which], salient)


@dataclass
class Split:
    """An annotation file, read and judged."""

    problems: list[str] = field(default_factory=list)  # each stops training; says what to do
    categories: tuple[Category, ...] = ()  # by id; label i is categories[i - 1]
    images: list[ImageEntry] = field(default_factory=list)
    objects: list[Objects] = field(default_factory=list)  # one for each image
    crowds: int = 0
    dropped: list[int] = field(default_factory=list)  # ids of annotations without a usable box


def read_split(root: Path, split: str) -> Split:
    """Read an annotation file and look for its images, without decoding them. What is wrong is in `problems`."""
    result = Split()
    content = _read_json(root, split, result.problems)
    if content is None:
        return result
    result.categories = _read_categories(content["categories"], result.problems)
    result.images = _read_images(content["images"], root / split, result.problems)
    valid = _valid_annotations(content["annotations"], result)
    single = [entry for entry in valid if not is_crowd(entry)]
    result.crowds = len(valid) - len(single)
    result.objects, result.dropped = _objects(single, result)
    return result


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether an annotation marks a region with many objects; without "iscrowd" it marks one object."""
    return bool(annotation.get("iscrowd"))


def area_of(annotation: dict[str, Any]) -> float:
    """An annotation's "area" in pixels²; the area of its box if it has none (or null)."""
    area = annotation.get("area")
    return area if isinstance(area, int | float) else annotation["bbox"][2] * annotation["bbox"][3]


# Judging ----------------------------------------------------------------------------------------------------


def _read_json(root: Path, split: str, problems: list[str]) -> dict[str, list] | None:
    """The file's content; None if it is not COCO's object format."""
    try:
        content = json.loads(annotation_file(root, split).read_bytes())
    except FileNotFoundError:
        existing = ", ".join(split_names(root)) or "none"
        problems.append(f"the file does not exist; splits with an annotation file in {root}: {existing}")
        return None
    except json.JSONDecodeError as error:
        problems.append(f"malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}; write it again")
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"cannot be read: {error}")
        return None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            problems.append(f'has no list "{key}"; COCO\'s object format needs "images", "annotations", "categories"')
    return None if problems else content


def _read_categories(entries: list, problems: list[str]) -> tuple[Category, ...]:
    found: dict[int, Category] = {}
    names: set[str] = set()
    for position, entry in enumerate(entries):
        if not _well_formed(entry, f"categories[{position}]", {"id": int, "name": str}, problems):
            continue
        if entry["id"] in found:
            problems.append(f"category id {entry['id']} is given twice; ids must be unique")
        elif entry["name"] in names:
            problems.append(f"category name {entry['name']!r} is given twice; rename one, or merge the two classes")
        names.add(entry["name"])
        found[entry["id"]] = Category(entry["id"], entry["name"])
    if not entries:
        problems.append('"categories" is empty; name at least one class')
    return tuple(found[id] for id in sorted(found))


def _read_images(entries: list, folder: Path, problems: list[str]) -> list[ImageEntry]:
    found: dict[int, ImageEntry] = {}
    listings: dict[Path, set[str]] = {}  # listing a folder once is much faster than looking for every image
    needed = {"id": int, "file_name": str, "width": int, "height": int}
    for position, entry in enumerate(entries):
        if not _well_formed(entry, f"images[{position}]", needed, problems):
            continue
        if entry["id"] in found:
            problems.append(f"image id {entry['id']} is given twice; ids must be unique")
            continue
        path = folder / entry["file_name"]
        if path.parent not in listings:
            listings[path.parent] = _file_names(path.parent)
        if path.name not in listings[path.parent]:
            problems.append(f"image {path} (id {entry['id']}) does not exist; add the file or remove its entry")
        found[entry["id"]] = ImageEntry(entry["id"], path, (entry["width"], entry["height"]))
    return list(found.values())


def _file_names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def _valid_annotations(entries: list, split: Split) -> list[dict[str, Any]]:
    """The annotations without a problem, crowds included; the others' problems go to `split.problems`."""
    images = {image.id for image in split.images}
    categories = {category.id for category in split.categories}
    seen: set[int] = set()
    valid = []
    for position, entry in enumerate(entries):
        needed = {"id": int, "image_id": int, "category_id": int}
        if not _well_formed(entry, f"annotations[{position}]", needed, split.problems):
            continue
        problem = None
        if entry["id"] in seen:
            problem = "its id is given twice; ids must be unique"
        elif entry["image_id"] not in images:
            problem = f'image_id {entry["image_id"]} is not among "images"; add the image or remove the annotation'
        elif entry["category_id"] not in categories:
            problem = f'category_id {entry["category_id"]} is not among "categories"; add it or correct it'
        elif not _is_box(entry.get("bbox")):
            problem = f"bbox must be four numbers [x, y, width, height], got {entry.get('bbox')!r}"
        elif "salient_bbox" in entry and not _is_box(entry["salient_bbox"]):
            problem = f"salient_bbox must be four numbers [x, y, width, height], got {entry['salient_bbox']!r}"
        seen.add(entry["id"])
        if problem is None:
            valid.append(entry)
        else:
            split.problems.append(f"annotation {entry['id']}: {problem}")
    return valid


def _well_formed(entry: Any, where: str, needed: Mapping[str, type], problems: list[str]) -> bool:
    """Whether an entry is an object that has the `needed` keys with values of these types."""
    if not isinstance(entry, dict):
        problems.append(f"{where} must be an object, got {entry!r}")
        return False
    before = len(problems)
    for key, kind in needed.items():
        value = entry.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            kind_name = "an integer" if kind is int else "text"
            found = f"got {value!r}" if key in entry else "it is missing"
            problems.append(f'{where} (id {entry.get("id", "missing")}) needs "{key}", {kind_name}; {found}')
    return len(problems) == before


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(number, int | float) for number in value)


# Converting -------------------------------------------------------------------------------------------------


def _objects(annotations: list[dict[str, Any]], split: Split) -> tuple[list[Objects], list[int]]:
    """The objects of each image, and the ids of annotations without a usable box."""
    labels = {category.id: label for label, category in enumerate(split.categories, start=1)}
    positions = {image.id: position for position, image in enumerate(split.images)}
    image_of = np.array([positions[entry["image_id"]] for entry in annotations], dtype=np.int64)
    sizes = np.array([image.size for image in split.images], dtype=np.float64).reshape(-1, 2)[image_of]  # [N, 2]
    raw = np.array([entry["bbox"] for entry in annotations], dtype=np.float64).reshape(-1, 4)
    boxes = np.clip(_xyxy(raw), 0, np.tile(sizes, 2)).astype(np.float32)  # NaN stays NaN
    usable = np.isfinite(raw).all(1) & (raw[:, 2:] > 0).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    salient = None
    if annotations and all("salient_bbox" in entry for entry in annotations):
        salient = _xyxy(np.array([entry["salient_bbox"] for entry in annotations], dtype=np.float64)).astype(np.float32)
    objects = Objects(
        boxes=boxes,
        labels=np.array([labels[entry["category_id"]] for entry in annotations], dtype=np.int64),
        area=np.array([area_of(entry) for entry in annotations], dtype=np.float32),
        salient_boxes=salient,
    )
    # Sorted by image, in the file's order within one; the objects of each image are then a slice of shared columns.
    order = np.flatnonzero(usable)[np.argsort(image_of[usable], kind="stable")]
    objects = objects.rows(order)
    ends = np.searchsorted(image_of[order], np.arange(len(split.images)), side="right").tolist()
    by_image = [objects.rows(slice(start, end)) for start, end in zip([0, *ends], ends)]
    return by_image, [entry["id"] for entry, is_usable in zip(annotations, usable) if not is_usable]


def _xyxy(xywh: np.ndarray) -> np.ndarray:
    """`[N, 4]` (x, y, width, height) → (x1, y1, x2, y2)."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


# Messages ---------------------------------------------------------------------------------------------------


def listed(values: Sequence[object]) -> str:
    """The first few values, separated by commas, and how many more there are."""
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(map(str, values[:_LISTED])) + more


def summary(root: Path, split: str, problems: Sequence[str]) -> str:
    """The problems of a split as one error message: the first few of them, and how to see the others."""
    file = annotation_file(root, split)
    if len(problems) == 1:
        return f"{file}: {problems[0]}"
    lines = [f"{file}: {len(problems)} problems", *(f"  - {problem}" for problem in problems[:_LISTED])]
    if len(problems) > _LISTED:
        lines.append(f"  … and {len(problems) - _LISTED} more; `tsdlab data check {root}` lists them all")
    return "\n".join(lines)
