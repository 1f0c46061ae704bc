"""Annotation files in COCO's format: read, and judged at the same time.

`read_split` never raises: it collects every problem. `CocoDataset` refuses a split with problems, and
`tsdlab data check` reports them, so data that passes the check trains. `tsdlab/data/check.py` judges what needs more
than one annotation file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsdlab.data import values
from tsdlab.data.findings import Findings
from tsdlab.data.image_folder import ImageFolder, NotFound
from tsdlab.data.values import Id, Ids, Kind, RepeatedKeys, id_order, parse_json
from tsdlab.errors import shown
from tsdlab.structures import Category

_PREFIX, _SUFFIX = "instances_", ".json"
FILE_PATTERN = f"annotations/{_PREFIX}<split>{_SUFFIX}"
_LISTS = ("images", "annotations", "categories")
_LEAST_SIDE = 1.0  # pixels; augmentation drops boxes below this in any case


def annotation_file(root: Path, split: str) -> Path:
    """The annotation file of a split, whether it exists or not."""
    return root / "annotations" / f"{_PREFIX}{split}{_SUFFIX}"


def split_names(root: str | Path) -> list[str]:
    """Names of the splits that have an annotation file, sorted."""
    files = (Path(root) / "annotations").glob(f"{_PREFIX}?*{_SUFFIX}")
    return sorted(file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for file in files)


# What a split holds -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageEntry:
    """One entry of "images"."""

    id: Id
    path: Path
    size: tuple[int, int]  # (width, height), pixels


@dataclass
class Annotations:
    """The entries of "annotations" without a problem as columns: what COCO's evaluation counts.

    Crowds and boxes without an area are among them.
    """

    ids: list[Id]
    images: np.ndarray  # [A] int64, index into the images of the split
    labels: np.ndarray  # [A] int64 in 1…C
    boxes: np.ndarray  # [A, 4] float64 (x, y, width, height), pixels, as the file says
    area: np.ndarray  # [A] float64, pixels²; the area of the box where the file has none
    crowd: np.ndarray  # [A] bool, whether the box marks a region with many objects
    salient_boxes: np.ndarray | None  # [A, 4] float64 (x, y, width, height), NaN for crowds; None if an object has none


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

    annotations: Annotations
    problems: Findings  # each stops or ruins training; says what to do
    notes: Findings = field(default_factory=Findings)  # worth knowing
    is_annotated: bool = True  # False: a test split, whose file has no "annotations"
    categories: tuple[Category, ...] = ()  # by id; label i is categories[i - 1]
    categories_are_sound: bool = False  # whether all entries of "categories" could be read
    images: list[ImageEntry] = field(default_factory=list)
    absent: set[Id] = field(default_factory=set)  # ids of the images without a usable file
    objects: list[Objects] = field(default_factory=list)  # one for each image
    dropped: list[Id] = field(default_factory=list)  # ids of annotations without a usable box

    @property
    def crowds(self) -> int:
        """How many annotations are crowds."""
        return int(self.annotations.crowd.sum())


def read_split(root: Path, split: str) -> Split:
    """Read an annotation file and look for its images, without opening them. What is wrong is in `problems`."""
    result = Split(_columns([], []), Findings())
    content = _read_content(root, split, result.problems)
    if content is None:
        return result
    result.is_annotated = "annotations" in content
    categories = _Entries("category", "categories", content, _CATEGORY, result.problems)
    result.categories = _categories(categories)
    result.categories_are_sound = not result.problems
    images = _Entries("image", "images", content, _IMAGE, result.problems)
    result.images = _images(images, ImageFolder(root / split), result)
    if result.is_annotated:
        annotations = _Entries("annotation", "annotations", content, _ANNOTATION, result.problems)
        result.annotations = _annotations(annotations, images, categories, result.categories)
    result.objects, result.dropped = _objects(result.annotations, result.images)
    return result


# Reading ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Field:
    kind: Kind
    optional: bool = False  # it may be missing, or null


_CATEGORY = {"id": _Field(values.ID), "name": _Field(values.NAME)}
_IMAGE = {
    "id": _Field(values.ID),
    "file_name": _Field(values.FILE_NAME),
    "width": _Field(values.PIXELS),
    "height": _Field(values.PIXELS),
}
_ANNOTATION = {
    "id": _Field(values.ID),
    "image_id": _Field(values.ID),
    "category_id": _Field(values.ID),
    "bbox": _Field(values.BOX),
    "area": _Field(values.AREA, optional=True),
    "iscrowd": _Field(values.FLAG, optional=True),
    "salient_bbox": _Field(values.BOX, optional=True),
}


def _read_content(root: Path, split: str, problems: Findings) -> dict[str, list] | None:
    """The lists of the file; None if it is not COCO's object format. "annotations" may be missing."""
    file = annotation_file(root, split)
    absence = _absence(root, file)
    if absence is not None:
        problems.add("file", "", absence)
        return None
    try:
        content = parse_json(file.read_bytes())
    except OSError as error:
        problems.add("file", "", f"cannot be read ({error.strerror or error}); make it readable")
        return None
    except ValueError as error:
        problems.add("file", "", str(error))
        return None
    if not isinstance(content, dict):
        problems.add("file", "", f"holds no object with {_quoted(_LISTS)}; write COCO's object format")
        return None
    for key in _LISTS:
        if isinstance(content, RepeatedKeys) and key in content.repeated:
            problems.add("file", "", f'gives "{key}" twice; join the two lists')
        elif not isinstance(content.get(key), list) and not (key == "annotations" and key not in content):
            problems.add("file", "", f'has no list "{key}"; COCO\'s object format needs {_quoted(_LISTS)}')
    return None if problems else content


