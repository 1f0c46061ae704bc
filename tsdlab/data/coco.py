"""Any folder in COCO's format: `annotations/instances_<split>.json` beside `<split>/` with the images.

One function reads and judges an annotation file (`_read_split`); the dataset refuses to start on what it
finds, `check` reports it. So what passes `tsdlab data check` trains.
"""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from tsdlab.errors import DataError
from tsdlab.structures import Category as Category  # re-exported: part of what a dataset is

Target = dict[str, Any]
Transforms = Callable[[Tensor, Target], tuple[Tensor, Target]]

_PREFIX, _SUFFIX = "instances_", ".json"
_SHOWN = 5  # problems an error spells out


class CocoDataset(Dataset):
    """One split of a COCO-format folder.

    `dataset[i]` is `(image, target)`: image float32 `[3, H, W]`, RGB in 0…1, and target a dict of

    - "boxes" float32 `[N, 4]`, xyxy in pixels of the image, clipped to it; `(0, 4)` where there is no object;
    - "labels" int64 `[N]` in 1…C: label i is `categories[i - 1]`, whatever ids the file uses;
    - "image_id" int, "iscrowd" int64 `[N]` (all 0) and "area" float32 `[N]` (the file's; box area where it
      has none);
    - "salient_boxes" float32 `[N, 4]`, xyxy, where every annotation of the file carries a "salient_bbox".

    `dataset[i, seed]` is the same with `transforms` drawing from their own random stream: a pure function of
    (i, seed), which is what lets training resume exactly. The global random state is left as it was.

    A crowd box marks a region, not an object, so crowds are no targets; evaluation reads them from the
    annotation file itself. Boxes without an area inside the image are dropped, and counted in one warning.

    Args:
        root: the folder.
        split: names `annotations/instances_<split>.json` and the image folder.
        transforms: `(image, target) → (image, target)`, such as `train_transforms(...)`.

    Raises:
        DataError: the annotation file is missing or wrong, or an image it names does not exist;
            an image cannot be decoded or has another size than announced (when it is read).
    """

    def __init__(self, root: str | Path, split: str, transforms: Transforms | None = None) -> None:
        self.root, self.split, self.transforms = Path(root), split, transforms
        self.annotation_file = _annotation_file(self.root, split)
        self._split = _read_split(self.root, split)
        if self._split.problems:
            raise DataError(_summary(self.annotation_file, self._split.problems, self.root))
        self.categories: tuple[Category, ...] = self._split.categories
        self.image_ids: list[int] = [image.id for image in self._split.images]
        # (width, height) as announced; an image of another size is refused when it is read.
        self.image_sizes: list[tuple[int, int]] = [image.size for image in self._split.images]
        self.num_dropped: int = len(self._split.dropped)
        if self.num_dropped:
            warnings.warn(
                f"{self.annotation_file}: left out {self.num_dropped} box(es) that are empty, not finite "
                f"or outside their image (annotation {_first(self._split.dropped)})",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    def target(self, index: int) -> Target:
        """The target of `dataset[index]` before `transforms`, without reading the image."""
        return {"image_id": self._split.images[index].id, **self._split.objects[index].target()}

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Target]:
        index, seed = key if isinstance(key, tuple) else (key, None)
        entry = self._split.images[index]
        image, target = read_image(entry.path, entry.size), self.target(index)
        if self.transforms is None:
            return image, target
        if seed is None:
            return self.transforms(image, target)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would disturb CUDA's streams too
            return self.transforms(image, target)


