"""Precise RoI Pooling (Jiang et al., "Acquisition of Localization Confidence", ECCV 2018): no samples, an integral.

Every bin is ∫∫ f(x, y) dx dy / area over the bin, where f(x, y) = Σ_ij w_ij h(x − j) h(y − i) and h is the hat
function of bilinear interpolation, h(u) = max(0, 1 − |u|). The integral is separable: cell (i, j) weighs in with the
mean of its row's hat over the bin's height times the mean of its column's hat over the bin's width. A bin is thus a
weighted sum of as many cells as it covers, `embedding_bag` with ragged bags, and the gradient to the box is that of
the weights: ∂/∂x1 = pool / (x2 − x1) − ∫ f(x1, y) dy / area for a single bin.

f is a sum over the cells that exist, as in the publication: it fades to zero within one cell outside the map (where
RoIAlign repeats the border), and the area beyond counts as area of zeros.
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
    """Mean of the bilinear feature over every bin, exactly; differentiable in features and boxes.

    A RoI contributes zero, and gets zero gradient, if it is empty, inside out or not finite, or if its image index
    does not exist. Empty includes bins thinner than the geometry's machine epsilon (1.2e-7 cells in float32), which is
    the precision at which a bin's place within its cell is known. How many cells there are only the boxes know, so
    `torch.compile` breaks its graph here.

    Args:
        features: [N, C, H, W]; channels-last memory is used as it is, other layouts are copied once.
        rois: [K, 5] (image index, x1, y1, x2, y2), boxes in image pixels.
        output_size: bins per side, or (rows, columns).
        spatial_scale: feature cells per image pixel (1/stride).
        aligned: True is exact geometry, the centre of the first cell at coordinate 0.5 as in `deform_roi_align`;
            False is the publication's convention, the centre of the first cell at coordinate 0. Unlike RoIAlign's
            flag of this name it sets no smallest region.

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
    """As `precise_roi_pool`, each RoI from its level of a pyramid.

    Time and memory grow with the number of taps: the cells under each bin, summed over all bins.

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
    # Geometry in at least float32: half precision cannot name the cells of a large map.
    dtype = torch.promote_types(table.rows.dtype, torch.float32)
    image, boxes = rois[:, 0].detach(), rois[:, 1:].to(dtype)
    known = (levels >= 0) & (levels < len(table.scales))
    levels = torch.where(known, levels, 0)
    scale = table.scales[levels][:, None]
    start = boxes[:, :2] * scale - (0.5 if aligned else 0.0)  # [K, 2] (x, y)
    size = (boxes[:, 2:] - boxes[:, :2]) * scale
    side = torch.stack([size[:, 0] / columns, size[:, 1] / rows], dim=1)  # [K, 2] (w, h) of a bin
    sound = (torch.isfinite(start) & torch.isfinite(side) & (side > torch.finfo(dtype).eps)).all(dim=1)
    sound = sound & (image >= 0) & (image < table.images) & known  # False for NaN
    start = torch.where(sound[:, None], start, 0.0)
    side = torch.where(sound[:, None], side, 1.0)
    image = torch.where(sound, image, 0.0).long()

    width = table.widths[levels]
    x = _AxisBins.of(start[:, 0], side[:, 0], columns, width, sound)
    y = _AxisBins.of(start[:, 1], side[:, 1], rows, table.heights[levels], sound)
    taps = (y.counts[:, :, None] * x.counts[:, None, :]).flatten()  # [K · rows · columns]
    # The one wait for the device: three sizes that only the boxes know.
    x_total, y_total, total = torch.stack([x.counts.sum(), y.counts.sum(), taps.sum()]).tolist()
    if total == 0:
        # Still a function of its inputs: distributed training needs a gradient for every parameter.
        nothing = table.rows[:0].sum() + rois[:0].sum()
        return nothing.to(table.rows.dtype).expand(count, channels, rows, columns)

    x_cells, x_weights = x.weigh(x_total)
    y_cells, y_weights = y.weigh(y_total)
    first = table.starts[levels] + image * table.heights[levels] * width  # [K] first row of the RoI's map
    y_roi, _ = _deal(y.counts.sum(dim=1), y_total)
    y_rows = first[y_roi] + y_cells * width[y_roi]

    # Every tap pairs one entry of its bin's row with one entry of its bin's column.
    bins, place = _deal(taps, total)

    def of_bin(values: Tensor) -> Tensor:  # [K, rows or 1, columns or 1] → [total]
        return values.expand(-1, rows, columns).reshape(-1).index_select(0, bins)

    across = of_bin(x.counts[:, None, :])
    down = place // across
    x_entry = of_bin(x.first_entries()[:, None, :]) + place - down * across
    y_entry = of_bin(y.first_entries()[:, :, None]) + down
    index = y_rows.index_select(0, y_entry) + x_cells.index_select(0, x_entry)
    weight = y_weights.index_select(0, y_entry) * x_weights.index_select(0, x_entry)
    pooled = F.embedding_bag(
        index.int(),  # the backward sorts them, which is faster in 32 bits
        table.rows,
        (taps.cumsum(0) - taps).int(),
        per_sample_weights=weight.to(table.rows.dtype),
        mode="sum",
    )
    return pooled.view(count, rows, columns, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _AxisBins:
    """The bins of every RoI along one axis, and the cells whose hat reaches into them.

    A bin's cells follow one another, so the pairs (bin, cell), here called entries, are numbered bin by bin.
    """

    starts: Tensor  # [K, bins] in cells, the centre of cell 0 at 0
    side: Tensor  # [K] length of a bin in cells
    cells: Tensor  # [K, bins] int64, first cell of each bin
    counts: Tensor  # [K, bins] int64, number of cells of each bin

    @staticmethod
    def of(start: Tensor, side: Tensor, bins: int, size: Tensor, sound: Tensor) -> _AxisBins:
        """`bins` bins from `start` on; cells within [0, size), none for a RoI that is not `sound` (all [K])."""
        steps = torch.arange(bins, dtype=start.dtype, device=start.device)
        starts = start[:, None] + steps * side[:, None]
        low, high = starts.detach().floor(), (starts + side[:, None]).detach().ceil()
        # Clipped to the map before they become integers: a coordinate of 1e30 has no int64.
        limit = size[:, None].to(start.dtype)
        cells = torch.minimum(low.clamp(min=0), limit).long()
        counts = torch.minimum(high, limit - 1).clamp(min=-1).long() - cells + 1
        return _AxisBins(starts, side, cells, counts.clamp(min=0) * sound[:, None])

    def first_entries(self) -> Tensor:
        """[K, bins] number of each bin's first entry."""
        counts = self.counts.flatten()
        return (counts.cumsum(0) - counts).view_as(self.counts)

    def weigh(self, total: int) -> tuple[Tensor, Tensor]:
        """Cell (int64) and weight of each of the `total` entries; the weight is the mean of the cell's hat."""
        group, place = _deal(self.counts.flatten(), total)
        cells = self.cells.flatten().index_select(0, group) + place
        side = self.side[:, None].expand_as(self.starts).reshape(-1).index_select(0, group)
        # Relative to the cell's own centre: far from the origin, a difference of integrals from 0 would have no digits.
        low = self.starts.flatten().index_select(0, group) - cells
        return cells, (_hat_integral(low + side) - _hat_integral(low)) / side


def _hat_integral(u: Tensor) -> Tensor:
    """∫ max(0, 1 − |t|) dt from 0 to u; its derivative is right at the kinks of the hat, too."""
    u = u.clamp(-1, 1)
    return u - u * u.abs() / 2


def _deal(counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Deal 0 … total − 1 out to groups of `counts` [G] members: [total] each one's group, and its place there."""
    groups = torch.repeat_interleave(counts, output_size=total)
    starts = counts.cumsum(0) - counts
    return groups, torch.arange(total, device=counts.device) - starts.index_select(0, groups)
