"""What is wrong with a detection: the kinds of errors of TIDE (Bolya et al. 2020, arXiv:2008.08115).

A detection finds an object of its class from an IoU of 0.5 on, and every other detection is an error of one kind. The
kinds are, in the order in which they are tried, with the IoU that the detection has with the objects of its image:

- localization: 0.1 to 0.5 with an object of its class. Mended, the detection finds the object.
- classification: 0.5 or more with an object of another class. Mended, it has that class and finds the object.
- duplicate: 0.5 or more with an object of its class that a better detection has found. Mended, it is gone.
- background: less than 0.1 with every object. Mended, it is gone.
- both: what is left, 0.1 to 0.5 with an object of another class. Mended, it is gone.
- missed: an object that no detection finds, and none would find if its class or its place were mended. Mended, nobody
  looks for it.

If several detections could find an object once they are mended, the one with the best score does, and the others are
gone; so they are if the object has been found already. `costs` says what each kind costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval.core import mask

from tsdlab.data.coco import CocoDataset
from tsdlab.data.items import Items
from tsdlab.evaluation import result_columns

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
CORRECT, IGNORED = -1, -2  # what a detection can be instead: it finds an object, or lies in a crowd of its class
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # from which a detection finds an object; COCO's AP is the mean over them
_CLASSIFICATION, _LOCALIZATION, _BOTH, _DUPLICATE, _BACKGROUND = range(5)
FINDS, _TOUCHES = 0.5, 0.1  # IoU from which a detection finds an object, and from which it has to do with one
_WRONG = 0  # any number but CORRECT and IGNORED
_MOST_DETECTIONS = 100  # of an image, by score; COCO counts no more


@dataclass(frozen=True)
class Judged:
    """What became of every detection and of every object of a data set, crowds left out."""

    categories: tuple[str, ...]  # of the labels 1…C
    images: int

    # Detections, by falling score.
    image: np.ndarray  # [D] index of the image
    label: np.ndarray  # [D] 1…C
    score: np.ndarray  # [D]
    boxes: np.ndarray  # [D, 4] (x, y, width, height), pixels
    outcome: np.ndarray  # [10, D] at each of IOU_THRESHOLDS: CORRECT, IGNORED, or another number if it is wrong
    kind: np.ndarray  # [D] index into KINDS, or CORRECT, or IGNORED
    object: np.ndarray  # [D] the object that it finds, or would find with another place or class; -1 if there is none
    subject_label: np.ndarray  # [D] class of that object; if there is none, that of the detection
    subject_area: np.ndarray  # [D] pixels², in the same way
    finds: np.ndarray  # [D] bool, whether it would find that object once it is mended

    object_image: np.ndarray  # [N] index of the image
    object_label: np.ndarray  # [N] 1…C
    object_area: np.ndarray  # [N] pixels²
    object_boxes: np.ndarray  # [N, 4] (x, y, width, height), pixels
    found: np.ndarray  # [N] bool
    missed: np.ndarray  # [N] bool, see the kind of this name

    def errors(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Which detections [D] and which objects [N] are errors of a kind; bool."""
        nothing = np.zeros(len(self.found), dtype=bool)
        return self.kind == KINDS.index(kind), self.missed if kind == "missed" else nothing


def judge(dataset: CocoDataset | Items, detections: list[dict[str, Any]]) -> Judged:
    """Say of every detection whether it is right, and what kind of error it is otherwise.

    Args:
        dataset: the images and objects.
        detections: in COCO's result format, as `tsdlab.evaluation.collect_detections` returns them. The best 100 of an
            image count.

    Raises:
        InputError: an id of a detection is not in the annotation file.
    """
    truth = dataset.content.annotations if isinstance(dataset, CocoDataset) else dataset.annotations
    given = result_columns(dataset, detections)
    objects, crowds = np.flatnonzero(~truth.crowd), np.flatnonzero(truth.crowd)
    order = _best_of_images(given.images, given.scores)
    image, label = given.images[order], given.labels[order]
    boxes = given.boxes[order]
    kind = np.full(len(order), _BACKGROUND)
    near = np.full(len(order), -1)
    outcome = np.full((len(IOU_THRESHOLDS), len(order)), _WRONG, dtype=np.int8)
    found = np.zeros(len(objects), dtype=bool)
    in_image = dict(by_image(truth.images[objects]))
    crowds_of = dict(by_image(truth.images[crowds]))
    for index, rows in by_image(image):
        here = in_image.get(index, np.zeros(0, dtype=int))
        around = crowds[crowds_of.get(index, np.zeros(0, dtype=int))]
        kind[rows], at, outcome[:, rows] = _judge_image(
            boxes[rows],
            label[rows],
            truth.boxes[objects[here]],
            truth.labels[objects[here]],
            truth.boxes[around],
            truth.labels[around],
        )
        near[rows] = np.where(at >= 0, here[at] if len(here) else -1, -1)
        found[near[rows][kind[rows] == CORRECT]] = True
    finds = _first_to_mend(kind, near, found)
    has = np.flatnonzero(near >= 0)
    subject_label, subject_area = label.copy(), boxes[:, 2] * boxes[:, 3]
    subject_label[has], subject_area[has] = truth.labels[objects[near[has]]], truth.area[objects[near[has]]]
    return Judged(
        categories=tuple(category.name for category in dataset.categories),
        images=len(dataset),
        image=image,
        label=label,
        score=given.scores[order],
        boxes=boxes,
        outcome=outcome,
        kind=kind,
        object=near,
        subject_label=subject_label,
        subject_area=subject_area,
        finds=finds,
        object_image=truth.images[objects],
        object_label=truth.labels[objects],
        object_area=truth.area[objects],
        object_boxes=truth.boxes[objects],
        found=found,
        missed=~found & ~np.isin(np.arange(len(objects)), near[finds]),
    )


