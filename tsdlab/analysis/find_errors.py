"""Where a detector loses AP on a data set: from the model to every number about its errors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tsdlab.analysis.confusion import Confusion, confuse
from tsdlab.analysis.costs import ErrorCosts, Gains, error_costs, gains_of
from tsdlab.analysis.curves import Curves, precision_recall
from tsdlab.analysis.errors import KINDS, Judged, judge
from tsdlab.analysis.image_errors import ImageErrors, image_errors, worst_images
from tsdlab.analysis.statistics import REPLICATES
from tsdlab.data.coco import CocoDataset
from tsdlab.data.items import Items, as_items
from tsdlab.evaluation import Detections, Metrics, detect_all, measure
from tsdlab.ranges import Count, check_value


@dataclass(frozen=True)
class Errors:
    """The errors of a detector on a data set."""

    metrics: Metrics
    costs: ErrorCosts
    curves: Curves
    confusion: Confusion
    gains: Gains  # what the costs and their intervals come from
    dataset: CocoDataset | Items

    @property
    def judged(self) -> Judged:
        """Every detection and object."""
        return self.gains.judged

    def worst(self, count: int) -> list[ImageErrors]:
        """The images with the most errors, at most `count`; they are read again."""
        return self.of_images(worst_images(self.judged, count))

    def of_images(self, images: list[int]) -> list[ImageErrors]:
        """What is right and wrong in some images, by their indices; they are read again."""
        return image_errors(self.judged, self.dataset, images)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; a missing value is None, never NaN."""
        return {
            "metrics": self.metrics.as_dict(),
            "costs": dataclasses.asdict(self.costs),
            "precision_recall": self.curves.as_dict(),
            "confusion": self.confusion.as_dict(),
        }

    def __str__(self) -> str:
        """AP, AP50 and every cost, a line each."""
        overall = self.costs.overall
        rows = {"AP": overall.AP, "AP50": overall.AP50, "loose boxes": overall.loose}
        rows |= {kind: overall.kinds[kind] for kind in KINDS}
        return "\n".join(
            [f"{'':<16}{'points of AP':<24}count"] + [f"{name:<16}{of!s:<24}{of.count}" for name, of in rows.items()]
        )


def find_errors(
    model: Any,
    dataset: Any,
    images: int | None = None,
    replicates: int = REPLICATES,
    batch_size: int = 8,
    progress: bool = True,
    workers: int = 0,
) -> Errors:
    """Detect the objects of a data set, and say where AP is lost.

    Under torchrun every process that calls this looks at all images: let one of them do it.

    Args:
        model: a detector, as `tsdlab.evaluate` takes it.
        dataset: the images and objects, as `tsdlab.evaluate` takes them.
        images: use only the first images, this many; None uses all.
        replicates: of the bootstrap over images.
        batch_size: images per batch.
        progress: show a progress bar.
        workers: processes that load images; 0 loads them in this one.

    Raises:
        InputError: the dataset has a category that the model does not know, or `images` is less than 1.
    """
    check_value("images", images, Count | None)
    used = dataset if images is None else as_items(dataset).first(images)
    return errors_of(detect_all(model, used, batch_size, progress=progress, workers=workers), replicates)


def errors_of(found: Detections, replicates: int = REPLICATES) -> Errors:
    """The errors of detections that there are already.

    Args:
        found: as `tsdlab.evaluation.detect_all` returns them.
        replicates: of the bootstrap over images.
    """
    judged = judge(found.dataset, found.results)
    gains = gains_of(judged, replicates)
    return Errors(
        metrics=measure(found.dataset, found.results, found.detections_per_image),
        costs=error_costs(gains),
        curves=precision_recall(judged),
        confusion=confuse(judged),
        gains=gains,
        dataset=found.dataset,
    )
