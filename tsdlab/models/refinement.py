"""Refinement of boxes by gradient ascent on how well they are believed to fit (IoU-Net, Jiang et al., ECCV 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tsdlab.config import IoUConfig
from tsdlab.ops import RegionPooler


@runtime_checkable
class RefiningHead(Protocol):
    """A head that can improve boxes which have been decided to be detections."""

    def refine(self, pool: RegionPooler, rois: Tensor, labels: Tensor) -> Tensor:
        """Better boxes [D, 4] for rois [D, 5] (image index, box) of classes labels [D] in 1…C."""


def ascend(confidence: Callable[[Tensor, Tensor], Tensor], boxes: Tensor, config: IoUConfig) -> Tensor:
    """T steps of b ← b + λ · ∇confidence(b) · (w, h, w, h), Algorithm 2 of the publication.

    A box is done when a step changed its confidence by less than Ω1 (`min_change`), or made it worse by more than
    −Ω2 (`max_loss`). The published listing leaves such a worse box where the step took it; here that step is taken
    back, and so is one that turned a box inside out: confidence never falls by more than `max_loss` per step.

    Only the boxes get a gradient. This works inside `torch.no_grad` and `torch.inference_mode`, if `confidence` reads
    no inference tensors.

    Args:
        confidence: called with boxes [k, 4] and `which` [k] int64, the places in `boxes` they came from, says [k] how
            well each of them fits; differentiable in the boxes.
        boxes: [D, 4] xyxy.

    Returns:
        [D, 4], not clipped to any image.
    """
    if config.refinement_steps == 0 or len(boxes) == 0:
        return boxes
    with torch.inference_mode(False), torch.no_grad():  # the former alone would turn gradients on
        boxes = boxes.detach().clone()
        active = torch.arange(len(boxes), device=boxes.device)
        value, slope = _value_and_slope(confidence, boxes, active)
        for _ in range(config.refinement_steps):
            before = boxes[active]
            size = (before[:, 2:] - before[:, :2]).repeat(1, 2)
            moved = before + config.step_size * slope * size
            new_value, slope = _value_and_slope(confidence, moved, active)
            change = new_value - value
            sound = (change >= -config.max_loss) & (moved[:, 2:] > moved[:, :2]).all(dim=1)  # False for NaN
            boxes[active] = torch.where(sound[:, None], moved, before)
            going_on = sound & (change.abs() >= config.min_change)
            active, value, slope = active[going_on], new_value[going_on], slope[going_on]
            if len(active) == 0:
                break
    return boxes


def _value_and_slope(
    confidence: Callable[[Tensor, Tensor], Tensor], boxes: Tensor, which: Tensor
) -> tuple[Tensor, Tensor]:
    """Confidence [k] of boxes [k, 4], and its gradient [k, 4]."""
    with torch.enable_grad():
        boxes = boxes.detach().requires_grad_()
        value = confidence(boxes, which)
        (slope,) = torch.autograd.grad(value.sum(), boxes)
    return value.detach(), slope