def collate(batch: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """A batch as torchvision's detectors take it: images of any size, one target for each."""
    images, targets = zip(*batch)
    return list(images), list(targets)


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """An image file as float32 `[3, H, W]`, RGB in 0…1, whatever its mode; EXIF orientation is applied.

    Args:
        path: any format Pillow reads.
        size: (width, height) it is expected to have. If only the stored, unrotated pixels have this size,
        they are what
            the boxes were drawn on, and the orientation is not applied.

    Raises:
        DataError: the file cannot be decoded, or has another size.
    """
    try:
        with Image.open(path) as stored:
            stored.load()
            image = ImageOps.exif_transpose(stored)
            if size not in (None, image.size) and size == stored.size:
                image = stored
            if size not in (None, image.size):
                raise DataError(
                    f"{path} is {image.width}×{image.height}, its entry says {size[0]}×{size[1]}; "
                    "correct width and height, or restore the image the boxes were drawn on"
                )
            pixels = _rgb(image)
    # What Pillow's decoders raise on broken files; none of it names the file.
    except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); replace the file, or leave it out") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 `[H, W, 3]`."""
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit grey to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def split_names(root: str | Path) -> list[str]:
    """Names of the splits that have an annotation file, sorted."""
    files = (Path(root) / "annotations").glob(f"{_PREFIX}*{_SUFFIX}")
    return sorted(file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for file in files)


# What a split holds -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ImageEntry:
    id: int
    path: Path
    size: tuple[int, int]  # (width, height)


@dataclass
class _Objects:
    """Columns of objects; slicing takes rows."""

    boxes: np.ndarray  # [N, 4] float32 xyxy pixels
    labels: np.ndarray  # [N] int64 in 1…C
    area: np.ndarray  # [N] float32 pixels²
    salient_boxes: np.ndarray | None  # [N, 4] float32 xyxy pixels

    def rows(self, which: slice | np.ndarray) -> _Objects:
        salient = None if self.salient_boxes is None else self.salient_boxes[which]
        return _Objects(self.boxes[which], self.labels[which], self.area[which], salient)

    def target(self) -> Target:
        # Copies: what a caller does to its target must not reach the dataset.
        target = {
            "boxes": torch.tensor(self.boxes),
            "labels": torch.tensor(self.labels),
            "area": torch.tensor(self.area),
            "iscrowd": torch.zeros(len(self.labels), dtype=torch.int64),
        }
        if self.salient_boxes is not None:
            target["salient_boxes"] = torch.tensor(self.salient_boxes)
        return target


@dataclass
class _Split:
    """An annotation file, read and judged."""

    problems: list[str] = field(default_factory=list)
    categories: tuple[Category, ...] = ()
    images: list[_ImageEntry] = field(default_factory=list)
    objects: list[_Objects] = field(default_factory=list)  # one for each image
    crowds: int = 0
    dropped: list[int] = field(default_factory=list)  # annotation ids


def _annotation_file(root: Path, split: str) -> Path:
    return root / "annotations" / f"{_PREFIX}{split}{_SUFFIX}"


def _read_split(root: Path, split: str) -> _Split:
    """Reads the annotation file and looks for its images. Never raises: what is wrong is in `problems`."""
    result = _Split()
    content = _read_json(root, split, result.problems)
    if content is None:
        return result
    result.categories = _read_categories(content["categories"], result.problems)
    result.images = _read_images(content["images"], root / split, result.problems)
    _read_annotations(content["annotations"], result)
    return result


def _read_json(root: Path, split: str, problems: list[str]) -> dict[str, list] | None:
    file = _annotation_file(root, split)
    try:
        content = json.loads(file.read_bytes())
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


def _read_images(entries: list, folder: Path, problems: list[str]) -> list[_ImageEntry]:
    found: dict[int, _ImageEntry] = {}
    listings: dict[Path, set[str]] = {}  # one directory listing is far cheaper than a stat per image
    needed = {"id": int, "file_name": str, "width": int, "height": int}
    for position, entry in enumerate(entries):
        if not _well_formed(entry, f"images[{position}]", needed, problems):
            continue
        if entry["id"] in found:
            problems.append(f"image id {entry['id']} is given twice; ids must be unique")
            continue
        path = folder / entry["file_name"]
        if path.parent not in listings:
            listings[path.parent] = _listing(path.parent)
        if path.name not in listings[path.parent]:
            problems.append(f"image {path} (id {entry['id']}) does not exist; add the file or remove its entry")
        found[entry["id"]] = _ImageEntry(entry["id"], path, (entry["width"], entry["height"]))
    return list(found.values())


