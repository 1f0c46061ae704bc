"""Where AP is lost: what each kind of error costs (TIDE, Bolya et al. 2020, arXiv:2008.08115).

The cost of a kind is the AP50 that would be gained if its errors were mended and all others stayed; `errors` says what
the kinds are and how each is mended. The costs do not add up to what is missing from 100, because one error can hide
another. AP50 asks a box only for an IoU of 0.5. What is lost because COCO's AP asks for more is AP50 − AP: the cost of
loose boxes, which find their object and do not fit it well enough.

A class whose objects are all missed gains nothing when nobody looks for them any more: it has no AP then.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tsdlab.analysis.errors import CORRECT, IGNORED, KINDS, Judged
from tsdlab.analysis.precision import average_precision
from tsdlab.analysis.statistics import REPLICATES, Estimate, draws, estimate

# Sides of a square, in pixels, between small, medium and large; as in COCO.
_SIZES = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, np.inf)}
_AT_ONCE = 200_000  # numbers of a block of replicates, so that it fits into a processor's cache


@dataclass(frozen=True)
class Costs:
    """AP, AP50, and what they would gain, in percent. The counts are those of the objects, and of the errors."""

    AP: Estimate
    AP50: Estimate
    loose: Estimate  # AP50 − AP; counts the objects that are found
    kinds: dict[str, Estimate]  # by KINDS, the gain of AP50


@dataclass(frozen=True)
class ErrorCosts:
    """What each kind of error costs, with bootstrap 95% intervals over images."""

    overall: Costs
    per_class: dict[str, Costs]  # of the AP50 of the class; an error of classification is one of its object's class
    per_size: dict[str, dict[str, Estimate]]  # size of object or detection → kind → gain of the overall AP50
    # Loose boxes and errors of localization cost this much more than errors of classification.
    localization_minus_classification: Estimate
    wrong_detections: Estimate  # the gain if no detection were wrong
    objects_not_found: Estimate  # the gain if the objects that were not found were left out


# Where a gain belongs: ("AP",), ("AP50",), ("loose",), (kind,), (kind, size), ("wrong",) or ("unfound",).
_Name = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Gains:
    """What AP50 would gain, on the data and on every replicate of the bootstrap; see `gains_of`."""

    judged: Judged
    values: dict[_Name, np.ndarray]  # percent, [1 + replicates, C] each; NaN for a class without objects


def error_costs(gains: Gains) -> ErrorCosts:
    """What each kind of error costs."""
    return _estimates(gains.values, gains.judged)


def compare_costs(first: Gains, second: Gains) -> ErrorCosts:
    """How much more the errors of the second model cost than those of the first one, on the same images.

    Each replicate of the bootstrap draws the same images for both. `AP` and `AP50` are the differences of theirs.

    Args:
        first: of one model.
        second: of another one, with as many replicates.
    """
    return _estimates({name: second.values[name] - first.values[name] for name in first.values}, second.judged)


def gains_of(judged: Judged, replicates: int = REPLICATES) -> Gains:
    """AP, AP50, and what AP50 would gain if the errors of a kind were mended.

    Args:
        judged: see `tsdlab.analysis.errors.judge`.
        replicates: of the bootstrap over images.
    """
    weights = np.stack([draws(image, replicates) for image in range(judged.images)], axis=1)  # [1 + R, images]
    counts = judged.kind != IGNORED
    right = judged.kind == CORRECT
    every = np.ones(len(judged.found), dtype=bool)

    def of(label: np.ndarray, correct: np.ndarray, kept: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return 100 * _average_precisions(judged, weights, label, correct, kept, wanted)

    def gain(label: np.ndarray, correct: np.ndarray, kept: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return np.nan_to_num(of(label, correct, kept, wanted)) - now

    now = of(judged.label, right, counts, every)
    at_thresholds = [of(judged.label, at == CORRECT, at != IGNORED, every) for at in judged.outcome[1:]]
    ap = np.mean([now, *at_thresholds], axis=0)
    gains: dict[_Name, np.ndarray] = {
        ("AP",): ap,
        ("AP50",): now,
        ("loose",): now - ap,
        ("wrong",): gain(judged.label, right, right, every),
        ("unfound",): gain(judged.label, right, counts, judged.found),
    }
    for kind in KINDS:
        wrong, missed = judged.errors(kind)
        for size, (low, high) in {"": (0.0, np.inf), **_SIZES}.items():
            mended = wrong & _between(judged.subject_area, low, high)
            found, gone = mended & judged.finds, mended & ~judged.finds
            label = np.where(found, judged.subject_label, judged.label)
            wanted = ~(missed & _between(judged.object_area, low, high))
            gains[(kind, size) if size else (kind,)] = gain(label, right | found, counts & ~gone, wanted)
    return Gains(judged, gains)


def _between(area: np.ndarray, low: float, high: float) -> np.ndarray:
    side = np.sqrt(np.maximum(area, 0))
    return (side >= low) & (side < high)


def _average_precisions(
    judged: Judged, weights: np.ndarray, label: np.ndarray, correct: np.ndarray, kept: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """AP of every class under every weighting, [1 + R, C].

    Args:
        judged: the images of its detections and objects are used.
        weights: [1 + R, images] how often an image counts.
        label, correct, kept: [D] the class of each detection, whether it finds an object, whether it is there.
        wanted: [N] whether each object is to be found.
    """
    columns = []
    for c in range(1, len(judged.categories) + 1):
        rows, objects = np.flatnonzero(kept & (label == c)), np.flatnonzero(wanted & (judged.object_label == c))
        step = max(1, _AT_ONCE // max(1, len(rows)))
        columns.append(
            np.concatenate(
                [
                    average_precision(
                        correct[rows], block[:, judged.image[rows]], block[:, judged.object_image[objects]].sum(axis=1)
                    )
                    for block in _blocks(weights, step)
                ]
            )
        )
    return np.stack(columns, axis=1)


def _blocks(weights: np.ndarray, step: int) -> Iterable[np.ndarray]:
    return (weights[start : start + step] for start in range(0, len(weights), step))


def _estimates(gains: dict[_Name, np.ndarray], judged: Judged) -> ErrorCosts:
    """The estimates of gains, whose counts are those of `judged`."""

    def overall(name: _Name, count: float) -> Estimate:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no class has objects
            return estimate(np.nanmean(gains[name], axis=1), count)

    def count(kind: str, label: int | None = None, size: str | None = None) -> int:
        wrong, missed = judged.errors(kind)
        if label is not None:
            wrong, missed = wrong & (judged.subject_label == label), missed & (judged.object_label == label)
        if size is not None:
            wrong = wrong & _between(judged.subject_area, *_SIZES[size])
            missed = missed & _between(judged.object_area, *_SIZES[size])
        return int(wrong.sum() + missed.sum())

    def of_class(name: str, label: int, count: float) -> Estimate:
        return estimate(gains[(name,)][:, label - 1], count)

    objects = np.bincount(judged.object_label, minlength=1 + len(judged.categories))
    found = np.bincount(judged.object_label[judged.found], minlength=1 + len(judged.categories))
    localization = gains[("loose",)] + gains[("localization",)]
    gains = {**gains, ("difference",): localization - gains[("classification",)]}
    return ErrorCosts(
        overall=Costs(
            overall(("AP",), len(judged.found)),
            overall(("AP50",), len(judged.found)),
            overall(("loose",), judged.found.sum()),
            {kind: overall((kind,), count(kind)) for kind in KINDS},
        ),
        per_class={
            name: Costs(
                of_class("AP", label, objects[label]),
                of_class("AP50", label, objects[label]),
                of_class("loose", label, found[label]),
                {kind: of_class(kind, label, count(kind, label)) for kind in KINDS},
            )
            for label, name in enumerate(judged.categories, 1)
        },
        per_size={size: {kind: overall((kind, size), count(kind, size=size)) for kind in KINDS} for size in _SIZES},
        localization_minus_classification=overall(("difference",), len(judged.found)),
        wrong_detections=overall(("wrong",), int((judged.kind >= 0).sum())),
        objects_not_found=overall(("unfound",), int((~judged.found).sum())),
    )
