"""The images that an explorer goes through: read by index, listed by class, by size and by disagreement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from tsdlab.analysis.proposal import Conflict, GroundTruth, find_conflict
from tsdlab.errors import InputError
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe

# COCO's sizes by area in pixels², and thirds of this data set's objects, for data whose objects COCO calls all small.
SIZES = ("small", "medium", "large", "smallest third", "middle third", "largest third")
_COCO_AREAS = (0.0, 32.0**2, 96.0**2, math.inf)
_THIRDS = (0.0, 1 / 3, 2 / 3, 1.0)
_TELL_EVERY = 5  # images, of a scan that takes about a second for as many


class Gallery:
    """Images with their objects, `gallery[index]` → (pixels [3, H, W] in 0…1, `GroundTruth`).

    `names` are the classes 1…C; `variable` is what a line of Python calls the data.

    Args:
        dataset: anything with a length whose items are `(image, target)`, or one image, or one such pair.
        classes: C, how many classes the detectors tell apart.
        names: of the classes 1…C; the data set's own categories by default, else their numbers.

    Raises:
        ValueError: there is no image, or the names are not as many as the classes.
    """

    def __init__(self, dataset: Any, classes: int, names: Sequence[str] | None = None) -> None:
        self._items, self.variable = _items(dataset)
        self.names = _class_names(dataset, classes, names)
        self._conflicts: dict[tuple[str, int], Conflict | None] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, GroundTruth]:
        pixels, target = self._items[index]
        return pixels, _ground_truth(target)

    def passing(self, category: str | None, size: str | None) -> list[int]:
        """Images with an object of this class and size (`SIZES`; None is any), in the file's order."""
        if category is None and size is None:
            return list(range(len(self)))
        images, labels, areas = self._objects
        fits = np.ones(len(images), dtype=bool)
        if category is not None:
            fits &= labels == self.names.index(category) + 1
        if size is not None and len(areas):
            number = SIZES.index(size)
            edges = _COCO_AREAS if number < 3 else [*np.quantile(areas, _THIRDS[:3]), math.inf]
            fits &= (areas >= edges[number % 3]) & (areas < edges[number % 3 + 1])
        return np.unique(images[fits]).tolist()

    def by_disagreement(
        self, images: Sequence[int], name: str, detector: Detector, tell: Callable[[int, int], None]
    ) -> list[int]:
        """`images`, those first in which the detector's score chooses a proposal that fits much worse than the best.

        Args:
            name: of the detector: each is asked once about an image.
            tell: is called with (done, total) now and then.
        """
        for done, index in enumerate(images):
            if (name, index) not in self._conflicts:
                pixels, truth = self[index]
                self._conflicts[name, index] = find_conflict(Probe(detector, pixels), truth)
                if done % _TELL_EVERY == 0:
                    tell(done, len(images))
        gaps = {index: -1.0 if (found := self.conflict(name, index)) is None else found.gap for index in images}
        return sorted(images, key=lambda index: -gaps[index])

    def conflict(self, name: str, index: int) -> Conflict | None:
        """What `by_disagreement` found of a detector and an image; None where there is none, or nobody asked."""
        return self._conflicts.get((name, index))

    @cached_property
    def _objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, label and area of every object of the data set."""
        images, labels, areas = [], [], []
        read = getattr(self._items, "target", lambda index: self._items[index][1])
        for index in range(len(self)):
            truth = _ground_truth(target := read(index))
            images += [index] * len(truth.labels)
            labels += truth.labels.tolist()
            sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
            areas += target.get("area", sides.prod(dim=1)).tolist()
        return np.array(images, dtype=np.int64), np.array(labels, dtype=np.int64), np.array(areas, dtype=np.float64)


def _items(dataset: Any) -> tuple[Any, str]:
    """Something to index, and what to call it in a line of Python."""
    if isinstance(dataset, Tensor):
        return [(dataset, {})], "image"
    if isinstance(dataset, tuple) and len(dataset) == 2 and isinstance(dataset[1], Mapping):
        return [dataset], "image"
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise InputError(f"dataset must be a data set or an image [3, H, W], got {type(dataset).__name__}")
    if len(dataset) == 0:
        raise InputError("dataset has no image")
    return dataset, "dataset"


def _class_names(dataset: Any, classes: int, names: Sequence[str] | None) -> list[str]:
    if names is None:
        categories = getattr(dataset, "categories", None)
        names = [category.name for category in categories] if categories else [str(i + 1) for i in range(classes)]
    if len(names) != classes:
        some = ", ".join(names[:8])
        raise InputError(
            f"the model tells {classes} classes apart, but there are {len(names)} names, of the data's categories or "
            f"given as names=: {some}"
        )
    return list(names)


def _ground_truth(target: Mapping[str, Any]) -> GroundTruth:
    if "boxes" not in target:
        return GroundTruth()
    return GroundTruth(target["boxes"].cpu(), target["labels"].cpu(), target.get("salient_boxes"))
