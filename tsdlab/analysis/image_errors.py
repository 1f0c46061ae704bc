"""The errors image by image: how many there are, and what is drawn of an image.

The errors of an image are its wrong detections and the objects that no detection finds, where only detections from a
score on count: those that a user would see.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdlab.analysis.confusion import SCORE_THRESH
from tsdlab.analysis.errors import CORRECT, IGNORED, KINDS, Judged
from tsdlab.data.items import as_items

FOUND = "found"  # what is said of a detection that finds an object


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
    kinds: list[str]  # [K] one of KINDS, or FOUND
    objects: list[int]  # [K] place of the object that each finds, or would find once it is mended; -1 for none
    object_boxes: Tensor  # [N, 4]
    object_names: list[str]  # [N]
    objects_found: list[bool]  # [N] whether one of the detections finds it

    @property
    def counts(self) -> dict[str, int]:
        """How many detections of each kind are wrong, and how many objects are "not found"; without zeros."""
        counts = {kind: self.kinds.count(kind) for kind in KINDS} | {"not found": self.objects_found.count(False)}
        return {name: count for name, count in counts.items() if count}

    @property
    def errors(self) -> int:
        return sum(self.counts.values())

    def as_dict(self) -> dict[str, Any]:
        """Which image it is and its errors, as plain values; without image and boxes."""
        return {"image": self.image, "image_id": self.image_id, "file": self.file, "errors": self.counts}


def errors_by_image(judged: Judged, score_thresh: float = SCORE_THRESH) -> np.ndarray:
    """The number of errors of every image, [images]: wrong detections, and objects that are not found.

    Args:
        judged: see `tsdlab.analysis.errors.judge`.
        score_thresh: of the detections that count, 0…1.
    """
    wrong = _seen(judged, score_thresh) & (judged.kind != CORRECT)
    unfound = ~_found(judged, score_thresh)
    return np.bincount(judged.image[wrong], minlength=judged.images) + np.bincount(
        judged.object_image[unfound], minlength=judged.images
    )


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
    seen, found = _seen(judged, score_thresh), _found(judged, score_thresh)
    shown = []
    for image in images:
        rows = np.flatnonzero(seen & (judged.image == image))
        objects = np.flatnonzero(judged.object_image == image)
        places = {index: place for place, index in enumerate(objects.tolist())}
        shown.append(
            ImageErrors(
                image=image,
                image_id=items.image_ids[image],
                file=items.file_name(image),
                pixels=items[image][0],
                boxes=_xyxy(judged.boxes[rows]),
                names=_names(judged, judged.label[rows]),
                scores=judged.score[rows].tolist(),
                kinds=[FOUND if kind == CORRECT else KINDS[kind] for kind in judged.kind[rows]],
                objects=[places.get(index, -1) for index in judged.object[rows].tolist()],
                object_boxes=_xyxy(judged.object_boxes[objects]),
                object_names=_names(judged, judged.object_label[objects]),
                objects_found=found[objects].tolist(),
            )
        )
    return shown


def _seen(judged: Judged, score_thresh: float) -> np.ndarray:
    """[D] the detections that count; those in a crowd do not."""
    return (judged.score >= score_thresh) & (judged.kind != IGNORED)


def _found(judged: Judged, score_thresh: float) -> np.ndarray:
    """[N] the objects that such a detection finds."""
    finding = _seen(judged, score_thresh) & (judged.kind == CORRECT)
    return np.isin(np.arange(len(judged.found)), judged.object[finding])


def _names(judged: Judged, labels: np.ndarray) -> list[str]:
    return [judged.categories[label - 1] for label in labels]


def _xyxy(boxes: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)).float()
