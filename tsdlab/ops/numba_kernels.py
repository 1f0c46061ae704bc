"""CPU kernels: region pooling as plain loops over RoIs, bins, samples and channels, compiled by numba.

A bin reads a few rows of channels, which stay in the cache, and writes one row. So only the features, the result and
its gradient go through memory, while `bag.py` also writes an index and a weight for each tap.

Work is split into tasks that never write to the same place: by RoIs and, for the gradient of the features, by bands of
rows of the map. A cell always sums its RoIs in their order, so no result depends on the number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import torch
from numba import njit
from torch import Tensor

ROIS_PER_TASK = 32  # about a quarter of a millisecond; for much less, starting a thread does not pay
# Rows of a feature gradient that one task owns. A RoI is computed again for every band that it reaches into, so a band
# is about as tall as a region on its level.
ROWS_PER_TASK = 32


# For sums over channels: `reassoc` vectorizes them. NaN and infinity keep their meaning.
_FAST = frozenset({"reassoc", "contract", "nsz"})
_AS_WRITTEN: frozenset[str] = frozenset()  # for coordinates: at a cell, one bit decides which side a sample is on


def _compiled(function: Callable, arithmetic: frozenset[str] = _FAST) -> Callable:
    compiler = partial(njit, nogil=True, error_model="numpy", fastmath=set(arithmetic))
    try:
        return compiler(cache=True)(function)
    except RuntimeError:  # there is no folder to cache machine code in: every process compiles again
        return compiler()(function)


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
    """Pooled regions [K, C, rows, columns]; arguments as for `fused.pool_regions`."""
    pooled = torch.empty(len(rois), *output_size, features[0].shape[1], dtype=rois.dtype)
    unknown = (levels.numpy() < 0) | (levels.numpy() >= len(features))
    pooled.numpy()[np.flatnonzero(unknown)] = 0  # no task writes these
    regions = rois.contiguous().numpy(), _offsets_or_none(rois, offsets, output_size)
    tasks = []
    for level, chosen in enumerate(_rois_of_levels(levels, len(features))):
        cells = _cells(features[level], rois.dtype)
        how = *regions, scales[level], sampling_ratio, aligned
        tasks += [partial(_pool, cells, chunk, *how, pooled.numpy()) for chunk in _cut(chosen, ROIS_PER_TASK)]
    _run(tasks)
    return pooled.permute(0, 3, 1, 2).to(features[0].dtype)


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
    """Gradients of the features, and moments [K, rows, columns, 4] of the gradient of the sample points.

    Arguments and results are those of `fused.pool_regions_backward`.
    """
    bins = _cells(grad, rois.dtype)
    grad_maps = []
    if need_features:
        grad_maps = [rois.new_empty(f.shape[0], *f.shape[2:], f.shape[1]) for f in features]
    moments = rois.new_zeros(len(rois) if need_points else 0, *output_size, 4)
    regions = rois.contiguous().numpy(), _offsets_or_none(rois, offsets, output_size)
    tasks = []
    for level, chosen in enumerate(_rois_of_levels(levels, len(features))):
        how = *regions, scales[level], sampling_ratio, aligned, bins
        if need_features:
            cells = grad_maps[level].numpy()
            for image in range(cells.shape[0]):
                for row in range(0, cells.shape[1], ROWS_PER_TASK):
                    tasks.append(partial(_scatter, cells, image, row, row + ROWS_PER_TASK, chosen, *how))
        if need_points:
            cells = _cells(features[level], rois.dtype)
            tasks += [partial(_measure, cells, chunk, *how, moments.numpy()) for chunk in _cut(chosen, ROIS_PER_TASK)]
    _run(tasks)
    return [g.permute(0, 3, 1, 2).to(f.dtype) for g, f in zip(grad_maps, features)], moments


def _cells(maps: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A view [N, H, W, C] of channels-last maps [N, C, H, W], or a copy of other maps.

    Half-precision values are converted to the type of the coordinates, in which everything is summed.
    """
    return maps.detach().permute(0, 2, 3, 1).to(dtype).contiguous().numpy()


def _offsets_or_none(rois: Tensor, offsets: Tensor | None, output_size: tuple[int, int]) -> np.ndarray:
    """Offsets [K, rows, columns, 2], or [0, rows, columns, 2] without offsets, so that both cases share one kernel."""
    return (rois.new_empty(0, *output_size, 2) if offsets is None else offsets.contiguous()).numpy()


def _rois_of_levels(levels: Tensor, count: int) -> list[np.ndarray]:
    return [np.flatnonzero(levels.numpy() == level) for level in range(count)]


