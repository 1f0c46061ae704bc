"""COCO metrics of a detector on a dataset."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tsdlab.data.annotations import Annotations
from tsdlab.data.categories import model_labels
from tsdlab.data.coco import CocoDataset, Target
from tsdlab.data.items import Items, as_items
from tsdlab.data.loading import batch_loader
from tsdlab.data.values import Id, Ids, id_order
from tsdlab.errors import InputError, shown
from tsdlab.models.augmented import AugmentedDetector
from tsdlab.models.build import as_detector, unwrapped
from tsdlab.models.detector import Detector, evaluating, require_finite
from tsdlab.progress import progress_bar
from tsdlab.ranges import BatchSize, Workers, check_value
from tsdlab.terminal import name_column

# The order of COCOeval's `stats`.
NUMBERS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
_MOST_DETECTIONS = 100  # of an image, that COCO's AP counts


@dataclass(frozen=True)
class Metrics:
    """COCO's twelve numbers in percent; NaN if the ground truth has no such object.

    AP is the mean over the IoU thresholds 0.50, 0.55, … 0.95. AR_k is the recall with at most k detections per image.
    Objects are small below an area of 32² pixels, large from 96² on, and medium between.
    """

    AP: float
    AP50: float
    AP75: float
    AP_small: float
    AP_medium: float
    AP_large: float
    AR_1: float
    AR_10: float
    AR_100: float
    AR_small: float
    AR_medium: float
    AR_large: float
    per_class: dict[str, dict[str, float]]  # class name → AP, AP50, AP75
    images: int
    detections: int
    per_iou: dict[str, float] = dataclasses.field(default_factory=dict)  # IoU threshold "0.50" … "0.95" → AP
    detections_per_image: int = _MOST_DETECTIONS  # that count, or that the detector can give if it gives fewer
    crowded_images: int = 0  # images with more objects than that: not all can be found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        values: dict[str, Any] = _map_numbers(dataclasses.asdict(self), lambda v: None if math.isnan(v) else v)
        return values

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Metrics:
        """Inverse of `as_dict`."""
        return Metrics(**_map_numbers(values, lambda v: math.nan if v is None else v))

    def numbers(self) -> dict[str, float]:
        """COCO's twelve numbers by name, percent."""
        return {name: getattr(self, name) for name in NUMBERS}

    def line(self) -> str:
        """The six AP numbers on one line, and whether they are capped."""
        numbers = "  ".join(f"{name} {_percent(getattr(self, name))}" for name in NUMBERS[:6])
        return f"{numbers}  ({self._cap()})" if self.crowded_images else numbers

    def _cap(self) -> str:
        return (
            f"AP is capped: {self.crowded_images} of {self.images} images have more than {self.detections_per_image} "
            "objects, and no more detections count in an image"
        )

    def __str__(self) -> str:
        head, *names = name_column(list(self.per_class), "class")
        lines = [
            f"{self.images} images, {self.detections} detections",
            *([self._cap()] if self.crowded_images else []),
            _row([*NUMBERS[:6]], 10),
            _row([_percent(getattr(self, n)) for n in NUMBERS[:6]], 10),
            _row([*NUMBERS[6:]], 10),
            _row([_percent(getattr(self, n)) for n in NUMBERS[6:]], 10),
            head + _row(["AP", "AP50", "AP75"], 8),
        ]
        lines += [
            name + _row([_percent(v) for v in values.values()], 8)
            for name, values in zip(names, self.per_class.values())
        ]
        return "\n".join(lines)


