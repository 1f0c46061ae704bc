"""Whether a data set can be trained on: one judgement, for `tsdlab data check` and for `tsdlab train`.

`read_split` judges one annotation file. Here is what needs the headers of the images, all boxes together, or several
splits. Problems stop or ruin training. Notes are worth knowing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsdlab.config import Config, RoIConfig
from tsdlab.data.anchors import AnchorFit, fit_anchors
from tsdlab.data.annotations import FILE_PATTERN, ImageEntry, Split, read_split, split_names, summary
from tsdlab.data.coco import NOT_ANNOTATED, CocoDataset
from tsdlab.data.columns import blocks
from tsdlab.data.conventions import BoxHabits
from tsdlab.data.images import inspect_image, read_image, vanishes
from tsdlab.data.parallel import in_parallel
from tsdlab.data.values import Id
from tsdlab.errors import DataError, listed, shown
from tsdlab.progress import progress_bar
from tsdlab.terminal import name_column

_LEAST_SIDE = 2  # pixels
_LONGEST = 100  # sides; no image from here on is used
_LONG = 30  # sides; a longer image may vanish when it is resized: `ImageSide` allows 32 pixels
_MOST_OBJECTS = RoIConfig().detections_per_image
_TWINS_SHOWN = 3
_LEAVING_NOTED, _LEAVING_REFUSED = 0.25, 0.5  # shares of all boxes


@dataclass
class SplitReport:
    """What `check_folder` found in one split; `str()` is what the command line prints."""

    split: str
    images: int
    objects: int  # usable boxes, without crowds
    crowds: int
    images_without_objects: int
    dropped: tuple[Id, ...]  # ids of annotations whose boxes have a side below one pixel inside their image
    class_counts: dict[str, int]  # category name → objects
    problems: list[str]  # what stops or ruins training, one line for each kind
    notes: list[str]  # what is worth knowing, one line for each kind
    anchors: AnchorFit | None = None  # how the anchors of a config fit the boxes, if that was asked for

    def __str__(self) -> str:
        lines = [
            f"{self.split}: {self.images} images, {self.objects} objects, {self.crowds} crowds, "
            f"{self.images_without_objects} images without objects"
        ]
        if self.dropped:
            lines.append(
                f"  left out as unusable: the boxes of annotations {listed([shown(repr(id)) for id in self.dropped])}"
            )
        _, *names = name_column(list(self.class_counts))
        lines += [f"  {name}  {count:>7}" for name, count in zip(names, self.class_counts.values())]
        lines += [f"  PROBLEM {problem}" for problem in self.problems] or ["  no problems"]
        lines += [f"  note: {note}" for note in self.notes]
        if self.anchors is not None:
            lines.append(str(self.anchors))
        return "\n".join(lines)


def check_folder(
    root: str | Path,
    splits: Sequence[str] | None = None,
    progress: bool = True,
    decode: bool = False,
    train_split: str = "train",
    val_split: str = "val",
    config: Config | None = None,
) -> list[SplitReport]:
    """Read the annotation files of a folder and the headers of all images, and collect all problems.

    A folder without problems can be trained on. Only images whose pixels are damaged are found by `decode` alone.
    Problems of a split that was not asked for and that training does not read are notes.

    Args:
        root: the folder.
        splits: names of the splits to check; by default all that have an annotation file, and the two that training
            needs.
        progress: show a text progress bar on stderr.
        decode: also decode the pixels of every image.
        train_split: name of the split that is trained on.
        val_split: name of the split that is evaluated on.
        config: also compare its anchors with the boxes of the training split, unless that has problems.

    Returns:
        One report for each split, sorted by name.

    Raises:
        DataError: there is no split at all.
    """
    root = Path(root)
    existing = split_names(root)
    if splits is None and not existing:
        raise DataError(
            f"{shown(root)} has no {FILE_PATTERN}; is this the folder of the data set? "
            "`tsdlab data import` reads other formats"
        )
    names = sorted({*existing, train_split, val_split}) if splits is None else splits
    read = {name: read_split(root, name) for name in names}
    for name, split in read.items():
        if not split.is_annotated:
            findings = split.problems if name in (train_split, val_split) else split.notes
            findings.add("no annotations", "", NOT_ANNOTATED)
    _judge(read, (train_split, val_split), progress, decode)
    needed = {train_split, val_split} if splits is None else {*splits}
    reports = [_report(name, split, name in needed) for name, split in read.items()]
    if config is not None:
        for report in reports:
            if report.split == train_split and not report.problems:
                report.anchors = fit_anchors(*_boxes(read[train_split]), config)
    return reports


def anchor_fit(dataset: CocoDataset, config: Config) -> AnchorFit | None:
    """How the anchors of `config` fit the boxes of a split, and better ones; None if there is no box with an area."""
    return fit_anchors(*_boxes(dataset.content), config)


def require_trainable(train: CocoDataset, val: CocoDataset, max_size: int, progress: bool = True) -> None:
    """Refuse what `check_folder` reports, and images that vanish when they are resized to at most `max_size` pixels.

    Reads the headers of all images, and no pixels.

    Raises:
        DataError: one of the splits has a problem.
    """
    _judge({dataset.split: dataset.content for dataset in (train, val)}, (train.split, val.split), progress)
    for dataset in (train, val):
        for image in dataset.content.images:
            if vanishes(*image.size, max_size):
                what = f" vanishes when it is resized to image.max_size, {max_size}; raise that, or cut the image"
                dataset.content.problems.add("vanishes", shown(image.path), what)
        if dataset.content.problems:
            raise DataError(summary(dataset.root, dataset.split, dataset.content.problems))


# Judging ----------------------------------------------------------------------------------------------------


def _judge(splits: Mapping[str, Split], used: Sequence[str], progress: bool, decode: bool = False) -> None:
    """Add to the problems and notes of every split. `used` are the names of those for training and for evaluation."""
    for split in splits.values():
        if split.is_annotated and split.images and split.categories:
            _judge_objects(split)
    _compare_categories(splits, used)
    for name, split in splits.items():
        _judge_images(split, name, progress, decode)


def _judge_objects(split: Split) -> None:
    _note_objects(split)
    if split.problems:  # some objects are missing from the columns: these tell nothing about the others
        return
    habits, dropped = BoxHabits(), len(split.dropped)
    for _, boxes, sizes in _single_objects(split):
        habits.add(boxes, sizes)
    convention, leaving = habits.wrong_convention(), habits.share_leaving()
    if convention is not None:
        split.problems.add("convention", "", convention)
    elif dropped > habits.boxes / 2:
        split.problems.add(
            "dropped",
            "",
            f"{dropped:,} of {habits.boxes:,} boxes have a side below one pixel inside their images; "
            "correct the boxes, or the sizes of the images",
        )
    elif leaving > _LEAVING_NOTED:
        findings = split.problems if leaving >= _LEAVING_REFUSED else split.notes
        what = f"{leaving:.0%} of the boxes leave their images; are they [x, y, width, height] in pixels?"
        findings.add("leaving", "", what)
    elif not habits.boxes:
        crowds = f", only {split.crowds} crowds" if split.crowds else ""
        split.problems.add("no objects", "", f"the split has no objects{crowds}; annotate some, or leave the split out")


def _single_objects(split: Split) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The annotations without the crowds, a few at a time: their rows, boxes [N, 4] and sizes of images [N, 2]."""
    annotations = split.annotations
    for block in blocks(len(annotations.ids)):
        rows = block.start + np.flatnonzero(~annotations.crowd[block])
        yield rows, annotations.boxes[rows], split.images.sizes[annotations.images[rows]]


