"""Refinement of boxes by gradient ascent on their predicted IoU (IoU-Net, Jiang et al., ECCV 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tsdlab.config import IoUConfig
from tsdlab.ops import RegionPooler


@runtime_checkable
class RefiningHead(Protocol):
    """A head that can improve the boxes of detections, after NMS."""

    def refine(self, pool: RegionPooler, rois: Tensor, labels: Tensor) -> Tensor:
        """Better boxes [D, 4] for rois [D, 5] (image index, box) of classes labels [D] in 1…C."""


def ascend(confidence: Callable[[Tensor, Tensor], Tensor], boxes: Tensor, config: IoUConfig) -> Tensor:
    """T steps of b ← b + λ · ∇confidence(b) · (w, h, w, h), Algorithm 2 of the publication.

    A box stops when a step changes its confidence by less than Ω1 (`min_change`), or lowers it by more than −Ω2
    (`max_loss`). The published listing keeps a step that lowers it by more; here that step is undone, and so is a step
    that turns a box inside out. No step therefore lowers the confidence by more than `max_loss`.

    Only the boxes get a gradient. The function works inside `torch.no_grad` and `torch.inference_mode`, if `confidence`
    reads no inference tensors.

    Args:
        confidence: a function of boxes [k, 4] and their indices in `boxes` [k] int64. It returns how well each of them
            fits [k], and is differentiable in the boxes.
        boxes: [D, 4] xyxy.
        config: steps, step size and stopping rule.

    Returns:
        [D, 4], not clipped to any image.
    """
    if config.refinement_steps == 0 or len(boxes) == 0:
        return boxes
    with torch.inference_mode(False), torch.no_grad():  # inference_mode(False) alone would turn gradients on
        boxes = boxes.detach().clone()
        active = torch.arange(len(boxes), device=boxes.device)
        value, slope = _value_and_slope(confidence, boxes, active)
        for _ in range(config.refinement_steps):
            before = boxes[active]
            size = (before[:, 2:] - before[:, :2]).repeat(1, 2)
            moved = before + config.step_size * slope * size
            new_value, slope = _value_and_slope(confidence, moved, active)
            change = new_value - value
            valid = (change >= -config.max_loss) & (moved[:, 2:] > moved[:, :2]).all(dim=1)  # False for NaN
            boxes[active] = torch.where(valid[:, None], moved, before)
            moving = valid & (change.abs() >= config.min_change)
            active, value, slope = active[moving], new_value[moving], slope[moving]
            if len(active) == 0:
                break
    return boxes


def _value_and_slope(
    confidence: Callable[[Tensor, Tensor], Tensor], boxes: Tensor, which: Tensor
) -> tuple[Tensor, Tensor]:
    """The confidence of boxes [k, 4]: its value [k] and its gradient [k, 4]."""
    with torch.enable_grad():
        boxes = boxes.detach().requires_grad_()
        value = confidence(boxes, which)
        (slope,) = torch.autograd.grad(value.sum(), boxes)
    return value.detach(), slope
