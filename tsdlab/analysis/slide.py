"""A box moved over its object: from which places is each task answered well?

A simpler form of the paper's Figure 1 for one object: it does not use the proposal of each coordinate, but the object's
own box, moved step by step, so that only the place changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tsdlab.data.arrays import as_numbers
from tsdlab.errors import InputError
from tsdlab.models.boxes import paired_iou
from tsdlab.models.probe import trace


@dataclass(frozen=True)
class SlideMaps:
    """Answers at S × S places. The row is the shift in y, the column the shift in x."""

    shifts: Tensor  # [S] fractions of the box, ascending, 0 in the middle
    classification: Tensor  # [S, S] score of the true class, 0…1
    localization: Tensor  # [S, S] IoU of the decoded box with the truth, 0…1

    @property
    def overlap(self) -> Tensor:
        """[S, S] IoU of the slid box itself with the object; below 0.5 a proposal is background in training."""
        common = (1 - self.shifts.abs()).clamp(min=0)  # by axis, as a fraction of the box
        shared = common[:, None] * common
        return shared / (2 - shared)

    def best_place(self, task: str) -> Tensor:
        """[2] (dx, dy) in fractions of the box: where "classification" or "localization" is answered best."""
        values: Tensor = getattr(self, task)
        row, column = divmod(int(values.argmax()), values.shape[1])
        return torch.stack([self.shifts[column], self.shifts[row]])


def slide_box(model: nn.Module, image: Any, box: Any, label: int, reach: float = 0.5, steps: int = 25) -> SlideMaps:
    """Ask `model` about `box`, moved to steps × steps places, in one pass over the image.

    Args:
        model: a tsdlab detector; the branch that detects answers.
        image: [3, H, W] in 0…1.
        box: [4] xyxy, pixels of `image`: the object's ground truth, with which decoded boxes are compared.
        label: the object's class, 1…C.
        reach: largest shift, as a fraction of the box.
        steps: places per side; an odd number, so that the box's own place is among them.

    Raises:
        InputError: `steps` is even, or `box` has another shape.
    """
    if steps % 2 == 0:
        raise InputError(f"steps must be odd, so that the box's own place is among them; got {steps}")
    box = as_numbers(box)
    if box is None or box.shape != (4,):
        raise InputError(f"box must be [4] xyxy, got {box if box is None else tuple(box.shape)}")
    shifts = torch.linspace(-reach, reach, steps)
    places = torch.cartesian_prod(shifts, shifts).flip(1)  # [S², 2] (dx, dy), row by row
    slid = box + (places * (box[2:] - box[:2])).repeat(1, 2)
    answer = trace(model, image, slid).detection
    decoded = answer.boxes[:, label].cpu()
    return SlideMaps(
        shifts=shifts,
        classification=answer.scores[:, label].cpu().view(steps, steps),
        localization=paired_iou(decoded, box.expand_as(decoded)).view(steps, steps),
    )