def _listing(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def _read_annotations(entries: list, result: _Split) -> None:
    """Fills objects, crowds and dropped."""
    labels = {category.id: label for label, category in enumerate(result.categories, start=1)}
    positions = {image.id: position for position, image in enumerate(result.images)}
    seen: set[int] = set()
    kept: list[dict] = []
    for position, entry in enumerate(entries):
        if not _well_formed(
            entry,
            f"annotations[{position}]",
            {"id": int, "image_id": int, "category_id": int},
            result.problems,
        ):
            continue
        problem = None
        if entry["id"] in seen:
            problem = "its id is given twice; ids must be unique"
        elif entry["image_id"] not in positions:
            problem = f'image_id {entry["image_id"]} is not among "images"; add the image or remove the annotation'
        elif entry["category_id"] not in labels:
            problem = f'category_id {entry["category_id"]} is not among "categories"; add it or correct it'
        elif not _is_box(entry.get("bbox")):
            problem = f"bbox must be four numbers [x, y, width, height], got {entry.get('bbox')!r}"
        elif "salient_bbox" in entry and not _is_box(entry["salient_bbox"]):
            problem = f"salient_bbox must be four numbers [x, y, width, height], got {entry['salient_bbox']!r}"
        seen.add(entry["id"])
        if problem:
            result.problems.append(f"annotation {entry['id']}: {problem}")
        elif is_crowd(entry):
            result.crowds += 1
        else:
            kept.append(entry)

    image_of = np.array([positions[entry["image_id"]] for entry in kept], dtype=np.int64)
    sizes = np.array([image.size for image in result.images], dtype=np.float64).reshape(-1, 2)[image_of]  # [N, 2]
    raw = np.array([entry["bbox"] for entry in kept], dtype=np.float64).reshape(-1, 4)
    boxes = np.clip(_xyxy(raw), 0, np.tile(sizes, 2)).astype(np.float32)  # NaN stays NaN
    good = np.isfinite(raw).all(1) & (raw[:, 2:] > 0).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    salient = None
    if kept and all("salient_bbox" in entry for entry in kept):
        salient = _xyxy(np.array([entry["salient_bbox"] for entry in kept], dtype=np.float64)).astype(np.float32)
    objects = _Objects(
        boxes=boxes,
        labels=np.array([labels[entry["category_id"]] for entry in kept], dtype=np.int64),
        area=np.array([area_of(entry) for entry in kept], dtype=np.float32),
        salient_boxes=salient,
    )
    result.dropped = [entry["id"] for entry, is_good in zip(kept, good) if not is_good]
    # Rows sorted by image, the file's order within one; each image's objects are then a slice of shared
    # columns.
    order = np.flatnonzero(good)[np.argsort(image_of[good], kind="stable")]
    objects = objects.rows(order)
    ends = np.searchsorted(image_of[order], np.arange(len(result.images)), side="right").tolist()
    result.objects = [objects.rows(slice(start, end)) for start, end in zip([0, *ends], ends)]


def _well_formed(entry: Any, where: str, needed: dict[str, type], problems: list[str]) -> bool:
    if not isinstance(entry, dict):
        problems.append(f"{where} must be an object, got {entry!r}")
        return False
    before = len(problems)
    for key, kind in needed.items():
        value = entry.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            kind_name = "an integer" if kind is int else "text"
            said = f"got {value!r}" if key in entry else "it is missing"
            problems.append(f'{where} (id {entry.get("id", "missing")}) needs "{key}", {kind_name}; {said}')
    return len(problems) == before


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(number, int | float) for number in value)


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether an annotation of the file marks a region instead of an object; without a flag it does not."""
    return bool(annotation.get("iscrowd"))


def area_of(annotation: dict[str, Any]) -> float:
    """An annotation's area in pixels², that of its box where the file has none (or null)."""
    area = annotation.get("area")
    return area if isinstance(area, int | float) else annotation["bbox"][2] * annotation["bbox"][3]