def _map_numbers(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {k: _map_numbers(v, change) for k, v in value.items()}
    return change(value) if value is None or isinstance(value, float) else value


def _row(cells: list[str], width: int) -> str:
    return "".join(f"{cell:>{width}}" for cell in cells)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def evaluate(
    model: Detector | AugmentedDetector,
    dataset: Any,
    batch_size: int = 8,
    score_thresh: float | None = None,
    progress: bool = True,
    workers: int = 0,
) -> Metrics:
    """COCO metrics of `model` on `dataset`.

    Args:
        model: the detector, of tsdlab or a Faster R-CNN of torchvision, also as training has wrapped it. It runs in
            eval mode, and its mode is restored afterwards. Its labels are matched to the dataset's categories by the
            names in `model.categories`, or by position if that is empty.
        dataset: the images and objects: a `CocoDataset`, or what `tsdlab.data.items.Items` takes.
        batch_size: images per batch; it changes the speed, and the results only by rounding.
        score_thresh: drop detections with lower scores; None keeps the model's own threshold.
        progress: show a progress bar.
        workers: processes that load images; 0 loads them in this one.

    Raises:
        ValueError: the dataset has a category that the model does not know.
    """
    found = detect_all(model, dataset, batch_size, score_thresh, progress, workers)
    return measure(found.dataset, found.results, found.detections_per_image)


def _detecting(model: Any) -> Detector | AugmentedDetector:
    """What detects: `model`, or the detector that it wraps or can be made into."""
    model = unwrapped(model)
    if hasattr(model, "detect"):
        return model
    if not isinstance(model, GeneralizedRCNN):
        raise InputError(
            f"model must be a detector of tsdlab, got {type(model).__name__}; tsdlab.load_detector reads one from a "
            "file, and a Faster R-CNN of torchvision will do"
        )
    return as_detector(model)


def _evaluated(dataset: Any, model: Any) -> CocoDataset | Items:
    """The data set with ids of its images and categories."""
    if isinstance(dataset, str | Path):
        raise InputError(
            f"dataset must be a CocoDataset, got {type(dataset).__name__}; tsdlab.data.CocoDataset(folder, split) "
            "reads one"
        )
    if isinstance(dataset, CocoDataset) and dataset.transforms is None:
        return dataset
    return as_items(dataset).named_by(model)


def _detections_per_image(model: Detector | AugmentedDetector) -> int:
    """The most that `model` gives; anything else that detects may give as many as count."""
    return model.roi_heads.config.detections_per_image if hasattr(model, "roi_heads") else _MOST_DETECTIONS


def collect_detections(
    model: Detector | AugmentedDetector,
    dataset: Any,
    batch_size: int = 8,
    score_thresh: float | None = None,
    progress: bool = True,
    workers: int = 0,
    indices: Iterable[int] | None = None,
) -> list[dict[str, Any]]:
    """The detections of `model` on `dataset`, in COCO's result format.

    Args:
        model: the detector; it runs in eval mode, and its mode is restored afterwards. Its labels are matched to the
            dataset's categories by the names in `model.categories`, or by position if that is empty.
        dataset: the images.
        batch_size: images per batch. The images of a batch have equal sizes, so that none is padded: the batch size
            changes the speed, and the results only by rounding.
        score_thresh: drop detections with lower scores; None keeps the model's own threshold.
        progress: show a progress bar.
        workers: processes that load images; 0 loads them in this one.
        indices: which images of the dataset; None takes all.

    Returns:
        One dict per detection: image_id, category_id, bbox [x, y, width, height] in pixels, score. The ids are those
        of the annotation file: integers of any size, or texts.

    Raises:
        InputError: an argument cannot be used, or the dataset has a category that the model does not know.
    """
    return detect_all(model, dataset, batch_size, score_thresh, progress, workers, indices).results


@dataclass(frozen=True)
class Detections:
    """What a detector finds in a data set."""

    dataset: CocoDataset | Items  # its objects are those that were read together with the images
    results: list[dict[str, Any]]  # as `collect_detections` returns them
    detections_per_image: int  # the most that the detector gives


@torch.inference_mode()
def detect_all(
    model: Detector | AugmentedDetector,
    dataset: Any,
    batch_size: int = 8,
    score_thresh: float | None = None,
    progress: bool = True,
    workers: int = 0,
    indices: Iterable[int] | None = None,
) -> Detections:
    """As `collect_detections`, with the data set that the detections are to be compared with.

    Args:
        model: see `collect_detections`.
        dataset: the images and objects, as `evaluate` takes them.
        batch_size: see `collect_detections`.
        score_thresh: see `collect_detections`.
        progress: see `collect_detections`.
        workers: see `collect_detections`.
        indices: see `collect_detections`.

    Raises:
        InputError: an argument cannot be used, or the dataset has a category that the model does not know.
    """
    model = _detecting(model)
    dataset = _evaluated(dataset, model)
    check_value("batch_size", batch_size, BatchSize)
    check_value("workers", workers, Workers)
    to_category = label_to_category(model, dataset)
    require_finite(model)
    part = list(range(len(dataset))) if indices is None else list(indices)
    batches = _equal_sizes(part, dataset.image_sizes, batch_size)
    loader = batch_loader(dataset, batches, workers, next(model.parameters()).device)
    results: list[dict[str, Any]] = []
    seen: dict[int, Target] = {}
    postprocessing = None
    if score_thresh is not None:
        postprocessing = dataclasses.replace(model.roi_heads.config, score_thresh=score_thresh)
    with evaluating(model):
        bar = progress_bar(loader, "evaluate", shown=progress)
        for batch, (images, targets) in zip(batches, bar):
            seen |= {index: {name: t[name] for name in ("boxes", "labels")} for index, t in zip(batch, targets)}
            detections = model.detect(images, postprocessing)
            for index, found in zip(batch, detections):
                results += _as_results(found, dataset.image_ids[index], to_category)
    compared = dataset.with_targets(seen) if isinstance(dataset, Items) else dataset
    return Detections(compared, results, _detections_per_image(model))


def _equal_sizes(part: list[int], sizes: Sequence[tuple[int, int] | None], batch_size: int) -> list[list[int]]:
    """Split `part` into batches of images of equal size, because padding an image changes its detections."""
    groups: dict[tuple[int, int] | int, list[int]] = {}
    for index in part:
        groups.setdefault(sizes[index] or index, []).append(index)  # an image of unknown size is a batch of its own
    return [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]


def _as_results(found: dict[str, torch.Tensor], image_id: Id, to_category: dict[int, Id]) -> Iterator[dict[str, Any]]:
    boxes = found["boxes"].clone()
    boxes[:, 2:] -= boxes[:, :2]  # xyxy → xywh
    for box, label, score in zip(boxes.tolist(), found["labels"].tolist(), found["scores"].tolist()):
        if label in to_category:
            yield {"image_id": image_id, "category_id": to_category[label], "bbox": box, "score": score}


def label_to_category(model: Detector | AugmentedDetector, dataset: CocoDataset | Items) -> dict[int, Id]:
    """The dataset's category id for each of the model's labels that is a category of the dataset.

    Labels are matched by the names in `model.categories`, or by position if that is empty.

    Raises:
        ValueError: the dataset has a category that the model does not know.
    """
    to_model = model_labels(model, dataset).tolist()
    return {to_model[label]: category.id for label, category in enumerate(dataset.categories, 1)}


def measure(
    dataset: CocoDataset | Items, detections: list[dict[str, Any]], detections_per_image: int = _MOST_DETECTIONS
) -> Metrics:
    """COCO metrics of `detections` (COCO's result format) against the dataset's annotations.

    As in any COCO evaluation, the file's degenerate boxes count as objects, so the numbers are comparable with others'.

    Args:
        dataset: the images and objects.
        detections: dicts with image_id, category_id, bbox and score. The ids are those of the annotation file; a
            number given as text, or the other way round, is found if only one id can be meant.
        detections_per_image: the most that the detector gives, to say how far AP is capped. AP itself counts the best
            100 of an image, whatever this is.

    Raises:
        InputError: an id of a detection is not in the annotation file.
    """
    # COCOeval needs small integers. The images have the order of their ids, which decides between equal scores.
    order = sorted(range(len(dataset)), key=lambda index: id_order(dataset.image_ids[index]))
    numbers_of_images = {index: number for number, index in enumerate(order, 1)}
    frame = {
        "images": [{"id": number} for number in numbers_of_images.values()],
        "categories": [{"id": label} for label in range(1, len(dataset.categories) + 1)],
    }
    annotations = dataset.content.annotations if isinstance(dataset, CocoDataset) else dataset.annotations
    truth = COCO({**frame, "annotations": _ground_truth(annotations, numbers_of_images)})
    found = COCO({**frame, "annotations": _renumbered(result_columns(dataset, detections), numbers_of_images)})
    evaluation = COCOeval_faster(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    numbers = [math.nan if v < 0 else 100 * float(v) for v in evaluation.stats[: len(NUMBERS)]]
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU thresholds, recalls, classes]; all areas
    per_class = {
        category.name: {
            "AP": _mean(precision[:, :, k]),
            "AP50": _mean(precision[0, :, k]),
            "AP75": _mean(precision[5, :, k]),
        }
        for k, category in enumerate(dataset.categories)
    }
    limit = min(detections_per_image, _MOST_DETECTIONS)
    return Metrics(
        **dict(zip(NUMBERS, numbers)),
        per_class=per_class,
        images=len(dataset.image_ids),
        detections=len(detections),
        per_iou={
            f"{threshold:.2f}": _mean(precision[t]) for t, threshold in enumerate(evaluation.params.iouThrs.tolist())
        },
        detections_per_image=limit,
        crowded_images=int((np.bincount(annotations.images[~annotations.crowd]) > limit).sum()),
    )


def _ground_truth(columns: Annotations, numbers_of_images: dict[int, int]) -> list[dict[str, Any]]:
    """The annotations as COCOeval takes them. It uses the id 0 for "unmatched", so they are numbered from 1."""
    rows = zip(columns.images, columns.labels, columns.boxes.tolist(), columns.area.tolist(), columns.crowd)
    return [
        {
            "id": number,
            "image_id": numbers_of_images[int(image)],
            "category_id": int(label),
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, (image, label, box, area, crowd) in enumerate(rows, 1)
    ]


@dataclass(frozen=True)
class ResultColumns:
    """Detections as columns of equal length."""

    images: np.ndarray  # [D] index into the images of the dataset
    labels: np.ndarray  # [D] 1…C, by the dataset's categories
    boxes: np.ndarray  # [D, 4] float64 (x, y, width, height), pixels
    scores: np.ndarray  # [D] float64


def result_columns(dataset: CocoDataset | Items, detections: list[dict[str, Any]]) -> ResultColumns:
    """`detections` (COCO's result format) with the dataset's own numbers for images and categories.

    Raises:
        InputError: an id of a detection is not in the annotation file.
    """
    images, categories = Ids(dataset.image_ids), Ids([category.id for category in dataset.categories])
    return ResultColumns(
        images=np.array([_position("image_id", d, images, dataset) for d in detections], dtype=np.int64),
        labels=np.array([1 + _position("category_id", d, categories, dataset) for d in detections], dtype=np.int64),
        boxes=np.array([d["bbox"] for d in detections], dtype=np.float64).reshape(-1, 4),
        scores=np.array([d["score"] for d in detections], dtype=np.float64),
    )


def _renumbered(columns: ResultColumns, numbers_of_images: dict[int, int]) -> list[dict[str, Any]]:
    """Detections as COCOeval takes them."""
    rows = zip(columns.images.tolist(), columns.labels.tolist(), columns.boxes.tolist(), columns.scores.tolist())
    return [
        {
            "id": number,
            "image_id": numbers_of_images[image],
            "category_id": label,
            "bbox": box,
            "score": score,
            "iscrowd": 0,
            "area": box[2] * box[3],
        }
        for number, (image, label, box, score) in enumerate(rows, 1)
    ]


def _position(key: str, detection: dict[str, Any], ids: Ids, dataset: CocoDataset | Items) -> int:
    positions = ids.find(detection[key])
    if len(positions) != 1:
        raise InputError(
            f"a detection has the {key} {shown(repr(detection[key]), 80)}, which is not an id of "
            f"{dataset.name if isinstance(dataset, Items) else shown(dataset.annotation_file)}"
        )
    return positions[0]


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return 100 * float(known.mean()) if known.size else math.nan
