"""Region pooling as one `embedding_bag`: runs on any device, without compiled code of our own.

A feature pyramid in channels-last order is a table with one row of channels per cell. Each output bin is a weighted
sum of a few rows (4 taps for each of s² samples). That is what `embedding_bag` computes, with gradients to the table
and to the weights. Autograd continues from the weights to offsets and regions.

The table ends with one row that is no cell. Samples outside the map read this row, and `embedding_bag` leaves it out of
its sums. (With any other row, a weight of zero would not help: zero times an infinite cell is NaN.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tsdlab.ops.sampling import axis_taps, sample_points


@dataclass(frozen=True)
class FeatureTable:
    """All cells of a pyramid as the rows of one table. It is made once, and all poolings of the pyramid share it."""

    rows: Tensor  # [R + 1, C]; level after level, image after image, row-major; the last row is no cell
    images: int
    starts: Tensor  # [L] first row of each level
    heights: Tensor  # [L] int64
    widths: Tensor  # [L] int64
    scales: Tensor  # [L] feature cells per image pixel

    @staticmethod
    def of(features: Sequence[Tensor], scales: Sequence[float]) -> FeatureTable:
        """The table of `features` (each [N, C, H, W])."""
        images, channels = features[0].shape[:2]
        device = features[0].device
        counts = [images * f.shape[2] * f.shape[3] for f in features]
        flat = [f.permute(0, 2, 3, 1).reshape(count, channels) for f, count in zip(features, counts)]
        return FeatureTable(
            rows=torch.cat([*flat, features[0].new_zeros(1, channels)]),
            images=images,
            starts=torch.tensor([0, *counts[:-1]]).cumsum(0).to(device),
            heights=torch.tensor([f.shape[2] for f in features], device=device),
            widths=torch.tensor([f.shape[3] for f in features], device=device),
            scales=torch.tensor(scales, dtype=torch.promote_types(features[0].dtype, torch.float32), device=device),
        )

    @cached_property
    def summed(self) -> Tensor:
        """The rows in the type that sums are made in: at least float32, so that half precision is rounded once."""
        return self.rows.to(torch.promote_types(self.rows.dtype, torch.float32))


def pool(
    table: FeatureTable,
    rois: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    offsets: Tensor | None,
) -> Tensor:
    """The mean of the bilinear samples of every bin.

    Args:
        table: the features.
        rois: [K, 5] (image, x1, y1, x2, y2) in image pixels.
        levels: [K] int64, the level each RoI is pooled from.
        output_size, sampling_ratio, aligned, offsets: as in `sample_points`.

    Returns:
        [K, C, rows, columns] of the table's dtype, channels-last in memory.
    """
    count, channels = len(rois), table.rows.shape[1]
    rows, columns = output_size
    if count == 0 or channels == 0:
        # The result must depend on the inputs: distributed training needs a gradient for every parameter.
        nothing = table.rows[:0].sum() + rois[:0].sum() + (0 if offsets is None else offsets[:0].sum())
        nothing = nothing.to(table.rows.dtype)
        return nothing.expand(count, channels, rows, columns)

    # As the compiled loops do: in float32, a place a million pixels away is known to a sixteenth of a pixel only.
    dtype = torch.float32 if rois.device.type == "mps" else torch.float64  # which MPS does not have
    rois = rois.to(dtype)
    known = (levels >= 0) & (levels < len(table.scales))
    levels = torch.where(known, levels, 0)
    scale = table.scales[levels].to(dtype)
    image, boxes = rois[:, 0].detach(), rois[:, 1:]
    size = (boxes[:, 2:] - boxes[:, :2]) * scale[:, None]  # may overflow
    valid = torch.isfinite(rois).all(dim=1) & torch.isfinite(size).all(dim=1)
    valid = valid & (image >= 0) & (image < table.images) & known
    boxes = torch.where(valid[:, None], boxes, 0.0)
    image = torch.where(valid, image, 0.0).long()
    # For a RoI that is not valid the map has no cells, and therefore no taps.
    height = torch.where(valid, table.heights[levels], 0).view(-1, 1, 1, 1)
    width = torch.where(valid, table.widths[levels], 0).view(-1, 1, 1, 1)
    if offsets is not None:
        finite = torch.isfinite(offsets).all(dim=-1)[..., None]  # [K, rows, columns, 1]
        offsets = torch.where(finite, offsets.to(dtype), 0.0)

    ys, xs = sample_points(boxes, scale, output_size, sampling_ratio, aligned, offsets)
    if offsets is not None:
        xs = torch.where(finite, xs, torch.nan)
    y_cells, y_weights = axis_taps(ys, height)  # [K, rows, 1 or columns, s, 2]
    x_cells, x_weights = axis_taps(xs, width)  # [K, 1 or rows, columns, s, 2]

    taps = 4 * sampling_ratio**2
    y, x = y_cells.flatten(3)[..., :, None], x_cells.flatten(3)[..., None, :]
    first = table.starts[levels].view(-1, 1, 1, 1) + image.view(-1, 1, 1, 1) * height * width
    index = first[..., None] + y * width[..., None] + x  # [K, rows, columns, 2s, 2s]
    no_cell = len(table.rows) - 1
    index = torch.where((y == -1) | (x == -1), no_cell, index)
    weight = y_weights.flatten(3)[..., :, None] * x_weights.flatten(3)[..., None, :] / sampling_ratio**2
    pooled = F.embedding_bag(
        index.reshape(-1, taps).int(),  # the backward pass sorts them, which is faster with 32 bits
        table.summed,
        per_sample_weights=weight.reshape(-1, taps).to(table.summed.dtype),
        mode="sum",
        padding_idx=no_cell,
    )
    pooled = pooled.to(table.rows.dtype)
    return pooled.view(count, rows, columns, channels).permute(0, 3, 1, 2)
