"""Boxes and labels in any usual form, as the target that a detector is trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from tsdlab.data.arrays import as_numbers
from tsdlab.data.coco import Target
from tsdlab.errors import InputError, shown

_MANY = 8  # pixels of a side, that boxes within the first pixel are hardly meant for
# What a target may have instead of objects.
_NO_OBJECTS = {"image_id", "labels", "iscrowd", "area"}


def as_target(target: Any, name: str = "target") -> Target:
    """The objects of an image as `CocoDataset` gives them; crowds are left out.

    Args:
        target: a mapping with "boxes" and "labels", and maybe "iscrowd", "area", "salient_boxes" and others; None or a
            mapping without "boxes" if there are no objects.
        name: how a message calls it.

    Raises:
        InputError: it is something else; says what.
    """
    target = {} if target is None else target
    if not isinstance(target, Mapping):
        raise InputError(f'{name} must be a dict with "boxes" and "labels", got {type(target).__name__}')
    if "boxes" not in target:
        if unknown := set(map(str, target)) - _NO_OBJECTS:
            raise InputError(
                f'{name} must have "boxes" and "labels", it has {shown(", ".join(sorted(unknown)))}. '
                "torchvision.datasets.wrap_dataset_for_transforms_v2 gives the data sets of torchvision such targets"
            )
        target = {**target, "boxes": [], "labels": []}
    boxes = as_boxes(target["boxes"], f'{name}["boxes"]').cpu().float()
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
    if inverted.any():
        raise InputError(
            f'{name}["boxes"] must be [x1, y1, x2, y2] with x1 ≤ x2 and y1 ≤ y2, got '
            f"{shown(boxes[inverted][0].tolist())}; x, y, width and height need to be converted"
        )
    found: Target = {**target, "boxes": boxes, "labels": _whole(target, "labels", len(boxes), name)}
    for field in ("area", "salient_boxes"):
        if field in target:
            value = target[field]
            found[field] = as_boxes(value, f'{name}["{field}"]').cpu() if field != "area" else as_numbers(value)
            if found[field] is None or len(found[field]) != len(boxes):
                raise InputError(f'{name}["{field}"] must have one entry for each of the {len(boxes)} boxes')
    if "iscrowd" in target and len(boxes):
        single = _whole(target, "iscrowd", len(boxes), name) == 0
        for field in ("boxes", "labels", "area", "salient_boxes", "iscrowd"):
            if field in found:
                value = as_numbers(found[field])
                found[field] = value[single] if value is not None else value
    return found


def as_boxes(value: Any, name: str = "proposals") -> Tensor:
    """Boxes in any usual form as `[K, 4]` xyxy of a floating-point type: a tensor, an array, lists, `BoundingBoxes`.

    Raises:
        InputError: they have another shape, or are not finite.
    """
    if isinstance(value, BoundingBoxes) and value.format != BoundingBoxFormat.XYXY:
        from torchvision.transforms.v2.functional import convert_bounding_box_format

        value = convert_bounding_box_format(value, new_format=BoundingBoxFormat.XYXY)
    boxes = as_numbers(value)
    if boxes is None or boxes.is_complex():
        raise InputError(f"{name} must be numbers [K, 4] xyxy, got {shown(value, 80)}")
    boxes = boxes if isinstance(value, Tensor) and boxes.is_floating_point() else boxes.float()
    if boxes.numel() == 0 and boxes.dim() <= 2 and boxes.shape[-1] in (0, 4):
        boxes = boxes.reshape(0, 4)
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        got = tuple(boxes.shape) if boxes.dim() else boxes.item()
        raise InputError(f"{name} must be [K, 4] xyxy, got {got}")
    if not boxes.isfinite().all():
        raise InputError(f"{name} must be finite, got {shown(boxes[~boxes.isfinite().all(dim=1)][0].tolist())}")
    return boxes


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise InputError unless all labels are in 1…classes; with `classes` 0, unless they are at least 1."""
    wrong = labels[(labels < 1) | ((labels > classes) if classes else False)]
    if len(wrong):
        allowed = f"1…{classes}" if classes else "1 or more"
        raise InputError(f"labels must be {allowed} (0 is background), got {int(wrong[0])}")


def check_pixels(boxes: Tensor, image: Tensor) -> None:
    """Raise InputError if all boxes of an image of many pixels are within the first one: they are fractions."""
    if len(boxes) and min(image.shape[1:]) > _MANY and bool((boxes >= 0).all() and (boxes <= 1).all()):
        raise InputError(
            f"boxes must be in pixels, got {shown(boxes[0].tolist())}, which are fractions of the image; multiply them "
            "by its width and height"
        )


def _whole(target: Mapping[str, Any], field: str, count: int, name: str) -> Tensor:
    """An entry of a target as int64 [count]."""
    if field not in target:
        raise InputError(f'{name} has "boxes" but no "{field}"')
    values = as_numbers(target[field])
    is_flag = values is not None and values.dtype == torch.bool and field == "labels"
    if values is None or is_flag or (values.is_floating_point() and not torch.equal(values, values.round())):
        raise InputError(f'{name}["{field}"] must be whole numbers, got {shown(target[field], 80)}')
    if values.numel() != count:
        raise InputError(f'{name} has {count} boxes, but {values.numel()} entries in "{field}"')
    return values.reshape(-1).cpu().long()
