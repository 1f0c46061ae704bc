"""Precision over recall, for every class and for their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tsdlab.analysis.errors import CORRECT, IGNORED, IOU_THRESHOLDS, Judged
from tsdlab.analysis.precision import RECALLS, precision_at_recalls

SHOWN_THRESHOLDS = ("0.50", "0.75", "0.90")


@dataclass(frozen=True)
class Curves:
    """The precision at each of `tsdlab.analysis.precision.RECALLS`; their mean is COCO's AP at this IoU threshold."""

    categories: tuple[str, ...]
    precision: dict[str, np.ndarray]  # IoU threshold "0.50" … "0.95" → [C, 101] in 0…1; NaN: the class has no object

    def mean(self, threshold: str) -> np.ndarray:
        """The mean over classes with objects, [101]; NaN if there is none."""
        known = self.precision[threshold][~np.isnan(self.precision[threshold]).any(axis=1)]
        return known.mean(axis=0) if len(known) else np.full(len(RECALLS), np.nan)

    def as_dict(self) -> dict[str, Any]:
        """The means at `SHOWN_THRESHOLDS` as plain values for JSON; NaN becomes None."""
        means = {threshold: self.mean(threshold) for threshold in SHOWN_THRESHOLDS}
        return {
            "recall": [round(float(recall), 2) for recall in RECALLS],
            "precision": {
                threshold: [None if np.isnan(value) else round(float(value), 4) for value in mean]
                for threshold, mean in means.items()
            },
        }


def precision_recall(judged: Judged) -> Curves:
    """Precision over recall at each of COCO's IoU thresholds.

    Args:
        judged: see `tsdlab.analysis.errors.judge`.
    """
    once = np.ones((1, len(judged.label)))
    precision = {}
    for threshold, outcome in zip(IOU_THRESHOLDS, judged.outcome):
        rows = [
            np.flatnonzero((judged.label == label) & (outcome != IGNORED))
            for label in range(1, 1 + len(judged.categories))
        ]
        precision[f"{threshold:.2f}"] = np.concatenate(
            [
                precision_at_recalls(
                    outcome[of] == CORRECT, once[:, of], np.array([(judged.object_label == label).sum()])
                )
                for label, of in enumerate(rows, 1)
            ]
        )
    return Curves(judged.categories, precision)