def _boxes(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Every box without the crowds, [N, 4], and the size of its image, [N, 2]."""
    parts = [(boxes, sizes) for _, boxes, sizes in _single_objects(split)]
    if not parts:
        return np.zeros((0, 4)), np.zeros((0, 2))
    boxes, sizes = (np.concatenate(columns) for columns in zip(*parts))
    return boxes, sizes


def _note_objects(split: Split) -> None:
    annotations = split.annotations
    counts = np.zeros(len(split.images), np.int64)
    all_lost: list[int] = []
    for single, boxes, sizes in _single_objects(split):
        beyond = ((boxes[:, :2] < -1) | (boxes[:, :2] + boxes[:, 2:] > sizes + 1)).any(1)
        for row in single[beyond].tolist():
            what = " extends beyond its image and is clipped"
            split.notes.add("beyond", f"the box of annotation {shown(repr(annotations.ids[row]), 80)}", what)
        # The best that a detection can be is the part inside the image; AP's lowest threshold of IoU is one half.
        inside = (np.minimum(boxes[:, :2] + boxes[:, 2:], sizes) - np.maximum(boxes[:, :2], 0)).clip(0)
        with np.errstate(over="ignore"):
            lost = ~((boxes[:, 2:] > 0).all(1) & (2 * inside.prod(1) >= boxes[:, 2:].prod(1)))
        all_lost += single[lost].tolist()
        counts += np.bincount(annotations.images[single], minlength=len(counts))
    if all_lost:
        which = listed([shown(repr(annotations.ids[row]), 80) for row in all_lost])
        what = (
            f"{len(all_lost):,} objects have no area, or more than half of it outside their images (annotations "
            f"{which}); these objects still count in AP as objects that cannot be found"
        )
        split.notes.add("lost", "", what)
    for position in np.flatnonzero(counts > _MOST_OBJECTS).tolist():
        what = (
            f" has {counts[position]} objects; AP counts at most {_MOST_OBJECTS} detections in an image, and the "
            "default of roi.detections_per_image is the same: AP cannot reach 100"
        )
        split.notes.add("many", f"image {shown(repr(split.images.ids[position]), 80)}", what)


def _compare_categories(splits: Mapping[str, Split], used: Sequence[str]) -> None:
    """Classes are matched by name. Splits whose categories could not be read are left out."""
    sound = {n: split.categories for n, split in splits.items() if split.categories_are_sound and split.is_annotated}
    if not sound:
        return
    reference = next(name for name in (*used, *sound) if name in sound)
    classes = {category.name for category in sound[reference]}
    for name, categories in sound.items():
        own = {category.name for category in categories}
        if own != classes:
            one_sided = {name: own - classes, reference: classes - own}
            sides = [f"only in {shown(split)}: {_names(names)}" for split, names in one_sided.items() if names]
            sides += _twins(one_sided)
            splits[name].problems.add(
                "categories",
                "",
                f"the classes of {shown(name)} and {shown(reference)} differ ({'; '.join(sides)}); give both files "
                "the same categories",
            )
        elif categories != sound[reference]:
            moved = sorted(c.name for c in set(categories) - set(sound[reference]))
            splits[name].notes.add(
                "ids", "", f"the ids of {_names(moved)} differ from those of {shown(reference)}; names count, not ids"
            )


def _twins(names: Mapping[str, set[str]]) -> list[str]:
    """The names of two splits that look the same, such as an é in one character and in two, in words."""
    (one, left), (other, right) = names.items()
    twins = {unicodedata.normalize("NFC", name): name for name in right}
    pairs = [(name, twins.get(unicodedata.normalize("NFC", name))) for name in sorted(left)]
    return [
        f"{shown(repr(name), 80)} has the same look, other Unicode form: {shown(ascii(name), 80)} in "
        f"{shown(one)}, {shown(ascii(twin), 80)} in {shown(other)}"
        for name, twin in pairs
        if twin is not None
    ][:_TWINS_SHOWN]


def _names(names: Sequence[str] | set[str]) -> str:
    return listed([shown(repr(name), 80) for name in sorted(names)])


def _judge_images(split: Split, name: str, progress: bool, decode: bool) -> None:
    """Read the header of every image, or all of it; those without a file are reported already."""
    images = split.images
    shorter, longer = images.sizes.min(1), images.sizes.max(1)
    for index in np.flatnonzero((_LONG * shorter < longer) & (longer < _LONGEST * shorter)):
        what = f" is more than {_LONG} times as long as it is wide; image.max_size must be at least that many pixels"
        split.notes.add("long", shown(images[index].path), what)
    present = np.setdiff1d(np.arange(len(images)), split.absent)
    faults = in_parallel(lambda index: _fault(images[index], decode), present)
    for index, what in zip(present, progress_bar(faults, f"checking {name}", len(present), progress)):
        if what is not None:
            kind = re.sub(r"\d+", "0", what)  # the same words: the same kind
            split.problems.add(kind, shown(images[index].path), what)


def _fault(image: ImageEntry, decode: bool) -> str | None:
    """Why an image cannot be used, in words that follow its path."""
    try:
        if decode:
            height, width = read_image(image.path, image.size).shape[1:]
        else:
            width, height = inspect_image(image.path, image.size)
    except DataError as error:
        return str(error).removeprefix(shown(image.path))
    if min(width, height) >= _LEAST_SIDE and max(width, height) < _LONGEST * min(width, height):
        return None
    return (
        f" is {width}×{height}; an image needs at least {_LEAST_SIDE} pixels a side, and must be less than {_LONGEST} "
        "times as long as it is wide. Cut it into parts, or remove its entry"
    )


# Reporting --------------------------------------------------------------------------------------------------


def _report(name: str, split: Split, is_needed: bool) -> SplitReport:
    counts = split.object_counts
    problems, notes = split.problems.lines(), split.notes.lines()
    return SplitReport(
        split=name,
        images=len(split.images),
        objects=int(counts.sum()),
        crowds=split.crowds,
        images_without_objects=int((counts == 0).sum()),
        dropped=tuple(split.dropped),
        class_counts={c.name: count for c, count in zip(split.categories, split.label_counts.tolist())},
        problems=problems if is_needed else [],
        notes=[*([] if is_needed else (f"{line}; training does not read this split" for line in problems)), *notes],
    )