def _cut(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _run(tasks: Iterable[Callable[[], None]]) -> None:
    """Run tasks on as many threads as torch may use, including this one."""
    left = deque(tasks)
    others = torch.get_num_threads() - 1
    helping = [_threads(os.getpid(), others).submit(_take, left) for _ in range(min(others, len(left) - 1))]
    _take(left)
    for helper in helping:
        helper.result()


def _take(left: deque[Callable[[], None]]) -> None:
    while True:
        try:
            task = left.popleft()
        except IndexError:
            return
        task()


# Our own threads: numba's are not safe with several callers, and ignore torch.set_num_threads.
@cache
def _threads(pid: int, count: int) -> ThreadPoolExecutor:  # cached per process: a fork inherits no threads
    return ThreadPoolExecutor(count, thread_name_prefix="tsdlab-pool")


@_compiled
def _pool(cells, chosen, rois, offsets, scale, sampling_ratio, aligned, pooled):
    """Forward pass of the RoIs `chosen`: writes their part of pooled [K, rows, columns, C]."""
    _, height, width, channels = cells.shape
    _, rows, columns, _ = pooled.shape
    taps_y, weights_y = _axis(sampling_ratio, cells.dtype)
    taps_x, weights_x = _axis(sampling_ratio, cells.dtype)
    for k in chosen:
        image, frame_y, frame_x = _frames(rois[k], cells.shape, scale, aligned)
        if image < 0:
            pooled[k] = 0
            continue
        for i in range(rows):
            for j in range(columns):
                dx, dy = _offset(offsets, k, i, j)
                _locate(taps_y, weights_y, frame_y, i, rows, dy, height)
                _locate(taps_x, weights_x, frame_x, j, columns, dx, width)
                out = pooled[k, i, j]
                out[:] = 0
                for a in range(sampling_ratio):
                    for b in range(sampling_ratio):
                        if _is_outside(weights_y, a) or _is_outside(weights_x, b):
                            continue  # its taps may name a cell with an infinite value
                        w00, w01 = weights_y[2 * a] * weights_x[2 * b], weights_y[2 * a] * weights_x[2 * b + 1]
                        w10, w11 = weights_y[2 * a + 1] * weights_x[2 * b], weights_y[2 * a + 1] * weights_x[2 * b + 1]
                        f00, f01 = (
                            cells[image, taps_y[2 * a], taps_x[2 * b]],
                            cells[image, taps_y[2 * a], taps_x[2 * b + 1]],
                        )
                        f10, f11 = (
                            cells[image, taps_y[2 * a + 1], taps_x[2 * b]],
                            cells[image, taps_y[2 * a + 1], taps_x[2 * b + 1]],
                        )
                        for c in range(channels):
                            out[c] += w00 * f00[c] + w01 * f01[c] + w10 * f10[c] + w11 * f11[c]


@_compiled
def _scatter(grad_cells, image, first, last, chosen, rois, offsets, scale, sampling_ratio, aligned, grad):
    """Gradient of the features from the RoIs `chosen`: writes rows first…last of one image of grad_cells."""
    _, height, width, channels = grad_cells.shape
    _, rows, columns, _ = grad.shape
    taps_y, weights_y = _axis(sampling_ratio, grad_cells.dtype)
    taps_x, weights_x = _axis(sampling_ratio, grad_cells.dtype)
    grad_cells[image, first:last] = 0
    for k in chosen:
        own_image, frame_y, frame_x = _frames(rois[k], grad_cells.shape, scale, aligned)
        if own_image != image or not _reaches(frame_y, offsets, k, first, last, height):
            continue
        for i in range(rows):
            for j in range(columns):
                dx, dy = _offset(offsets, k, i, j)
                _locate(taps_y, weights_y, frame_y, i, rows, dy, height)
                count_y = _merge(taps_y, weights_y, first, last)
                if count_y == 0:
                    continue
                _locate(taps_x, weights_x, frame_x, j, columns, dx, width)
                count_x = _merge(taps_x, weights_x, 0, width)
                out = grad[k, i, j]
                for y in range(count_y):
                    for x in range(count_x):
                        weight = weights_y[y] * weights_x[x]
                        into = grad_cells[image, taps_y[y], taps_x[x]]
                        for c in range(channels):
                            into[c] += weight * out[c]


@_compiled
def _measure(cells, chosen, rois, offsets, scale, sampling_ratio, aligned, grad, moments):
    """Moments of the gradient of the sample points of the RoIs `chosen`: writes their part of moments."""
    _, height, width, channels = cells.shape
    _, rows, columns, _ = grad.shape
    taps_y, weights_y = _axis(sampling_ratio, cells.dtype)
    taps_x, weights_x = _axis(sampling_ratio, cells.dtype)
    zero = cells.dtype.type(0)
    for k in chosen:
        image, frame_y, frame_x = _frames(rois[k], cells.shape, scale, aligned)
        if image < 0:
            continue
        for i in range(rows):
            for j in range(columns):
                dx, dy = _offset(offsets, k, i, j)
                _locate(taps_y, weights_y, frame_y, i, rows, dy, height)
                _locate(taps_x, weights_x, frame_x, j, columns, dx, width)
                out = grad[k, i, j]
                for a in range(sampling_ratio):
                    for b in range(sampling_ratio):
                        if _is_outside(weights_y, a) or _is_outside(weights_x, b):
                            continue  # its taps may name a cell with an infinite value
                        f00, f01 = (
                            cells[image, taps_y[2 * a], taps_x[2 * b]],
                            cells[image, taps_y[2 * a], taps_x[2 * b + 1]],
                        )
                        f10, f11 = (
                            cells[image, taps_y[2 * a + 1], taps_x[2 * b]],
                            cells[image, taps_y[2 * a + 1], taps_x[2 * b + 1]],
                        )
                        d00, d01, d10, d11 = zero, zero, zero, zero
                        for c in range(channels):
                            d00 += out[c] * f00[c]
                            d01 += out[c] * f01[c]
                            d10 += out[c] * f10[c]
                            d11 += out[c] * f11[c]
                        # A sample that was clamped to the border has both taps there, so its derivative is zero.
                        grad_x = ((d01 - d00) * weights_y[2 * a] + (d11 - d10) * weights_y[2 * a + 1]) / sampling_ratio
                        grad_y = ((d10 - d00) * weights_x[2 * b] + (d11 - d01) * weights_x[2 * b + 1]) / sampling_ratio
                        moments[k, i, j, 0] += grad_x
                        moments[k, i, j, 1] += grad_x * (j + (b + 0.5) / sampling_ratio) / columns
                        moments[k, i, j, 2] += grad_y
                        moments[k, i, j, 3] += grad_y * (i + (a + 0.5) / sampling_ratio) / rows


@partial(_compiled, arithmetic=_AS_WRITTEN)
def _frames(roi, shape, scale, aligned):
    """Image of a RoI (−1 if it does not exist); along y and x, its start, its size and its grid's size, in cells."""
    images, height, width, _ = shape
    image = int(roi[0]) if 0 <= roi[0] < images and height * width > 0 else -1
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = roi[1] * scale - shift, roi[2] * scale - shift, roi[3] * scale - shift, roi[4] * scale - shift
    w, h = x2 - x1, y2 - y1
    return image, (y1, h, h if aligned else max(h, 1.0)), (x1, w, w if aligned else max(w, 1.0))


@_compiled
def _offset(offsets, k, i, j):
    if len(offsets) == 0:
        return 0.0, 0.0
    return float(offsets[k, i, j, 0]), float(offsets[k, i, j, 1])


@_compiled
def _axis(sampling_ratio, dtype):
    """Empty arrays for the taps of a bin along one axis and their weights: two for each sample."""
    return np.empty(2 * sampling_ratio, np.intp), np.empty(2 * sampling_ratio, dtype)


@partial(_compiled, arithmetic=_AS_WRITTEN)
def _locate(taps, weights, frame, place, bins, offset, cells):
    """Bilinear taps of the samples of bin `place` of `bins` along one axis.

    Their weights include the division by the number of samples.
    """
    start, roi_size, grid_size = frame
    samples = len(taps) // 2
    for a in range(samples):
        point = start + (place + (a + 0.5) / samples) * (grid_size / bins) + offset * roi_size
        if not (-1 <= point <= cells):  # also when it is NaN
            low, high, low_weight, high_weight = 0, 0, 0.0, 0.0
        elif point < 0:
            low, high, low_weight, high_weight = 0, 0, 1.0, 0.0
        elif point >= cells - 1:
            low, high, low_weight, high_weight = cells - 1, cells - 1, 1.0, 0.0
        else:
            low = int(point)
            high, low_weight, high_weight = low + 1, 1 - (point - low), point - low
        taps[2 * a], taps[2 * a + 1] = low, high
        weights[2 * a], weights[2 * a + 1] = low_weight / samples, high_weight / samples


@_compiled
def _is_outside(weights, sample):
    return weights[2 * sample] + weights[2 * sample + 1] == 0


@_compiled
def _reaches(frame_y, offsets, k, first, last, height):
    """Whether RoI k may have a sample within one cell of the rows first…last; samples outside count as border rows."""
    start, roi_size, grid_size = frame_y
    low, high = 0.0, 0.0
    for dy in offsets[k : k + 1, :, :, 1].flat:  # none without offsets; a NaN changes nothing
        low, high = min(low, dy * roi_size), max(high, dy * roi_size)
    low, high = low + start + min(grid_size, 0.0), high + start + max(grid_size, 0.0)
    return (low <= last or last >= height) and (high >= first - 1 or first == 0)


@_compiled
def _merge(taps, weights, first, last):
    """Move the cells in first…last that have a weight to the front, merge equal ones, and count them."""
    count = 0
    for tap, weight in zip(taps, weights):
        if weight != 0 and first <= tap < last:
            place = 0
            while place < count and taps[place] != tap:
                place += 1
            if place < count:
                weights[place] += weight
            else:
                taps[count], weights[count] = tap, weight
                count += 1
    return count