def _absence(root: Path, file: Path) -> str | None:
    """Why there is no such annotation file; None if there is one."""
    try:
        if file.is_file():
            return None
        if not root.is_dir():
            state = "is a file" if root.exists() else "does not exist"
            return f"{shown(root)} {state}; give the folder that holds annotations/ and the images"
        if file.exists():
            return "is not a file; put the annotation file of the split there"
        if file.is_symlink():
            return "is a link to a file that does not exist; restore that file, or remove the link"
    except (OSError, ValueError):  # the name is too long, or no name
        pass
    existing = ", ".join(map(shown, split_names(root))) or "none (`tsdlab data import` reads other formats)"
    return f"the file does not exist; splits with an annotation file in {shown(root)}: {existing}"


class _Entries:
    """The entries of one list of an annotation file.

    Attributes:
        valid: for each entry its fields, or None if it has a problem.
        ids: finds entries by their ids, also those with a problem.
    """

    def __init__(
        self, noun: str, key: str, content: dict[str, list], fields: Mapping[str, _Field], problems: Findings
    ) -> None:
        self.noun, self.key, self.problems = noun, key, problems
        self._fields = fields
        self.valid: list[dict[str, Any] | None] = []
        ids: list[Id] = []
        seen: set[Id] = set()
        entries = content.pop(key)
        for position in range(len(entries)):
            found, is_valid = self._read(position, entries[position])
            entries[position] = None  # frees it: a file of a gigabyte is not held twice
            id = found.get("id")
            if id is None:
                is_valid = False
            elif id in seen:
                self.add("twice", found, "its id is given twice; ids must be unique")
                is_valid = False
            else:
                seen.add(id)
            # An entry without an id cannot be found. No text of a file is this one: it is half a surrogate pair.
            ids.append("\ud800" if id is None else id)
            self.valid.append(found if is_valid else None)
        self.ids = Ids(ids)

    def add(self, kind: str, entry: Mapping[str, Any], problem: str) -> None:
        """Add a problem of an entry whose id is known."""
        self.problems.add(f"{self.noun} {kind}", self.title(entry["id"]), f": {problem}")

    def title(self, id: Id) -> str:
        """What messages call the entry with this id."""
        return f"{self.noun} {shown(repr(id), 80)}"

    def _read(self, position: int, entry: Any) -> tuple[dict[str, Any], bool]:
        """The fields that could be read, and whether these are all."""
        if not isinstance(entry, dict):
            self.problems.add(f"{self.key} entry", f"{self.key}[{position}]", f": must be an object, got {_got(entry)}")
            return {}, False
        found: dict[str, Any] = {}
        is_valid = True
        for key, expected in self._fields.items():
            value = entry.get(key)
            if value is None and expected.optional:
                found[key] = None
                continue
            read = expected.kind.read(value)
            if read is not None and not (type(entry) is RepeatedKeys and key in entry.repeated):
                found[key] = read
                continue
            is_valid = False
            is_repeated = read is not None
            if is_repeated:
                problem = f'gives "{key}" twice; keep the right one'
            elif key in entry:
                problem = f"{key} must be {expected.kind.name}, got {_got(value)}"
            else:
                problem = f'"{key}" is missing; it must be {expected.kind.name}'
            where = self.title(found["id"]) if "id" in found else f"{self.key}[{position}]"
            self.problems.add(f"{self.key} {key} {is_repeated}", where, f": {problem}")
        return found, is_valid