def _best_of_images(images: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The detections that count, by falling score; of equal scores, the earlier one comes first."""
    order = np.argsort(-scores, kind="stable")
    kept = np.zeros(len(order), dtype=bool)
    for _, rows in by_image(images[order]):
        kept[rows[:_MOST_DETECTIONS]] = True
    return order[kept]


def by_image(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each image and its rows, in their order."""
    order = np.argsort(images, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(images[order])) + 1):
        if len(rows):
            yield int(images[rows[0]]), rows


def _judge_image(
    boxes: np.ndarray,
    labels: np.ndarray,
    object_boxes: np.ndarray,
    object_labels: np.ndarray,
    crowd_boxes: np.ndarray,
    crowd_labels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind, object and outcomes [10, D] of the detections of an image, which come by falling score."""
    kind, near = np.full(len(boxes), _BACKGROUND), np.full(len(boxes), -1)
    outcome = np.full((len(IOU_THRESHOLDS), len(boxes)), _WRONG, dtype=np.int8)
    if len(object_boxes):
        iou = iou_of(boxes, object_boxes)
        same = labels[:, None] == object_labels
        finds = _match(iou, same)
        outcome[finds >= 0] = CORRECT
        right, found = finds[0] >= 0, np.isin(np.arange(len(object_boxes)), finds[0])
        own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
        touches = (own.max(1) >= _TOUCHES) & (own.max(1) <= FINDS)
        named_wrong = other.max(1) >= FINDS
        twice = np.where(found, own, 0.0).max(1) >= FINDS
        wrong = np.select(
            [touches, named_wrong, twice, iou.max(1) <= _TOUCHES],
            [_LOCALIZATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND],
            _BOTH,
        )
        of_wrong = np.select([touches, named_wrong], [own.argmax(1), other.argmax(1)], -1)
        kind, near = np.where(right, CORRECT, wrong), np.where(right, finds[0], of_wrong)
    if len(crowd_boxes):
        inside = np.asarray(
            mask.iou(boxes, crowd_boxes, [1] * len(crowd_boxes))
        )  # share of each detection, [D, crowds]
        most = np.where(labels[:, None] == crowd_labels, inside, 0.0).max(1)
        outcome[(most >= IOU_THRESHOLDS[:, None]) & (outcome != CORRECT)] = IGNORED
        in_crowd = outcome[0] == IGNORED
        kind[in_crowd], near[in_crowd] = IGNORED, -1
    return kind, near, outcome


def iou_of(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of boxes [D, 4] with others [N, 4], (x, y, width, height) both; [D, N]."""
    return np.asarray(mask.iou(boxes, others, [0] * len(others))).reshape(len(boxes), len(others))


def _match(iou: np.ndarray, may: np.ndarray) -> np.ndarray:
    """The object that each detection finds at each of IOU_THRESHOLDS, −1 for none; [10, D].

    A detection takes the object that it overlaps most, of those that no detection before it has taken.

    Args:
        iou: [D, N] of detections, by falling score, with objects.
        may: [D, N] whether a detection may find an object.
    """
    finds = np.full((len(IOU_THRESHOLDS), len(iou)), -1)
    free = np.ones((len(IOU_THRESHOLDS), iou.shape[1]), dtype=bool)
    for row in np.flatnonzero(np.where(may, iou, 0.0).max(1) >= IOU_THRESHOLDS[0]):
        of_free = np.where(free & may[row], iou[row], 0.0)  # [10, N]
        best = of_free.argmax(1)
        hits = np.flatnonzero(of_free.max(1) >= IOU_THRESHOLDS)
        finds[hits, row], free[hits, best[hits]] = best[hits], False
    return finds


def _first_to_mend(kind: np.ndarray, near: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which detections would find an object that nobody has found, if their class or place were mended."""
    could = np.flatnonzero(np.isin(kind, (_CLASSIFICATION, _LOCALIZATION)))
    could = could[~found[near[could]]]
    _, first = np.unique(near[could], return_index=True)  # detections come by falling score
    finds = np.zeros(len(kind), dtype=bool)
    finds[could[first]] = True
    return finds
