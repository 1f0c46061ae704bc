"""Deformable RoIAlign over a pyramid on CUDA: one Triton kernel forward, one backward, each launched once.

A program pools a few bins of one RoI from channels-last maps. The samples of a bin form a grid, so they are computed
per axis, as taps. A tap is a cell and its weight. The mean of the samples, and every derivative of it, is a sum over
pairs of a y tap and an x tap. Taps in the same cell are merged first: each cell is then read once and receives its
gradient once, however many samples of the bin touch it.

The geometry is that of `tsdlab.ops.reference`. Samples outside the map or at a point that is not finite have no taps.
So no value of rois, levels or offsets can make a kernel access memory outside the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Every lane computes the taps of its bin. With fewer lanes on a bin, less is computed twice; but eight lanes, at 16
# bytes each, read a whole cache line at once. A program is a single warp, so it never waits for other warps. It pools
# four bins, and thirteen programs cover the 7 × 7 bins of a RoI with little waste.
_LINE = 128  # bytes
_LANES, _LANE_BYTES = 32, 16


@dataclass(frozen=True)
class _Pooling:
    """What a kernel is compiled for. Nothing here changes from batch to batch."""

    scales: tuple[float, ...]
    channels: int
    rows: int
    columns: int
    samples: int
    aligned: bool
    itemsize: int  # bytes of one number, in the tensors that cause most of the memory traffic

    @property
    def bins(self) -> int:
        return self.rows * self.columns

    @property
    def block_channels(self) -> int:
        return min(triton.next_power_of_2(max(self.channels, 1)), _LINE // self.itemsize)

    @property
    def block_bins(self) -> int:
        return _LANES * _LANE_BYTES // self.itemsize // self.block_channels

    @property
    def tiles(self) -> int:
        """Programs per RoI."""
        return triton.cdiv(self.bins, self.block_bins)


@triton.jit(do_not_specialize=["images"])
def _forward_kernel(out, features, heights, widths, rois, levels, offsets, images, P: tl.constexpr):
    """out [K, rows, columns, C]; the other arguments are those of `_bin_taps`."""
    bins, mask, level, first_cell, width, ys, xs = _bin_taps(heights, widths, rois, levels, offsets, images, P)
    start = _of_level(features, level) + first_cell * P.channels
    TAPS: tl.constexpr = 2 * P.samples  # along each axis
    for first in range(0, P.channels, P.block_channels):
        channels = first + tl.arange(0, P.block_channels)[None, :]
        within = channels < P.channels
        total = tl.full((P.block_bins, P.block_channels), 0, rois.dtype.element_ty)
        for i in tl.static_range(TAPS):
            y, y_weight, _, _ = ys[i]
            for j in tl.static_range(TAPS):
                x, x_weight, _, _ = xs[j]
                index = (y * (width * P.channels) + x.to(tl.int64) * P.channels)[:, None] + channels
                there = ((y != -1) & (x != -1))[:, None] & within
                total += (y_weight * x_weight)[:, None] * tl.load(start + index, mask=there, other=0).to(total.dtype)
        total *= 1 / (P.samples * P.samples)
        tl.store(out + (bins * P.channels)[:, None] + channels, total, mask=mask[:, None] & within)


@triton.jit(do_not_specialize=["images"])
def _backward_kernel(
    feature_gradients, moments, grad, features, heights, widths, rois, levels, offsets, images, P: tl.constexpr
):
    """grad [K, rows, columns, C]; feature_gradients and moments are outputs, None if they are not needed.

    One program handles all channels of a bin, so the bin's moments need no atomic addition.
    """
    bins, mask, level, first_cell, width, ys, xs = _bin_taps(heights, widths, rois, levels, offsets, images, P)
    start = _of_level(features, level) + first_cell * P.channels
    if feature_gradients is not None:
        gradient_start = _of_level(feature_gradients, level) + first_cell * P.channels
    TAPS: tl.constexpr = 2 * P.samples  # along each axis
    zero = tl.full((P.block_bins, P.block_channels), 0, rois.dtype.element_ty)
    gx, fx_gx, gy, fy_gy = zero, zero, zero, zero
    for i in tl.static_range(TAPS):
        # One row of taps at a time, for all channels: the addresses of all taps would need too many registers.
        y, y_weight, y_slope, y_lever = ys[i]
        for first in range(0, P.channels, P.block_channels):
            channels = first + tl.arange(0, P.block_channels)[None, :]
            within = channels < P.channels
            g = tl.load(grad + (bins * P.channels)[:, None] + channels, mask=mask[:, None] & within, other=0)
            g = g.to(zero.dtype) * (1 / (P.samples * P.samples))
            value, slope, lever = zero, zero, zero  # sums over the row
            for j in tl.static_range(TAPS):
                x, x_weight, x_slope, x_lever = xs[j]
                index = (y * (width * P.channels) + x.to(tl.int64) * P.channels)[:, None] + channels
                there = ((y != -1) & (x != -1))[:, None] & within
                if moments is not None:
                    feature = tl.load(start + index, mask=there, other=0).to(zero.dtype)
                    value += x_weight[:, None] * feature
                    slope += x_slope[:, None] * feature
                    lever += x_lever[:, None] * feature
                if feature_gradients is not None:
                    weight = (y_weight * x_weight)[:, None]
                    tl.atomic_add(gradient_start + index, weight * g, mask=there & (weight != 0), sem="relaxed")
            gx += y_weight[:, None] * slope * g
            fx_gx += y_weight[:, None] * lever * g
            gy += y_slope[:, None] * value * g
            fy_gy += y_lever[:, None] * value * g
    if moments is not None:
        tl.store(moments + bins * 4, tl.reduce(gx, 1, _add), mask=mask)
        tl.store(moments + bins * 4 + 1, tl.reduce(fx_gx, 1, _add) * (1 / P.columns), mask=mask)
        tl.store(moments + bins * 4 + 2, tl.reduce(gy, 1, _add), mask=mask)
        tl.store(moments + bins * 4 + 3, tl.reduce(fy_gy, 1, _add) * (1 / P.rows), mask=mask)


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _bin_taps(heights, widths, rois, levels, offsets, images, P: tl.constexpr):
    """The bins of this program and their taps.

    Args:
        heights, widths: of every level's map, as floats. With ints in a tuple, Triton would compile the kernel again
            whenever one becomes a multiple of 16.
        rois, levels, offsets: as in `forward`.
        images: number of images.

    Returns:
        bins [bins] int64, the index among the bins of all RoIs; their mask, False after the RoI's last bin; the RoI's
        level; the first cell of the RoI's image in that level's map, and the map's width, both int64; the taps along
        y and x, from `_axis_taps`.
    """
    roi = (tl.program_id(0) // P.tiles).to(tl.int64)
    bins = tl.program_id(0) % P.tiles * P.block_bins + tl.arange(0, P.block_bins)
    mask = bins < P.bins
    row, column = bins // P.columns, bins % P.columns
    bins = roi * P.bins + bins

    image = tl.load(rois + roi * 5)
    x1 = tl.load(rois + roi * 5 + 1)
    y1 = tl.load(rois + roi * 5 + 2)
    x2 = tl.load(rois + roi * 5 + 3)
    y2 = tl.load(rois + roi * 5 + 4)
    level = tl.load(levels + roi)
    valid = (image >= 0) & (image < images) & (level >= 0) & (level < len(P.scales))
    valid &= (tl.abs(x1) < float("inf")) & (tl.abs(y1) < float("inf"))
    valid &= (tl.abs(x2) < float("inf")) & (tl.abs(y2) < float("inf"))
    image = tl.where(valid, image, 0).to(tl.int64)

    # For a RoI that is not valid the map has no cells, so there are no taps.
    height = tl.where(valid, _of_level(heights, level), 0)
    width = tl.where(valid, _of_level(widths, level), 0)
    scale = tl.full((), P.scales[0], x1.dtype)
    for i in tl.static_range(1, len(P.scales)):
        scale = tl.where(level == i, tl.full((), P.scales[i], x1.dtype), scale)
    half: tl.constexpr = 0.5 if P.aligned else 0.0
    x1, y1, x2, y2 = x1 * scale - half, y1 * scale - half, x2 * scale - half, y2 * scale - half

    dx, dy = 0.0, 0.0
    if offsets is not None:
        dx = tl.load(offsets + bins * 2, mask=mask, other=0) * (x2 - x1)
        dy = tl.load(offsets + bins * 2 + 1, mask=mask, other=0) * (y2 - y1)
    ys = _axis_taps(y1, y2 - y1, dy, row, mask, height, P.rows, P)
    xs = _axis_taps(x1, x2 - x1, dx, column, mask, width, P.columns, P)
    width = width.to(tl.int64)
    return bins, mask, level, image * height.to(tl.int64) * width, width, ys, xs


@triton.jit
def _of_level(values, level):
    picked = values[0]
    for i in tl.static_range(1, len(values)):
        picked = tl.where(level == i, values[i], picked)
    return picked


@triton.jit
def _axis_taps(start, length, offset, bins, mask, size, BINS: tl.constexpr, P: tl.constexpr):
    """Taps of the samples along one axis: 2·samples tuples (cell, weight, slope, lever) of [bins] each.

    Over the taps of a bin, Σ weight·f(cell) is the sum of its samples, Σ slope·f(cell) the sum of their derivatives,
    and Σ lever·f(cell) the sum of derivative × place, where the place is measured along the RoI in bins. Cell −1 means
    that there is no tap.
    """
    if not P.aligned:
        length = tl.maximum(length, 1.0)
    # Rounded to nearest: if a RoI's bins are as long as cells, samples must be exactly at cells.
    step = length / BINS if length.dtype == tl.float64 else tl.div_rn(length, BINS * 1.0)
    SAMPLES: tl.constexpr = P.samples
    taps = ()
    for i in tl.static_range(SAMPLES):
        place = bins.to(length.dtype) + (i + 0.5) / P.samples
        point = start + place * step + offset
        inside = mask & (point >= -1) & (point <= size)  # False for NaN
        point = tl.where(inside, point, 0)
        # On the border and beyond, a sample has the border's value: one tap is enough, and its slope is zero.
        between = inside & (point >= 0) & (point < size - 1)
        point = tl.minimum(tl.maximum(point, 0), size - 1)  # −1 if there are no cells
        cell = point.to(tl.int32)
        fraction = point - cell
        slope = tl.where(between, 1, 0).to(point.dtype)
        low = (tl.where(inside, cell, -1), 1 - fraction, -slope, -slope * place)
        high = (tl.where(between, cell + 1, -1), fraction, slope, slope * place)
        taps = _append(taps, low, high)
    return taps


@triton.jit
def _append(taps, low, high):
    """`taps` with the two of the next sample. Taps of the sample before it are merged into them if in the same cell."""
    if len(taps) > 0:
        previous_low, low = _move(taps[-2], low)
        previous_low, high = _move(previous_low, high)
        previous_high, low = _move(taps[-1], low)
        previous_high, high = _move(previous_high, high)
        taps = taps[:-2]
        taps += (previous_low, previous_high)
    taps += (low, high)
    return taps


@triton.jit
def _move(source, target):
    """Both taps, after `source` was added to `target` (and emptied) wherever they are in the same cell."""
    source_cell, source_weight, source_slope, source_lever = source
    cell, weight, slope, lever = target
    same = source_cell == cell
    weight += tl.where(same, source_weight, 0)
    slope += tl.where(same, source_slope, 0)
    lever += tl.where(same, source_lever, 0)
    return (tl.where(same, -1, source_cell), source_weight, source_slope, source_lever), (cell, weight, slope, lever)


def forward(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    offsets: Tensor | None,
    scales: Sequence[float],
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Mean of the bilinear samples of every bin; arithmetic is in rois' dtype.

    Args:
        features: one [N, C, H, W] per level, channels-last in memory.
        rois: [K, 5] (image, x1, y1, x2, y2) in image pixels; float64 if the features are, else float32.
        levels: [K] int64, the level each RoI is pooled from.
        offsets: [K, rows, columns, 2] (dx, dy) of rois' dtype, fractions of the RoI's width and height; or None.
        scales: feature cells per image pixel, one per level.
        output_size: (rows, columns) of bins.
        sampling_ratio: samples per bin and side.
        aligned: torchvision's flag of the same name.

    Returns:
        [K, C, rows, columns] of the features' dtype, channels-last in memory.
    """
    pooling = _Pooling(tuple(scales), features[0].shape[1], *output_size, sampling_ratio, aligned, features[0].itemsize)
    out = features[0].new_empty(len(rois), *output_size, pooling.channels)
    if out.numel():
        _launch(_forward_kernel, (out,), features, rois, levels, offsets, pooling)
    return out.permute(0, 3, 1, 2)


