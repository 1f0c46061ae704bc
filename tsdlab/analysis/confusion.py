"""Which classes a detector takes for which: a confusion matrix of detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tsdlab.analysis.errors import FINDS, IGNORED, Judged, by_image, iou_of

SCORE_THRESH = 0.5  # detections with lower scores are not counted here


@dataclass(frozen=True)
class Confusion:
    """How often an object of one class is detected as another one; index 0 stands for the background."""

    categories: tuple[str, ...]  # of the labels 1…C
    counts: np.ndarray  # [1 + C, 1 + C] rows: class of the object; columns: class of the detection
    score_thresh: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every pair of classes that occurs; None stands for the background."""
        names = (None, *self.categories)
        pairs = np.argwhere(self.counts).tolist()
        return {
            "score_thresh": self.score_thresh,
            "counts": [
                {"object": names[row], "detection": names[column], "count": int(self.counts[row, column])}
                for row, column in pairs
            ],
        }


def confuse(judged: Judged, score_thresh: float = SCORE_THRESH) -> Confusion:
    """Match detections with objects of any class, from an IoU of 0.5 on, and count the pairs of their classes.

    Detections come by falling score. Each takes the object that it overlaps most, of those that are not taken yet. What
    is left of the detections is in row 0, and what is left of the objects in column 0. Detections in a crowd of their
    class are left out.

    Args:
        judged: see `tsdlab.analysis.errors.judge`.
        score_thresh: of the detections that are counted, 0…1.
    """
    counts = np.zeros((1 + len(judged.categories),) * 2, dtype=np.int64)
    used = np.flatnonzero((judged.score >= score_thresh) & (judged.kind != IGNORED))
    in_image = dict(by_image(judged.object_image))
    taken = np.zeros(len(judged.object_label), dtype=bool)
    for image, places in by_image(judged.image[used]):
        rows, objects = used[places], in_image.get(image, np.zeros(0, dtype=int))
        for row, overlaps in zip(rows, iou_of(judged.boxes[rows], judged.object_boxes[objects])):
            free = np.where(taken[objects], 0.0, overlaps)
            if len(free) and free.max() >= FINDS:
                found = objects[free.argmax()]
                taken[found] = True
                counts[judged.object_label[found], judged.label[row]] += 1
            else:
                counts[0, judged.label[row]] += 1
    np.add.at(counts[:, 0], judged.object_label[~taken], 1)
    return Confusion(judged.categories, counts, score_thresh)
