"""Deformable RoIAlign as plain scalar loops: the reference that tests and benchmarks compare with."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def deform_roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
    offsets: Tensor | None = None,
) -> Tensor:
    """As `tsdlab.ops.deform_roi_align`, forward only and slow. Shapes and units are the same."""
    images, channels, height, width = features.shape
    rows, columns = output_size
    out = torch.zeros(len(rois), channels, rows, columns, dtype=features.dtype)
    shift = 0.5 if aligned else 0.0
    for k, (image, *box) in enumerate(rois.tolist()):
        if not all(map(math.isfinite, [image, *box])) or not 0 <= image < images:
            continue
        x1, y1, x2, y2 = (v * spatial_scale - shift for v in box)
        roi_w, roi_h = x2 - x1, y2 - y1
        grid_w, grid_h = (roi_w, roi_h) if aligned else (max(roi_w, 1.0), max(roi_h, 1.0))
        for i in range(rows):
            for j in range(columns):
                dx, dy = (0.0, 0.0) if offsets is None else offsets[k, i, j].tolist()
                total = torch.zeros(channels, dtype=features.dtype)
                for a in range(sampling_ratio):
                    for b in range(sampling_ratio):
                        y = y1 + (i + (a + 0.5) / sampling_ratio) * (grid_h / rows) + dy * roi_h
                        x = x1 + (j + (b + 0.5) / sampling_ratio) * (grid_w / columns) + dx * roi_w
                        total += _bilinear(features[int(image)], y, x, height, width)
                out[k, :, i, j] = total / sampling_ratio**2
    return out


def _bilinear(feature: Tensor, y: float, x: float, height: int, width: int) -> Tensor:
    if not (-1 <= y <= height and -1 <= x <= width):  # also when y or x is NaN
        return torch.zeros(feature.shape[0], dtype=feature.dtype)
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    top = feature[:, y0, x0] * (1 - fx) + feature[:, y0, x1] * fx
    bottom = feature[:, y1, x0] * (1 - fx) + feature[:, y1, x1] * fx
    return top * (1 - fy) + bottom * fy
