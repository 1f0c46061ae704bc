"""Box arithmetic that all heads use: Fast R-CNN's deltas, and the IoU of paired boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

# Fast R-CNN's weights of (dx, dy, dw, dh), as in torchvision.
_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def encode(targets: Tensor, boxes: Tensor) -> Tensor:
    """The deltas [K, 4] that turn `boxes` into `targets` (both [K, 4] xyxy); differentiable in both."""
    return _CODER.encode_single(targets, boxes)


def decode(deltas: Tensor, boxes: Tensor) -> Tensor:
    """Apply `deltas` [K, 4] to `boxes` [K, 4] (xyxy): boxes [K, 4]; differentiable in both."""
    return _CODER.decode_single(deltas, boxes)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [K] of a[k] and b[k], boxes [K, 4] xyxy; 0 where both are empty. Differentiable in both."""
    corner_min = torch.maximum(a[:, :2], b[:, :2])
    corner_max = torch.minimum(a[:, 2:], b[:, 2:])
    intersection = (corner_max - corner_min).clamp(min=0).prod(dim=1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).eps)
