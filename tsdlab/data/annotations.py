"""Annotation files in COCO's format: read, and judged at the same time.

`read_split` never raises: it collects every problem. `CocoDataset` refuses a split with problems, and
`tsdlab data check` reports them, so data that passes the check trains. `tsdlab/data/check.py` judges what needs more
than one annotation file.

A data set may have millions of objects. So they are kept as columns, about 60 bytes for each object; `ImageEntry` and
`Objects` are made on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tsdlab.data.columns import blocks, grouped
from tsdlab.data.entries import Entries, no_entries
from tsdlab.data.findings import Findings
from tsdlab.data.image_folder import ImageFolder, NotFound
from tsdlab.data.json_lists import read_lists
from tsdlab.data.values import Id, Ids, id_order
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
class Images(Sequence[ImageEntry]):
    """The entries of "images" without a problem, as columns; an item of the sequence is an `ImageEntry`."""

    folder: Path
    ids: Sequence[Id]  # N
    names: list[str]  # N paths within the folder
    sizes: np.ndarray  # [N, 2] int32 (width, height), pixels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index):
        width, height = self.sizes[index].tolist()
        return ImageEntry(self.ids[index], self.folder / self.names[index], (width, height))


@dataclass
class Annotations:
    """The entries of "annotations" without a problem as columns: what COCO's evaluation counts.

    Crowds and boxes without an area are among them.
    """

    ids: Sequence[Id]
    images: np.ndarray  # [A] integers, index into the images of the split
    labels: np.ndarray  # [A] integers in 1…C
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


@dataclass
class Split:
    """An annotation file, read and judged."""

    images: Images
    absent: list[int]  # indices of the images without a usable file
    annotations: Annotations
    problems: Findings  # each stops or ruins training; says what to do
    notes: Findings = field(default_factory=Findings)  # worth knowing
    is_annotated: bool = True  # False: a test split, whose file has no "annotations"
    categories: tuple[Category, ...] = ()  # by id; label i is categories[i - 1]
    categories_are_sound: bool = False  # whether all entries of "categories" could be read
    dropped: list[Id] = field(init=False)  # ids of annotations without a usable box

    def __post_init__(self) -> None:
        usable = _usable(self.annotations, self.images.sizes)
        self.dropped = [self.annotations.ids[row] for row in np.flatnonzero(~usable & ~self.annotations.crowd).tolist()]
        # The rows of the objects of image i in the annotations are _rows[_ends[i] : _ends[i + 1]].
        rows = np.flatnonzero(usable).astype(np.int32)
        order, self._ends = grouped(self.annotations.images[rows], len(self.images))
        self._rows = rows[order]

    def objects(self, index: int) -> Objects:
        """The objects of an image."""
        rows, all_of = self._rows[self._ends[index] : self._ends[index + 1]], self.annotations
        salient = all_of.salient_boxes
        with np.errstate(over="ignore"):
            return Objects(
                boxes=_inside(all_of.boxes[rows], self.images.sizes[index]),
                labels=all_of.labels[rows].astype(np.int64),
                area=all_of.area[rows].astype(np.float32),
                salient_boxes=None if salient is None else _xyxy(salient[rows]).astype(np.float32),
            )

    @property
    def object_counts(self) -> np.ndarray:
        """[N] int64, how many objects each image has."""
        return np.diff(self._ends)

    @property
    def label_counts(self) -> np.ndarray:
        """[C] int64, how many objects each category has."""
        counts = np.zeros(len(self.categories) + 1, np.int64)
        for block in blocks(len(self._rows)):
            counts += np.bincount(self.annotations.labels[self._rows[block]], minlength=len(counts))
        return counts[1:]

    @property
    def crowds(self) -> int:
        """How many annotations are crowds."""
        return int(self.annotations.crowd.sum())


def _usable(annotations: Annotations, sizes: np.ndarray) -> np.ndarray:
    """bool `[A]`: no crowd, and large enough inside its image."""
    usable = ~annotations.crowd
    for rows in blocks(len(usable)):
        boxes = _inside(annotations.boxes[rows], sizes[annotations.images[rows]])
        usable[rows] &= (boxes[:, 2:] - boxes[:, :2] >= _LEAST_SIDE).all(1)
    return usable


def _inside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """`[N, 4]` (x, y, width, height) → float32 xyxy, clipped to images of these sizes, `[N, 2]` or `[2]`."""
    return np.clip(_xyxy(boxes), 0, np.concatenate([sizes, sizes], axis=-1)).astype(np.float32)


def _xyxy(xywh: np.ndarray) -> np.ndarray:
    """`[N, 4]` (x, y, width, height) → (x1, y1, x2, y2)."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


# Reading ----------------------------------------------------------------------------------------------------


def read_split(root: Path, split: str) -> Split:
    """Read an annotation file and look for its images, without opening them. What is wrong is in `problems`."""
    categories, images, annotations = no_entries()
    problems = Findings()
    keys = _read_file(root, split, (categories, images, annotations), problems)
    if problems:  # the entries that were read before are not the file's
        categories, images, annotations = no_entries()
        return Split(*_images(images, root / split), _annotations(annotations, images, categories, ()), problems)
    for found in (categories, images, annotations):
        found.refuse_repeated_ids()
    classes = _categories(categories)
    if not len(categories):
        categories.problems.add("no category", "", '"categories" is empty; name at least one class')
    if not len(images):
        images.problems.add("no image", "", '"images" is empty; a split needs at least one image')
    result = Split(
        *_images(images, root / split),
        _annotations(annotations, images, categories, classes),
        problems,
        is_annotated="annotations" in keys,
        categories=classes,
        categories_are_sound=not categories.problems,
    )
    for found in (categories, images, annotations):
        problems.update(found.problems)
    return result


