"""Where a region is sampled: sample points from regions and offsets, bilinear taps from sample points.

The samples of a bin form a grid, so their rows and columns are computed separately. Without offsets, all bins in a row
share their y coordinates, and all bins in a column their x coordinates; broadcasting avoids copies of them.

Conventions are torchvision's. A RoI is (image, x1, y1, x2, y2) in image pixels. `aligned=True` puts the centre of the
first feature cell at coordinate 0.5, a shift of half a cell. `aligned=False` is the older convention without the shift,
in which the sample grid of a region is never smaller than one cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sample_points(
    rois: Tensor,
    spatial_scale: float | Tensor,
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample coordinates of every bin, in feature cells.

    Args:
        rois: [K, 4] boxes (x1, y1, x2, y2) in image pixels.
        spatial_scale: feature cells per image pixel; one number, or one per RoI [K].
        output_size: (rows, columns) of bins.
        sampling_ratio: samples per bin and side, s.
        aligned: torchvision's flag of the same name.
        offsets: [K, rows, columns, 2] (dx, dy) in fractions of the RoI's width and height, or None.

    Returns:
        ys [K, rows, 1 or columns, s] and xs [K, 1 or rows, columns, s]; it is 1 without offsets.
    """
    rows, columns = output_size
    scale = torch.as_tensor(spatial_scale, dtype=rois.dtype, device=rois.device).reshape(-1, 1)
    x1, y1, x2, y2 = (rois * scale - (0.5 if aligned else 0.0)).unbind(1)
    ys = _axis_points(y1, y2, rows, sampling_ratio, aligned)[:, :, None, :]  # [K, rows, 1, s]
    xs = _axis_points(x1, x2, columns, sampling_ratio, aligned)[:, None, :, :]  # [K, 1, columns, s]
    if offsets is not None:
        offsets = offsets.to(rois.dtype)
        ys = ys + (offsets[..., 1] * (y2 - y1)[:, None, None]).unsqueeze(-1)  # [K, rows, columns, s]
        xs = xs + (offsets[..., 0] * (x2 - x1)[:, None, None]).unsqueeze(-1)
    return ys, xs


def _axis_points(start: Tensor, end: Tensor, bins: int, samples: int, aligned: bool) -> Tensor:
    """Coordinates [K, bins, samples] of samples spread evenly over each of `bins` equal parts of [start, end]."""
    length = end - start if aligned else (end - start).clamp(min=1.0)
    # In this order in every backend: the slope jumps at a cell's centre, where one bit decides between two answers.
    bin_starts = torch.arange(bins, dtype=start.dtype, device=start.device)
    within = (torch.arange(samples, dtype=start.dtype, device=start.device) + 0.5) / samples
    places = bin_starts[:, None] + within  # [bins, samples]
    return start[:, None, None] + places * (length / bins)[:, None, None]


def axis_taps(points: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation along one axis: two cells and their weights for every coordinate.

    As in torchvision, a coordinate at most one cell outside [0, size − 1] takes the value of the border. A coordinate
    further outside, or not finite, has no cells: both are −1, with weight zero.

    Args:
        points: [K, ...] coordinates in cells.
        size: [K, 1, ...] int64, number of cells along this axis, 0 or more; it broadcasts to `points`.

    Returns:
        cells [..., 2] int64 and weights [..., 2] of the points' dtype. The weights are differentiable in `points`.
    """
    inside = (points >= -1) & (points <= size) & (size > 0)  # False for NaN
    # At 0 the gradient is that of the right-hand side, as in the compiled kernels. A clamp's would be zero.
    points = torch.where(inside & (points >= 0), points, 0.0)
    last = (size - 1).clamp(min=0)
    points = torch.minimum(points, last.to(points.dtype))
    low = points.detach().floor().long().clamp(max=last)
    fraction = points - low
    keep = inside.to(points.dtype)
    cells = torch.stack([low, (low + 1).clamp(max=last)], dim=-1)
    cells = torch.where(inside[..., None], cells, -1)
    weights = torch.stack([(1 - fraction) * keep, fraction * keep], dim=-1)
    return cells, weights


def regions_backward(
    moments: Tensor, rois: Tensor, levels: Tensor, offsets: Tensor | None, scales: Sequence[float], aligned: bool
) -> tuple[Tensor, Tensor | None]:
    """The backward pass of `sample_points`: from the gradient of sample points to that of RoIs and offsets.

    Args:
        moments: [K, rows, columns, 4] as `fused.pool_regions_backward` returns them.
        rois, levels, offsets, scales, aligned: as given to the pooling.

    Returns:
        Gradients of rois [K, 5] (zero for the image index) and of offsets (None without offsets).
    """
    known = (levels >= 0) & (levels < len(scales))
    scale = torch.tensor(scales, dtype=rois.dtype, device=rois.device)[torch.where(known, levels, 0)][:, None]
    size = (rois[:, 3:5] - rois[:, 1:3]) * scale  # [K, 2] (w, h) in cells
    size = torch.where(torch.isfinite(size), size, 0.0)  # the moments of a non-finite RoI are zero
    shift, stretch = moments[..., 0::2], moments[..., 1::2]  # [K, rows, columns, 2] (x, y)
    by_size = stretch.sum(dim=(1, 2))
    if not aligned:
        by_size = torch.where(size >= 1, by_size, 0.0)  # the grid of a smaller region stays one cell wide
    offset_grad = None
    if offsets is not None:
        offset_grad = shift * size[:, None, None, :]
        by_size = by_size + (shift * torch.where(torch.isfinite(offsets), offsets, 0.0)).sum(dim=(1, 2))
    by_start = shift.sum(dim=(1, 2)) - by_size  # a larger x1 moves every sample and makes the region smaller
    return torch.cat([torch.zeros_like(rois[:, :1]), by_start * scale, by_size * scale], dim=1), offset_grad


def bin_centres(boxes: Tensor, offsets: Tensor | None = None, bins: int = 7) -> Tensor:
    """Centres [K, bins, bins, 2] (x, y) of the bins of boxes [K, 4], moved by offsets [K, bins, bins, 2] if given.

    Offsets are fractions of the box's width and height. With TSD's offsets the result is P̂c.
    """
    if offsets is not None:
        bins = offsets.shape[1]
    ys, xs = sample_points(boxes, 1.0, (bins, bins), 1, aligned=True, offsets=offsets)
    ys, xs = torch.broadcast_tensors(ys[..., 0] + 0.5, xs[..., 0] + 0.5)  # undo aligned's half-cell shift
    return torch.stack([xs, ys], dim=-1)
