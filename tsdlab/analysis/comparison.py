"""Two detectors on the same images: which errors the second one repairs, and in which images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsdlab.analysis.costs import ErrorCosts, compare_costs
from tsdlab.analysis.find_errors import Errors, find_errors
from tsdlab.analysis.image_errors import ImageErrors, errors_by_image
from tsdlab.analysis.statistics import REPLICATES
from tsdlab.data.items import as_items
from tsdlab.errors import InputError


@dataclass(frozen=True)
class Comparison:
    """The errors of two detectors, and how they differ."""

    first: Errors
    second: Errors
    difference: ErrorCosts  # of the second one minus the first one; each replicate draws the same images for both

    def changes(self) -> np.ndarray:
        """How many errors more the second detector makes in each image, [images]; see `image_errors`."""
        return (errors_by_image(self.second.judged) - errors_by_image(self.first.judged)).round(9)

    def repaired(self, count: int) -> list[tuple[ImageErrors, ImageErrors]]:
        """The images where the second detector makes most fewer errors, at most `count`, as both see them."""
        return self._shown(self.changes(), count)

    def broken(self, count: int) -> list[tuple[ImageErrors, ImageErrors]]:
        """The images where the second detector makes most more errors, at most `count`, as both see them."""
        return self._shown(-self.changes(), count)

    def _shown(self, changes: np.ndarray, count: int) -> list[tuple[ImageErrors, ImageErrors]]:
        order = np.argsort(changes, kind="stable")[:count]
        images = [int(image) for image in order if changes[image] < 0]
        return list(zip(self.first.of_images(images), self.second.of_images(images)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; of the images, those with another number of errors."""
        items = as_items(self.first.dataset)
        before, after = (errors_by_image(errors.judged) for errors in (self.first, self.second))
        return {
            "first": self.first.as_dict(),
            "second": self.second.as_dict(),
            "difference": dataclasses.asdict(self.difference),
            "images": [
                {
                    "image_id": items.image_ids[image],
                    "file": items.file_name(image),
                    "errors": [float(before[image]), float(after[image])],
                }
                for image in np.flatnonzero(before != after).tolist()
            ],
        }


def compare_errors(
    first: Any,
    second: Any,
    dataset: Any,
    images: int | None = None,
    replicates: int = REPLICATES,
    batch_size: int = 8,
    progress: bool = True,
    workers: int = 0,
) -> Comparison:
    """Find the errors of two detectors on the same data set.

    Args:
        first: a detector, as `tsdlab.evaluate` takes it.
        second: another one.
        dataset: the images and objects, as `tsdlab.evaluate` takes them, the same each time that they are read.
        images: use only the first images, this many; None uses all.
        replicates: of the bootstrap over images.
        batch_size: images per batch.
        progress: show a progress bar for each detector.
        workers: processes that load images; 0 loads them in this one.

    Raises:
        InputError: the dataset has a category that a model does not know, or gives other objects the second time.
    """
    before, after = (
        find_errors(model, dataset, images, replicates, batch_size, progress, workers) for model in (first, second)
    )
    if not np.array_equal(before.judged.object_boxes, after.judged.object_boxes):
        raise InputError("dataset gives other objects each time that it is read; compare on one without random changes")
    return Comparison(before, after, compare_costs(before.gains, after.gains))
