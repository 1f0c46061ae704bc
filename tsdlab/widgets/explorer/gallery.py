"""The images that an explorer steps through: read by index, and listed by the class and size of their objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from tsdlab.analysis.proposal import GroundTruth
from tsdlab.data.items import as_items
from tsdlab.errors import InputError, shown, shown_value
from tsdlab.models.detector import Detector

# The sizes of COCO, by area in pixels²; and thirds of this data set's objects, for data in which all are small to COCO.
SIZES = ("small", "medium", "large", "smallest third", "middle third", "largest third")
_COCO_AREAS = (0.0, 32.0**2, 96.0**2, math.inf)
_THIRDS = (0.0, 1 / 3, 2 / 3, 1.0)


class Gallery:
    """Images with their objects: `gallery[index]` is (pixels [3, H, W] in 0…1, `GroundTruth`).

    Args:
        dataset: what `Items` takes.
        model: a detector; labels of the data become its labels. Several detectors must have the same classes.
        names: names of the classes 1…C. By default the model's, else the data set's categories, or numbers if it has
            none. A first name for the background, which torchvision's lists of names have, is left out.

    Attributes:
        names: names of the classes 1…C.
        variable: what a line of Python calls the data, "dataset" or "image".

    Raises:
        InputError: there is no image, or the classes of model, data and names do not fit.
    """

    def __init__(self, dataset: Any, model: Detector, names: Sequence[str] | None = None) -> None:
        items = as_items(dataset)
        classes = model.config.num_classes
        names = None if names is None else _check_names(names, classes)
        self._items = items.for_model(model, names)
        self.names = list(self._items.names)
        self.variable = "image" if items.is_one_image else "dataset"
        if len(self.names) != classes:
            raise InputError(
                f"the model knows {classes} classes, but there are {len(self.names)} names (the categories of the "
                f"data, or names=): {shown(', '.join(self.names))}"
            )

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, GroundTruth]:
        pixels, target = self._items[index]
        return pixels, GroundTruth.of(target)

    def passing(self, category: str | None, size: str | None) -> list[int]:
        """Indices of the images with an object of this class and this size (one of `SIZES`); None stands for any."""
        if category is None and size is None:
            return list(range(len(self)))
        images, labels, areas = self._objects
        fits = np.ones(len(images), dtype=bool)
        if category is not None:
            fits &= np.isin(labels, [label for label, name in enumerate(self.names, 1) if name == category])
        if size is not None and len(areas):
            number = SIZES.index(size)
            edges = _COCO_AREAS if number < 3 else [*np.quantile(areas, _THIRDS[:3]), math.inf]
            fits &= (areas >= edges[number % 3]) & (areas < edges[number % 3 + 1])
        return np.unique(images[fits]).tolist()

    @cached_property
    def _objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, label and area of every object of the data set, [objects] each."""
        images, labels, areas = [], [], []
        for index in range(len(self)):
            truth = GroundTruth.of(target := self._items.target(index))
            images += [index] * len(truth.labels)
            labels += truth.labels.tolist()
            sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
            areas += target.get("area", sides.prod(dim=1)).tolist()
        return np.array(images, dtype=np.int64), np.array(labels, dtype=np.int64), np.array(areas, dtype=np.float64)


def _is_text(name: str) -> bool:
    """Whether it can be sent to the page: half a surrogate pair cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_names(names: Any, classes: int) -> list[str]:
    """Names of the classes 1…C as a list."""
    listed = list(names) if isinstance(names, Iterable) and not isinstance(names, str | Mapping) else []
    if not listed or not all(isinstance(name, str) and _is_text(name) for name in listed):
        raise InputError(f"names must be a list of the names of the {classes} classes, got {shown_value(names)}")
    if len(listed) == classes + 1 and listed[0].strip("_").lower() == "background":
        del listed[0]
    return listed
