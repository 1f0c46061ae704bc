"""Boxes and targets of every usual form are the same boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from tsdlab.data.targets import as_boxes, as_target


@pytest.mark.parametrize(
    "boxes",
    [
        [[1, 2, 5, 8]],
        ((1.0, 2.0, 5.0, 8.0),),
        np.array([[1, 2, 5, 8]]),
        np.array([[8, 5, 2, 1]], dtype=np.float64)[:, ::-1],
        torch.tensor([[1, 2, 5, 8]]),
        tv_tensors.BoundingBoxes([[1, 2, 5, 8]], format="XYXY", canvas_size=(9, 9)),
        tv_tensors.BoundingBoxes([[1, 2, 4, 6]], format="XYWH", canvas_size=(9, 9)),
        tv_tensors.BoundingBoxes([[3.0, 5.0, 4.0, 6.0]], format="CXCYWH", canvas_size=(9, 9)),
    ],
    ids=lambda boxes: type(boxes).__name__,
)
def test_boxes_of_every_form(boxes: object) -> None:
    found = as_boxes(boxes)
    assert type(found) is torch.Tensor and found.is_floating_point() and found.tolist() == [[1, 2, 5, 8]]


@pytest.mark.parametrize("empty", [[], np.zeros(0), torch.zeros(0, 4), torch.zeros(1, 0), np.zeros((0, 4), np.int64)])
def test_no_boxes_of_every_form(empty: object) -> None:
    assert as_boxes(empty).shape == (0, 4)


def test_crowds_are_left_out() -> None:
    target = {"boxes": [[0, 0, 1, 1], [0, 0, 2, 2]], "labels": [1, 2], "iscrowd": [1, 0], "area": [1, 4]}
    found = as_target(target)
    assert found["boxes"].tolist() == [[0, 0, 2, 2]] and found["labels"].tolist() == [2] and list(found["area"]) == [4]