def _read_file(root: Path, split: str, lists: Sequence[Entries], problems: Findings) -> set[str]:
    """Fill the lists, unless the file is not in COCO's object format; returns the keys of the file."""
    file = annotation_file(root, split)
    absence = _absence(root, file)
    if absence is not None:
        problems.add("file", "", absence)
        return set()
    try:
        with file.open("rb") as opened:
            found = read_lists(opened, {entries.key: entries.append for entries in lists})
    except OSError as error:
        problems.add("file", "", f"cannot be read ({error.strerror or error}); make it readable")
        return set()
    except ValueError as error:
        problems.add("file", "", str(error))
        return set()
    if found is None:
        problems.add("file", "", f"holds no object with {_quoted(_LISTS)}; write COCO's object format")
        return set()
    for key in _LISTS:
        are_lists = [is_list for name, is_list in found if name == key]
        if len(are_lists) > 1:
            problems.add("file", "", f'gives "{key}" twice; join the two lists, or remove one of them')
        elif are_lists != [True] and not (key == "annotations" and not are_lists):
            problems.add("file", "", f'has no list "{key}"; COCO\'s object format needs {_quoted(_LISTS)}')
    return {name for name, _ in found}


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


def _categories(entries: Entries) -> tuple[Category, ...]:
    names: set[str] = set()
    found = []
    for row in np.flatnonzero(entries.valid).tolist():
        id, name = entries.ids[row], entries.columns["name"][row]
        if name in names:
            repeated = shown(repr(name), 80)
            entries.add("name", id, f"category name {repeated} is given twice; rename one, or merge the two classes")
        names.add(name)
        found.append(Category(id, name))
    return tuple(sorted(found, key=lambda category: id_order(category.id)))


def _images(entries: Entries, folder: Path) -> tuple[Images, list[int]]:
    """The valid images, and the indices of those without a usable file."""
    rows = np.flatnonzero(entries.valid)
    files = ImageFolder(folder)
    names: list[str] = []
    absent: list[int] = []
    for row in rows.tolist():
        name = entries.columns["file_name"][row]
        try:
            name = str(files.locate(name).relative_to(folder))
        except NotFound as fault:
            id = shown(repr(entries.ids[row]), 80)
            entries.problems.add(f"image {fault.kind}", f"{fault.where} (id {id})", fault.what)
            absent.append(len(names))
        names.append(name)
    sizes = np.stack([entries.columns[side].numbers()[rows] for side in ("width", "height")], axis=1)
    images = Images(folder, entries.ids.rows(rows), names, sizes)
    _refuse_repeated_files(entries, images, absent)
    return images, absent


def _refuse_repeated_files(entries: Entries, images: Images, absent: list[int]) -> None:
    if len({*images.names}) == len(images):
        return
    first: dict[str, int] = {}
    for index, name in enumerate(images.names):
        owner = index if index in absent else first.setdefault(name, index)
        if owner != index:
            file, other = shown(images.folder / name), entries.title(images.ids[owner])
            entries.add("file", images.ids[index], f"has the same file as {other}, {file}; merge the two entries")


def _annotations(entries: Entries, images: Entries, categories: Entries, classes: tuple[Category, ...]) -> Annotations:
    """The valid annotations; the problems of the others are reported."""
    labels = {category.id: label for label, category in enumerate(classes, start=1)}
    label_of = [labels[id] if is_valid else -1 for id, is_valid in zip(categories.ids, categories.valid)]
    image = _refer(entries, "image_id", images, np.where(images.valid, np.cumsum(images.valid) - 1, -1))
    label = _refer(entries, "category_id", categories, np.array(label_of, np.int64))
    columns, valid = entries.columns, entries.valid
    known = valid & (image >= 0) & (label >= 0)
    kept = slice(None) if known.all() else known  # a slice does not copy
    boxes, area = columns["bbox"].numbers()[kept], columns["area"].numbers()[kept]
    with np.errstate(over="ignore"):
        np.multiply(boxes[:, 2], boxes[:, 3], out=area, where=np.isnan(area))
    crowd = columns["iscrowd"].numbers()[kept].view(bool)
    salient = None
    if not columns["salient_bbox"].is_empty:
        salient = columns["salient_bbox"].numbers()[kept]
        if (np.isnan(salient[:, 0]) & ~crowd).any():
            salient = None
    return Annotations(columns["id"].rows(kept), image[kept], label[kept], boxes, area, crowd, salient)


def _refer(entries: Entries, key: str, among: Entries, numbers: np.ndarray) -> np.ndarray:
    """What the entries refer to by the ids in `key`; these ids are not kept.

    Args:
        numbers: of the entries of `among`; -1 for one with a problem.

    Returns:
        int32 `[N]`, the number of the entry that is meant; -1 also where this is not exactly one, which is reported.
    """
    column = entries.columns.pop(key)
    found = column.find_in(among.ids)
    rows = np.flatnonzero(entries.valid & (found < 0)).tolist()
    ids = Ids(among.ids if rows else [])
    for row in rows:
        value, meant = shown(repr(column[row]), 80), ids.find(column[row])
        if meant:
            problem = f'{key} {value} can mean {len(meant)} entries of "{among.key}"; write the id as it is there'
        else:
            problem = f'{key} {value} is not among "{among.key}"; add the {among.noun}, or correct the annotation'
        entries.add(key, entries.ids[row], problem)
    return np.append(numbers, -1).astype(np.int32)[found]


# Messages ---------------------------------------------------------------------------------------------------


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
