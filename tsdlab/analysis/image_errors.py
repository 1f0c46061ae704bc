"""The errors image by image: how many there are, and what is drawn of an image.

At an IoU threshold, the errors of an image are its wrong detections and the objects that no detection finds. As in AP,
the number is the mean over COCO's thresholds 0.50, 0.55, … 0.95, so that loose boxes count too. Only detections from a
score on count: those that a user would see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdlab.analysis.confusion import SCORE_THRESH
from tsdlab.analysis.errors import CORRECT, IGNORED, KINDS, Judged, iou_of
from tsdlab.data.items import as_items

# What is said of a detection that finds an object at IoU 0.5, instead of one of KINDS.
FOUND, LOOSE = "found", "loose"
LOOSE_BELOW = 0.75  # IoU of a box that is loose


@dataclass(frozen=True)
class ImageErrors:
    """An image, its objects, and what each of its detections is. Boxes are xyxy in pixels of the image."""

    image: int  # index in the data set
    image_id: int | str  # as in the annotation file
    file: str | None  # as the annotation file names it; None if the data set does not name files
    pixels: Tensor  # [3, H, W] in 0…1
    boxes: Tensor  # [K, 4] detections, by falling score
    names: list[str]  # [K] class of each detection
    scores: list[float]  # [K]
    kinds: list[str]  # [K] one of KINDS, FOUND or LOOSE
    ious: list[float]  # [K] with the object that it finds or would find; NaN if there is none
    objects: list[int]  # [K] place of the object that each finds, or would find once it is mended; -1 for none
    object_boxes: Tensor  # [N, 4]
    object_names: list[str]  # [N]
    objects_found: list[bool]  # [N] whether one of the detections finds it
    errors: float  # mean over IoU thresholds

    @property
    def counts(self) -> dict[str, int]:
        """At IoU 0.5: how many detections of each kind there are, and how many objects are not found; without zeros."""
        counts = {kind: self.kinds.count(kind) for kind in (*KINDS, LOOSE)}
        counts["not found"] = self.objects_found.count(False)
        return {name: count for name, count in counts.items() if count}

    def as_dict(self) -> dict[str, Any]:
        """Which image it is and its errors, as plain values; without image and boxes."""
        names = ("image", "image_id", "file", "errors", "counts")
        return {name: getattr(self, name) for name in names}


def errors_by_image(judged: Judged, score_thresh: float = SCORE_THRESH) -> np.ndarray:
    """The number of errors of every image, mean over IoU thresholds, [images].

    Args:
        judged: see `tsdlab.analysis.errors.judge`.
        score_thresh: of the detections that count, 0…1.
    """
    seen = judged.score >= score_thresh
    wrong = (seen & (judged.outcome != CORRECT) & (judged.outcome != IGNORED)).mean(axis=0)
    right = (seen & (judged.outcome == CORRECT)).mean(axis=0)
    objects = np.bincount(judged.object_image, minlength=judged.images)
    # A right detection finds one object, so the objects that are not found are the others.
    return (objects + np.bincount(judged.image, wrong - right, minlength=judged.images)).round(9)


def worst_images(judged: Judged, count: int, score_thresh: float = SCORE_THRESH) -> list[int]:
    """The images with the most errors, at most `count`; none without an error."""
    errors = errors_by_image(judged, score_thresh)
    return [int(image) for image in np.argsort(-errors, kind="stable")[:count] if errors[image]]


def image_errors(
    judged: Judged, dataset: Any, images: Iterable[int], score_thresh: float = SCORE_THRESH
) -> list[ImageErrors]:
    """Images to show, with what is right and wrong in them.

    Args:
        judged: see `tsdlab.analysis.errors.judge`.
        dataset: the one that was judged.
        images: their indices in it.
        score_thresh: of the detections that are shown, 0…1.
    """
    items = as_items(dataset)
    seen = (judged.score >= score_thresh) & (judged.kind != IGNORED)
    found = np.isin(np.arange(len(judged.found)), judged.object[seen & (judged.kind == CORRECT)])
    errors = errors_by_image(judged, score_thresh)
    shown = []
    for image in images:
        rows = np.flatnonzero(seen & (judged.image == image))
        objects = np.flatnonzero(judged.object_image == image)
        places = {index: place for place, index in enumerate(objects.tolist())}
        near = [places.get(index, -1) for index in judged.object[rows].tolist()]
        overlaps = iou_of(judged.boxes[rows], judged.object_boxes[objects])
        ious = [float(overlaps[row, place]) if place >= 0 else math.nan for row, place in enumerate(near)]
        shown.append(
            ImageErrors(
                image=image,
                image_id=items.image_ids[image],
                file=items.file_name(image),
                pixels=items[image][0],
                boxes=_xyxy(judged.boxes[rows]),
                names=_names(judged, judged.label[rows]),
                scores=judged.score[rows].tolist(),
                kinds=[
                    KINDS[kind] if kind != CORRECT else LOOSE if iou < LOOSE_BELOW else FOUND
                    for kind, iou in zip(judged.kind[rows], ious)
                ],
                ious=ious,
                objects=near,
                object_boxes=_xyxy(judged.object_boxes[objects]),
                object_names=_names(judged, judged.object_label[objects]),
                objects_found=found[objects].tolist(),
                errors=float(errors[image]),
            )
        )
    return shown


def _names(judged: Judged, labels: np.ndarray) -> list[str]:
    return [judged.categories[label - 1] for label in labels]


def _xyxy(boxes: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)).float()