def _xyxy(xywh: np.ndarray) -> np.ndarray:
    """`[N, 4]` (x, y, width, height) → (x1, y1, x2, y2)."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _first(values: Sequence[object]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more


def _summary(file: Path, problems: list[str], root: Path) -> str:
    if len(problems) == 1:
        return f"{file}: {problems[0]}"
    lines = [f"{file}: {len(problems)} problems", *(f"  - {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  … and {len(problems) - _SHOWN} more; `tsdlab data check {root}` lists them all")
    return "\n".join(lines)


# tsdlab data check ------------------------------------------------------------------------------------------


@dataclass
class SplitReport:
    """What `check` found in one split; `str()` is what the command line prints."""

    split: str
    images: int
    objects: int  # usable boxes: crowds and dropped ones are not among them
    crowds: int
    images_without_objects: int
    dropped: tuple[int, ...]  # annotations whose boxes are empty, not finite or outside their image: ids
    class_counts: dict[str, int]  # category name → objects
    problems: list[str]

    def __str__(self) -> str:
        lines = [
            f"{self.split}: {self.images} images, {self.objects} objects, {self.crowds} crowds, "
            f"{self.images_without_objects} images without objects"
        ]
        if self.dropped:
            lines.append(f"  left out as unusable: the boxes of annotations {_first(self.dropped)}")
        width = max((len(name) for name in self.class_counts), default=0)
        lines += [f"  {name:<{width}}  {count:>7}" for name, count in self.class_counts.items()]
        lines += [f"  PROBLEM {problem}" for problem in self.problems] or ["  no problems"]
        return "\n".join(lines)


def check(root: str | Path, splits: Sequence[str] | None = None, progress: bool = True) -> list[SplitReport]:
    """Validates splits of a folder and decodes every image, collecting all problems instead of the first.

    Args:
        root: the folder.
        splits: names of those to look at; all that have an annotation file by default.
        progress: show a text progress bar on stderr.

    Returns:
        One report for each split. Categories that differ from the first split's are a problem as well.

    Raises:
        DataError: there is no split at all.
    """
    root = Path(root)
    names = split_names(root) if splits is None else splits
    if not names:
        raise DataError(f"{root} has no annotations/{_PREFIX}<split>{_SUFFIX}; is this the folder of the data set?")
    reports, reference = [], None
    for name in names:
        split = _read_split(root, name)
        reference = reference or split
        if split.categories and split.categories != reference.categories:
            split.problems.append(
                f"its categories differ from those of {names[0]}: "
                f"{_differing(split.categories, reference.categories)}; labels would mean different classes"
            )
        present = [image for image in split.images if image.path.is_file()]  # the others are reported already
        for image in tqdm(present, desc=f"reading {name}", unit="image", disable=not progress):
            try:
                read_image(image.path, image.size)
            except DataError as error:
                split.problems.append(str(error))
        reports.append(_report(name, split))
    return reports


def _report(name: str, split: _Split) -> SplitReport:
    labels = np.concatenate([np.zeros(0, np.int64), *(objects.labels for objects in split.objects)])
    counts = np.bincount(labels, minlength=len(split.categories) + 1)[1:]
    return SplitReport(
        split=name,
        images=len(split.images),
        objects=len(labels),
        crowds=split.crowds,
        images_without_objects=sum(len(objects.labels) == 0 for objects in split.objects),
        dropped=tuple(split.dropped),
        class_counts={category.name: int(count) for category, count in zip(split.categories, counts)},
        problems=split.problems,
    )


def _differing(these: tuple[Category, ...], those: tuple[Category, ...]) -> str:
    return _first([f"{c.id} {c.name!r}" for c in sorted(set(these) ^ set(those), key=lambda c: (c.id, c.name))])
