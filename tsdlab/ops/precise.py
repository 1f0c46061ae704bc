"""Precise RoI Pooling (Jiang et al., "Acquisition of Localization Confidence", ECCV 2018): an integral, no samples.

Every bin is ∫∫ f(x, y) dx dy / area over the bin, where f(x, y) = Σ_ij w_ij h(x − j) h(y − i) and h is the hat
function of bilinear interpolation, h(u) = max(0, 1 − |u|). The integral is separable: the weight of cell (i, j) is the
mean of its row's hat over the bin's height times the mean of its column's hat over the bin's width. So a bin is a
weighted sum of all cells that it covers: an `embedding_bag` with bags of different sizes. The gradient to the box is
that of the weights: ∂/∂x1 = pool / (x2 − x1) − ∫ f(x1, y) dy / area for a single bin.

As in the publication, f is a sum over existing cells: it falls to zero within one cell outside the map (where RoIAlign
repeats the border), and area further outside counts as zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tsdlab.ops.bag import FeatureTable
from tsdlab.ops.checks import check_features, check_regions


def precise_roi_pool(
    features: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float, aligned: bool = True
) -> Tensor:
    """The exact mean of the bilinearly interpolated features over every bin; differentiable in features and boxes.

    The result and the gradient of a RoI are zero if it is empty, inside out or not finite, or if its image index does
    not exist. A RoI is also empty if its bins are thinner than the machine epsilon of its coordinates (1.2e-7 cells in
    float32): a position within a cell is not known more precisely. The number of cells depends on the values of the
    boxes, so `torch.compile` breaks its graph here.

    Args:
        features: [N, C, H, W]; they are copied once.
        rois: [K, 5] (image index, x1, y1, x2, y2), boxes in image pixels.
        output_size: bins per side, or (rows, columns).
        spatial_scale: feature cells per image pixel (1/stride).
        aligned: True puts the centre of the first cell at coordinate 0.5, as in `deform_roi_align`. False puts it at 0,
            the publication's convention. Unlike in RoIAlign, False does not enlarge small regions.

    Returns:
        [K, C, rows, columns] of the features' dtype, channels-last in memory.

    Raises:
        ValueError: a shape, dtype or argument does not fit; the message names it.
    """
    check_features([features])
    size = check_regions(features, rois, output_size, sampling_ratio=1, offsets=None)
    levels = torch.zeros(rois.shape[0], dtype=torch.long, device=rois.device)
    return pool(FeatureTable.of([features], [spatial_scale]), rois, levels, size, aligned)


def pool(
    table: FeatureTable, rois: Tensor, levels: Tensor, output_size: tuple[int, int], aligned: bool = True
) -> Tensor:
    """As `precise_roi_pool`, each RoI from its own level of a pyramid.

    Time and memory are proportional to the number of taps: the cells under each bin, summed over all bins.

    Args:
        table: the features.
        rois: [K, 5] (image, x1, y1, x2, y2) in image pixels.
        levels: [K] int64, the level each RoI is pooled from; a RoI of an unknown level contributes zero.
        output_size, aligned: as in `precise_roi_pool`.

    Returns:
        [K, C, rows, columns] of the table's dtype, channels-last in memory.
    """
    count, channels = len(rois), table.rows.shape[1]
    rows, columns = output_size
    # Coordinates need at least float32: half precision cannot hold the position of a cell in a large map.
    dtype = torch.promote_types(table.rows.dtype, torch.float32)
    image, boxes = rois[:, 0].detach(), rois[:, 1:].to(dtype)
    known = (levels >= 0) & (levels < len(table.scales))
    levels = torch.where(known, levels, 0)
    scale = table.scales[levels][:, None]
    start = boxes[:, :2] * scale - (0.5 if aligned else 0.0)  # [K, 2] (x, y)
    size = (boxes[:, 2:] - boxes[:, :2]) * scale
    side = torch.stack([size[:, 0] / columns, size[:, 1] / rows], dim=1)  # [K, 2] (w, h) of a bin
    valid = (torch.isfinite(start) & torch.isfinite(side) & (side > torch.finfo(dtype).eps)).all(dim=1)
    valid = valid & (image >= 0) & (image < table.images) & known  # False for NaN
    start = torch.where(valid[:, None], start, 0.0)
    side = torch.where(valid[:, None], side, 1.0)
    image = torch.where(valid, image, 0.0).long()

    width = table.widths[levels]
    x = _AxisBins.of(start[:, 0], side[:, 0], columns, width, valid)
    y = _AxisBins.of(start[:, 1], side[:, 1], rows, table.heights[levels], valid)
    taps = (y.counts[:, :, None] * x.counts[:, None, :]).flatten()  # [K · rows · columns]
    # The only wait for the device: three sizes that depend on the values of the boxes.
    x_total, y_total, total = torch.stack([x.counts.sum(), y.counts.sum(), taps.sum()]).tolist()
    if total == 0:
        # The result must depend on the inputs: distributed training needs a gradient for every parameter.
        nothing = table.rows[:0].sum() + rois[:0].sum()
        return nothing.to(table.rows.dtype).expand(count, channels, rows, columns)

    x_cells, x_weights = x.weigh(x_total)
    y_cells, y_weights = y.weigh(y_total)
    first = table.starts[levels] + image * table.heights[levels] * width  # [K] first row of the RoI's map
    y_roi, _ = _assign_entries(y.counts.sum(dim=1), y_total)
    y_rows = first[y_roi] + y_cells * width[y_roi]

    # Every tap pairs one entry of its bin's row with one entry of its bin's column.
    bins, place = _assign_entries(taps, total)

    def of_bin(values: Tensor) -> Tensor:  # [K, rows or 1, columns or 1] → [total]
        return values.expand(-1, rows, columns).reshape(-1).index_select(0, bins)

    across = of_bin(x.counts[:, None, :])
    down = place // across
    x_entry = of_bin(x.first_entries()[:, None, :]) + place - down * across
    y_entry = of_bin(y.first_entries()[:, :, None]) + down
    index = y_rows.index_select(0, y_entry) + x_cells.index_select(0, x_entry)
    weight = y_weights.index_select(0, y_entry) * x_weights.index_select(0, x_entry)
    pooled = F.embedding_bag(
        index.int(),  # the backward pass sorts them, which is faster with 32 bits
        table.rows,
        (taps.cumsum(0) - taps).int(),
        per_sample_weights=weight.to(table.rows.dtype),
        mode="sum",
    )
    return pooled.view(count, rows, columns, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _AxisBins:
    """The bins of every RoI along one axis, and the cells whose hat reaches into them.

    An entry is a pair of a bin and one of its cells. Entries are numbered bin by bin; the cells of a bin are
    consecutive.
    """

    starts: Tensor  # [K, bins] in cells, the centre of cell 0 at 0
    side: Tensor  # [K] length of a bin in cells
    cells: Tensor  # [K, bins] int64, first cell of each bin
    counts: Tensor  # [K, bins] int64, number of cells of each bin

    @staticmethod
    def of(start: Tensor, side: Tensor, bins: int, size: Tensor, valid: Tensor) -> _AxisBins:
        """`bins` bins of length `side` from `start` on, with their cells in [0, size); RoIs not `valid` have no cells.

        All arguments but `bins` are [K].
        """
        steps = torch.arange(bins, dtype=start.dtype, device=start.device)
        starts = start[:, None] + steps * side[:, None]
        low, high = starts.detach().floor(), (starts + side[:, None]).detach().ceil()
        # Clip to the map before converting to integers: a coordinate of 1e30 does not fit in int64.
        limit = size[:, None].to(start.dtype)
        cells = torch.minimum(low.clamp(min=0), limit).long()
        counts = torch.minimum(high, limit - 1).clamp(min=-1).long() - cells + 1
        return _AxisBins(starts, side, cells, counts.clamp(min=0) * valid[:, None])

    def first_entries(self) -> Tensor:
        """The number of each bin's first entry [K, bins]."""
        counts = self.counts.flatten()
        return (counts.cumsum(0) - counts).view_as(self.counts)

    def weigh(self, total: int) -> tuple[Tensor, Tensor]:
        """Cell (int64) and weight of each of the `total` entries. The weight is the mean of the cell's hat."""
        group, place = _assign_entries(self.counts.flatten(), total)
        cells = self.cells.flatten().index_select(0, group) + place
        side = self.side[:, None].expand_as(self.starts).reshape(-1).index_select(0, group)
        # Relative to the cell's centre: far from the origin, the difference of two integrals from 0 loses its digits.
        low = self.starts.flatten().index_select(0, group) - cells
        return cells, (_hat_integral(low + side) - _hat_integral(low)) / side


def _hat_integral(u: Tensor) -> Tensor:
    """∫ max(0, 1 − |t|) dt from 0 to u. Its derivative is also correct at the kinks of the hat."""
    u = u.clamp(-1, 1)
    return u - u * u.abs() / 2


def _assign_entries(counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """The group of each of `total` entries, and its index within the group (both [total]); sizes are `counts` [G]."""
    groups = torch.repeat_interleave(counts, output_size=total)
    starts = counts.cumsum(0) - counts
    return groups, torch.arange(total, device=counts.device) - starts.index_select(0, groups)