def backward(
    grad: Tensor,
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    offsets: Tensor | None,
    scales: Sequence[float],
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    need_features: bool,
    need_points: bool,
) -> tuple[list[Tensor], Tensor]:
    """Gradients of `forward` for grad [K, C, rows, columns].

    Returns:
        The features' gradients, or no tensors if they are not needed; and moments [K, rows, columns, 4] of rois'
        dtype ([0, …] if not needed): the sums over a bin's samples of (gx, fx·gx, gy, fy·gy), in which gx and gy
        are the derivatives by the sample's x and y, in feature cells, and fx and fy the sample's place along the
        RoI's width and height, from 0 to 1. All gradients of rois and offsets are made of these.
    """
    pooling = _Pooling(tuple(scales), features[0].shape[1], *output_size, sampling_ratio, aligned, rois.itemsize)
    moments = rois.new_zeros(len(rois) if need_points else 0, *output_size, 4)
    # Sums of many terms: in rois' dtype, and rounded once.
    gradients = tuple(
        torch.zeros_like(f, dtype=rois.dtype, memory_format=torch.channels_last) for f in features if need_features
    )
    if grad.numel() and (need_features or need_points):
        outputs = (gradients or None, moments if need_points else None)
        grad = grad.contiguous(memory_format=torch.channels_last)
        _launch(_backward_kernel, (*outputs, grad), features, rois, levels, offsets, pooling)
    return [g.to(f.dtype) for g, f in zip(gradients, features)], moments


def _launch(
    kernel: Any,
    arguments: tuple[Any, ...],
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    offsets: Tensor | None,
    pooling: _Pooling,
) -> None:
    with torch.cuda.device_of(rois):  # Triton launches on the current device, which need not be the tensors'
        kernel[(len(rois) * pooling.tiles,)](
            *arguments,
            tuple(f.contiguous(memory_format=torch.channels_last) for f in features),
            tuple(float(f.shape[2]) for f in features),
            tuple(float(f.shape[3]) for f in features),
            rois.contiguous(),
            levels.contiguous(),
            None if offsets is None else offsets.contiguous(),
            features[0].shape[0],
            pooling,
            num_warps=1,
            enable_fp_fusion=True,
        )
