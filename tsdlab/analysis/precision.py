"""Precision over recall, and average precision as COCO computes it, for many weightings of the images at once."""

from __future__ import annotations

import numpy as np

RECALLS = np.linspace(0, 1, 101)  # COCO's: AP is the mean of the precision at these recalls


def precision_at_recalls(correct: np.ndarray, weights: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """The precision that one class reaches at each of `RECALLS`; 0 at a recall that it does not reach.

    As in COCO, the precision at a recall is the best one at this recall or a higher one.

    Args:
        correct: [D] bool, whether each detection finds an object, by falling score.
        weights: [R, D], how often each detection counts: rows are weightings, such as the draws of a bootstrap.
        positives: [R], the number of objects, counted in the same way.

    Returns:
        [R, 101], NaN where a weighting has no object.
    """
    best, recall = _curve(correct, weights, positives)
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)  # what is not reached
    at = np.stack([np.searchsorted(row, RECALLS) for row in recall]) if len(recall) else np.zeros((0, 101), dtype=int)
    return np.where(positives[:, None] > 0, np.take_along_axis(best, at, axis=1), np.nan)


def average_precision(correct: np.ndarray, weights: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """The mean of `precision_at_recalls`, 0…1, [R]; faster, because it computes no curve."""
    best, recall = _curve(correct, weights, positives)
    # The number of recalls that a detection is the first to reach, times its precision.
    reached = np.searchsorted(RECALLS, recall, side="right")
    first = np.diff(reached, axis=1, prepend=0)
    found = (first * best).sum(axis=1) / len(RECALLS)
    return np.where(positives > 0, found, np.nan)


def _curve(correct: np.ndarray, weights: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """After each correct detection, the best precision from there on, and the recall; [R, correct] both.

    Between correct detections, recall stays and precision falls, so the others need no column.
    """
    hits = np.flatnonzero(correct)
    found = np.cumsum(weights[:, hits], axis=1)
    precision = found / np.maximum(np.cumsum(weights, axis=1)[:, hits], 1e-12)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return best, found / np.maximum(positives, 1e-12)[:, None]