def _categories(entries: _Entries) -> tuple[Category, ...]:
    names: set[str] = set()
    found = []
    for entry in filter(None, entries.valid):
        if entry["name"] in names:
            name = shown(repr(entry["name"]), 80)
            entries.add("name", entry, f"category name {name} is given twice; rename one, or merge the two classes")
        names.add(entry["name"])
        found.append(Category(entry["id"], entry["name"]))
    if not entries.valid:
        entries.problems.add("no category", "", '"categories" is empty; name at least one class')
    return tuple(sorted(found, key=lambda category: id_order(category.id)))


def _images(entries: _Entries, folder: ImageFolder, split: Split) -> list[ImageEntry]:
    found = []
    owners: dict[Path, Id] = {}  # file → the entry that named it first
    for entry in filter(None, entries.valid):
        id = entry["id"]
        try:
            path = folder.locate(entry["file_name"])
        except NotFound as fault:
            split.problems.add(f"image {fault.kind}", f"{fault.where} (id {shown(repr(id), 80)})", fault.what)
            path = folder.folder / entry["file_name"]
            split.absent.add(id)
        else:
            owner = owners.setdefault(path, id)
            if owner != id:
                what = f"has the same file as {entries.title(owner)}, {shown(path)}; merge the two entries"
                entries.add("file", entry, what)
        found.append(ImageEntry(id, path, (entry["width"], entry["height"])))
    if not entries.valid:
        split.problems.add("no image", "", '"images" is empty; a split needs at least one image')
    return found


def _annotations(
    entries: _Entries, images: _Entries, categories: _Entries, classes: tuple[Category, ...]
) -> Annotations:
    """The valid annotations; the problems of the others are reported."""
    # From the position of an entry in its list to its place among the valid ones; None for an entry with a problem.
    places = iter(range(len(images.valid)))
    image_of = [None if entry is None else next(places) for entry in images.valid]
    labels = {category.id: label for label, category in enumerate(classes, start=1)}
    label_of = [None if entry is None else labels[entry["id"]] for entry in categories.valid]
    found, keys = [], []
    for entry in filter(None, entries.valid):
        image = _look_up(entries, entry, "image_id", images)
        category = _look_up(entries, entry, "category_id", categories)
        if image is None or category is None:
            continue
        key = image_of[image], label_of[category]
        if None not in key:  # otherwise the problem of that entry is reported already
            found.append(entry)
            keys.append(key)
    return _columns(found, keys)


