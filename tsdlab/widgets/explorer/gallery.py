"""The images that an explorer steps through: read by index, and listed by the class and size of their objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from tsdlab.analysis.proposal import GroundTruth
from tsdlab.errors import InputError

# The sizes of COCO, by area in pixels²; and thirds of this data set's objects, for data in which all are small to COCO.
SIZES = ("small", "medium", "large", "smallest third", "middle third", "largest third")
_COCO_AREAS = (0.0, 32.0**2, 96.0**2, math.inf)
_THIRDS = (0.0, 1 / 3, 2 / 3, 1.0)


class Gallery:
    """Images with their objects: `gallery[index]` is (pixels [3, H, W] in 0…1, `GroundTruth`).

    Args:
        dataset: anything with a length whose items are `(image, target)`, or one image, or one such pair.
        classes: C, the number of classes that the detectors know.
        names: names of the classes 1…C. By default the data set's categories, or numbers if it has none.

    Attributes:
        names: names of the classes 1…C.
        variable: what a line of Python calls the data, "dataset" or "image".

    Raises:
        InputError: there is no image, or there are not as many names as classes.
    """

    def __init__(self, dataset: Any, classes: int, names: Sequence[str] | None = None) -> None:
        self._items, self.variable = _items(dataset)
        self.names = _class_names(dataset, classes, names)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, GroundTruth]:
        item = self._items[index]
        if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[1], Mapping):
            raise InputError(f"the items of dataset must be (image, target), target a dict; item {index} is not")
        pixels, target = item
        return pixels, GroundTruth.of(target)

    def passing(self, category: str | None, size: str | None) -> list[int]:
        """Indices of the images with an object of this class and this size (one of `SIZES`); None stands for any."""
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

    @cached_property
    def _objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, label and area of every object of the data set, [objects] each."""
        images, labels, areas = [], [], []
        read = getattr(self._items, "target", lambda index: self._items[index][1])
        for index in range(len(self)):
            truth = GroundTruth.of(target := read(index))
            images += [index] * len(truth.labels)
            labels += truth.labels.tolist()
            sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
            areas += target.get("area", sides.prod(dim=1)).tolist()
        return np.array(images, dtype=np.int64), np.array(labels, dtype=np.int64), np.array(areas, dtype=np.float64)


def _items(dataset: Any) -> tuple[Any, str]:
    """The items (image, target), and what to call the data in a line of Python."""
    if isinstance(dataset, Tensor):
        return [(dataset, {})], "image"
    if isinstance(dataset, tuple) and len(dataset) == 2 and isinstance(dataset[1], Mapping):
        return [dataset], "image"
    has_items = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if not has_items or isinstance(dataset, str | np.ndarray):
        raise InputError(
            f"dataset must be a data set, an image [3, H, W] (a tensor) or a pair (image, target), got "
            f"{type(dataset).__name__}"
        )
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
            f"the model knows {classes} classes, but there are {len(names)} names (the categories of the data, or "
            f"names=): {some}"
        )
    return list(names)
