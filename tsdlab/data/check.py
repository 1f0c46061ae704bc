"""What `tsdlab data check` reports: everything in a folder that would stop training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tsdlab.data.annotations import FILE_PATTERN, Split, listed, read_split, split_names
from tsdlab.data.images import read_image
from tsdlab.errors import DataError
from tsdlab.structures import Category


@dataclass
class SplitReport:
    """What `check_folder` found in one split; `str()` is what the command line prints."""

    split: str
    images: int
    objects: int  # usable boxes, without crowds
    crowds: int
    images_without_objects: int
    dropped: tuple[int, ...]  # ids of annotations whose boxes are empty, not finite or outside their image
    class_counts: dict[str, int]  # category name → objects
    problems: list[str]

    def __str__(self) -> str:
        lines = [
            f"{self.split}: {self.images} images, {self.objects} objects, {self.crowds} crowds, "
            f"{self.images_without_objects} images without objects"
        ]
        if self.dropped:
            lines.append(f"  left out as unusable: the boxes of annotations {listed(self.dropped)}")
        width = max((len(name) for name in self.class_counts), default=0)
        lines += [f"  {name:<{width}}  {count:>7}" for name, count in self.class_counts.items()]
        lines += [f"  PROBLEM {problem}" for problem in self.problems] or ["  no problems"]
        return "\n".join(lines)


def check_folder(root: str | Path, splits: Sequence[str] | None = None, progress: bool = True) -> list[SplitReport]:
    """Read the annotation files of a folder and decode every image, collecting all problems.

    Args:
        root: the folder.
        splits: names of the splits to check; by default all that have an annotation file.
        progress: show a text progress bar on stderr.

    Returns:
        One report for each split. It is a problem, too, if the categories differ from the first split's.

    Raises:
        DataError: there is no split at all.
    """
    root = Path(root)
    names = split_names(root) if splits is None else splits
    if not names:
        raise DataError(f"{root} has no {FILE_PATTERN}; is this the folder of the data set?")
    read = {name: read_split(root, name) for name in names}
    reference = read[names[0]].categories
    for name, split in read.items():
        if split.categories and split.categories != reference:
            split.problems.append(
                f"its categories differ from those of {names[0]}: {_difference(split.categories, reference)}; "
                "labels would mean different classes"
            )
        split.problems += _undecodable(split, name, progress)
    return [_report(name, split) for name, split in read.items()]


def _undecodable(split: Split, name: str, progress: bool) -> list[str]:
    """The problems of the images that exist; `read_split` reports the others."""
    problems = []
    existing = [image for image in split.images if image.path.is_file()]
    for image in tqdm(existing, desc=f"reading {name}", unit="image", disable=not progress):
        try:
            read_image(image.path, image.size)
        except DataError as error:
            problems.append(str(error))
    return problems


def _report(name: str, split: Split) -> SplitReport:
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


def _difference(one: tuple[Category, ...], other: tuple[Category, ...]) -> str:
    return listed([f"{c.id} {c.name!r}" for c in sorted(set(one) ^ set(other), key=lambda c: (c.id, c.name))])