def _look_up(entries: _Entries, entry: Mapping[str, Any], key: str, among: _Entries) -> int | None:
    positions = among.ids.find(entry[key])
    if len(positions) == 1:
        return positions[0]
    value = shown(repr(entry[key]), 80)
    if positions:
        problem = f'{key} {value} can mean {len(positions)} entries of "{among.key}"; write the id as it is there'
    else:
        problem = f'{key} {value} is not among "{among.key}"; add the {among.noun}, or correct the annotation'
    entries.add(key, entry, problem)
    return None


def _columns(entries: list[dict[str, Any]], keys: list[Any]) -> Annotations:
    """`keys` are (image, label) of every entry."""
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    area = np.array([entry["area"] for entry in entries], dtype=np.float64)  # None becomes NaN
    salient = None
    if entries and all(entry["salient_bbox"] is not None or entry["iscrowd"] for entry in entries):
        salient = np.array([entry["salient_bbox"] or (np.nan,) * 4 for entry in entries], dtype=np.float64)
    pairs = np.array(keys, dtype=np.int64).reshape(-1, 2)
    with np.errstate(over="ignore"):
        area = np.where(np.isnan(area), boxes[:, 2] * boxes[:, 3], area)
    return Annotations(
        ids=[entry["id"] for entry in entries],
        images=pairs[:, 0],
        labels=pairs[:, 1],
        boxes=boxes,
        area=area,
        crowd=np.array([bool(entry["iscrowd"]) for entry in entries], dtype=bool),
        salient_boxes=salient,
    )


# Converting -------------------------------------------------------------------------------------------------


def _objects(annotations: Annotations, images: list[ImageEntry]) -> tuple[list[Objects], list[Id]]:
    """The objects of each image, and the ids of annotations without a usable box."""
    single = np.flatnonzero(~annotations.crowd)
    image_of = annotations.images[single]
    sizes = np.array([image.size for image in images], dtype=np.float64).reshape(-1, 2)[image_of]  # [N, 2]
    boxes = np.clip(_xyxy(annotations.boxes[single]), 0, np.tile(sizes, 2)).astype(np.float32)
    usable = (boxes[:, 2:] - boxes[:, :2] >= _LEAST_SIDE).all(1)
    salient = annotations.salient_boxes
    with np.errstate(over="ignore"):
        objects = Objects(
            boxes=boxes,
            labels=annotations.labels[single],
            area=annotations.area[single].astype(np.float32),
            salient_boxes=None if salient is None else _xyxy(salient[single]).astype(np.float32),
        )
    # Sorted by image, in the file's order within one; the objects of each image are then a slice of shared columns.
    order = np.flatnonzero(usable)[np.argsort(image_of[usable], kind="stable")]
    objects = objects.rows(order)
    ends = np.searchsorted(image_of[order], np.arange(len(images)), side="right").tolist()
    by_image = [objects.rows(slice(start, end)) for start, end in zip([0, *ends], ends)]
    return by_image, [annotations.ids[row] for row in single[~usable]]


def _xyxy(xywh: np.ndarray) -> np.ndarray:
    """`[N, 4]` (x, y, width, height) → (x1, y1, x2, y2)."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


# Messages ---------------------------------------------------------------------------------------------------


def _got(value: Any) -> str:
    return shown(repr(value), 80)


def _quoted(keys: tuple[str, ...]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


def summary(root: Path, split: str, problems: Findings) -> str:
    """The problems of a split as one error message: the first few of them, and how to see the others."""
    file = shown(annotation_file(root, split))
    lines, most = problems.lines(), 5
    if len(lines) == 1:
        return f"{file}: {lines[0]}"
    listed = [f"{file}: {len(problems):,} problems", *(f"  - {line}" for line in lines[:most])]
    if len(lines) > most:
        listed.append(f"  … and {len(lines) - most} more kinds; `tsdlab data check {shown(root)}` lists them")
    return "\n".join(listed)
