"""Region pooling as one `embedding_bag`: runs on any device, without compiled code of our own.

A feature pyramid in channels-last order is a table with one row of channels per cell. Each output bin is a weighted
sum of a few rows (4 taps for each of s² samples). That is what `embedding_bag` computes, with gradients to the table
and to the weights. Autograd continues from the weights to offsets and regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tsdlab.ops.sampling import axis_taps, sample_points


@dataclass(frozen=True)
class FeatureTable:
    """All cells of a pyramid as the rows of one table. It is made once, and all poolings of the pyramid share it."""

    rows: Tensor  # [R, C]; level after level, image after image, row-major
    images: int
    starts: Tensor  # [L] first row of each level
    heights: Tensor  # [L] int64
    widths: Tensor  # [L] int64
    scales: Tensor  # [L] feature cells per image pixel

    @staticmethod
    def of(features: Sequence[Tensor], scales: Sequence[float]) -> FeatureTable:
        """The table of `features` (each [N, C, H, W]). A single level in channels-last memory is not copied."""
        flat = [f.permute(0, 2, 3, 1).reshape(-1, f.shape[1]) for f in features]
        device = features[0].device
        counts = torch.tensor([0] + [len(f) for f in flat[:-1]])
        return FeatureTable(
            rows=flat[0] if len(flat) == 1 else torch.cat(flat),
            images=features[0].shape[0],
            starts=counts.cumsum(0).to(device),
            heights=torch.tensor([f.shape[2] for f in features], device=device),
            widths=torch.tensor([f.shape[3] for f in features], device=device),
            scales=torch.tensor(scales, dtype=torch.promote_types(features[0].dtype, torch.float32), device=device),
        )


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
    if count == 0 or len(table.rows) == 0:
        # The result must depend on the inputs: distributed training needs a gradient for every parameter.
        nothing = table.rows[:0].sum() + rois[:0].sum() + (0 if offsets is None else offsets[:0].sum())
        nothing = nothing.to(table.rows.dtype)
        return nothing.expand(count, channels, rows, columns)

    # Coordinates need at least float32: half precision cannot hold the position of a cell in a large map.
    dtype = torch.promote_types(table.rows.dtype, torch.float32)
    rois = rois.to(dtype)
    image, boxes = rois[:, 0].detach(), rois[:, 1:]
    known = (levels >= 0) & (levels < len(table.scales))
    levels = torch.where(known, levels, 0)
    valid = torch.isfinite(rois).all(dim=1) & (image >= 0) & (image < table.images) & known
    boxes = torch.where(valid[:, None], boxes, 0.0)
    image = torch.where(valid, image, 0.0).long()
    if offsets is not None:
        finite = torch.isfinite(offsets).all(dim=-1)  # [K, rows, columns]
        offsets = torch.where(finite[..., None], offsets, 0.0)

    height = table.heights[levels].view(-1, 1, 1, 1)
    width = table.widths[levels].view(-1, 1, 1, 1)
    ys, xs = sample_points(boxes, table.scales[levels], output_size, sampling_ratio, aligned, offsets)
    y_cells, y_weights = axis_taps(ys, height)  # [K, rows, 1 or columns, s, 2]
    x_cells, x_weights = axis_taps(xs, width)  # [K, 1 or rows, columns, s, 2]
    y_weights = y_weights * (valid.to(dtype) / sampling_ratio**2).view(-1, 1, 1, 1, 1)
    if offsets is not None:
        x_weights = x_weights * finite[..., None, None]

    taps = 4 * sampling_ratio**2
    first = (table.starts[levels] + image * table.heights[levels] * table.widths[levels]).view(-1, 1, 1, 1)
    y_rows = first + y_cells.flatten(3) * width  # [K, rows, ·, 2s]
    index = y_rows[..., :, None] + x_cells.flatten(3)[..., None, :]  # [K, rows, columns, 2s, 2s]
    weight = y_weights.flatten(3)[..., :, None] * x_weights.flatten(3)[..., None, :]
    pooled = F.embedding_bag(
        index.reshape(-1, taps).int(),  # the backward pass sorts them, which is faster with 32 bits
        table.rows,
        per_sample_weights=weight.reshape(-1, taps).to(table.rows.dtype),
        mode="sum",
    )
    return pooled.view(count, rows, columns, channels).permute(0, 3, 1, 2)
