"""What torchvision's `CocoDetection` knows of an image: annotations as they stand in the file, checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tsdlab.data import values
from tsdlab.data.coco import Target
from tsdlab.errors import DataError, shown
from tsdlab.structures import Category


def annotations_of(source: Any, place: int) -> list[dict[str, Any]]:
    """The annotations of an item of `CocoDetection`, or of torchvision's wrapper around it."""
    return source.coco.loadAnns(source.coco.getAnnIds(source.ids[place]))


def check_annotations(annotations: list[Any], categories: tuple[Category, ...]) -> None:
    """Raise DataError unless every annotation of COCO's format has a box and a category of the file."""
    known = {category.id for category in categories}
    for a in annotations:
        where = f"annotation {shown(repr(a.get('id') if isinstance(a, Mapping) else a), 80)}"
        box = list(a["bbox"]) if isinstance(a, Mapping) and isinstance(a.get("bbox"), list | tuple) else None
        if values.box(box) is None or any(isinstance(side, str) for side in box or ()):
            raise DataError(f'{where}: "bbox" must be four finite numbers [x, y, width, height], got {shown(box, 80)}')
        if not isinstance(a.get("category_id"), int | str) or a["category_id"] not in known:
            raise DataError(
                f'{where}: "category_id" {shown(repr(a.get("category_id")), 80)} is no category of the file'
            )


def target_of(annotations: list[dict[str, Any]]) -> Target:
    """The objects of one image of COCO's format; their labels are still ids of categories."""
    objects = [a for a in annotations if not values.flag(a.get("iscrowd")) and min(a["bbox"][2:]) > 0]
    boxes = torch.tensor([a["bbox"] for a in objects]).reshape(-1, 4).float()
    boxes[:, 2:] += boxes[:, :2]
    return {"boxes": boxes, "labels": [a["category_id"] for a in objects], "area": [area_of(a) for a in objects]}


def labels_of(ids: Tensor, categories: tuple[Category, ...]) -> Tensor:
    """Labels 1…C for ids of categories."""
    labels = {category.id: label for label, category in enumerate(categories, 1)}
    return torch.tensor([labels[key] for key in ids.tolist()], dtype=torch.int64)


def area_of(annotation: dict[str, Any]) -> float:
    """Pixels²; that of the box if the annotation has none."""
    found = values.area(annotation.get("area"))
    return annotation["bbox"][2] * annotation["bbox"][3] if found is None else found
