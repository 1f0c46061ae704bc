"""Deformable RoIAlign: the public ops, which check their inputs and hand them to a backend.

Without offsets this is RoIAlign (He et al., 2017) as torchvision computes it; with offsets it is the deformable RoI
pooling that TSD classifies from (Song et al., CVPR 2020, Eq. 6) in RoIAlign's continuous coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from tsdlab.ops import bag

Backend = Literal["bag"]


def deform_roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
    offsets: Tensor | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """RoIAlign whose bins may be moved; differentiable in features, rois and offsets.

    A sample outside the image (by more than one cell) or at a non-finite place contributes zero, and so does a RoI
    whose image index does not exist.

    Args:
        features: [N, C, H, W]; channels-last memory is used as it is, other layouts are copied once.
        rois: [K, 5] (image index, x1, y1, x2, y2), boxes in image pixels.
        output_size: bins per side, or (rows, columns).
        spatial_scale: feature cells per image pixel (1/stride).
        sampling_ratio: samples per bin and side, ≥ 1.
        aligned: True is exact; False is the convention of torchvision's own detectors and their weights.
        offsets: [K, rows, columns, 2] (dx, dy), fractions of the RoI's width and height.
        backend: None picks one for the device; "bag" runs on any device.

    Returns:
        [K, C, rows, columns] of the features' dtype.

    Raises:
        ValueError: a shape, dtype or argument does not fit; the message names it.
    """
    _check_features([features])
    size = _check_regions(features, rois, output_size, sampling_ratio, offsets)
    _check_backend(backend)
    table = bag.FeatureTable.of([features], [spatial_scale])
    levels = torch.zeros(len(rois), dtype=torch.long, device=rois.device)
    return bag.pool(table, rois, levels, size, sampling_ratio, aligned, offsets)


class MultiScaleDeformRoIAlign(nn.Module):
    """`deform_roi_align` over a feature pyramid: every RoI is pooled from the level its size belongs to.

    Args:
        strides: image pixels per feature cell, one per level, finest first, each twice the one before.
        output_size: bins per side.
        sampling_ratio, aligned: as in `deform_roi_align`.
        canonical_size: a region of this side (pixels) belongs to the level of stride 16 (Lin et al. 2017, Eq. 1).
    """

    def __init__(
        self,
        strides: Sequence[int],
        output_size: int = 7,
        sampling_ratio: int = 2,
        aligned: bool = True,
        canonical_size: int = 224,
    ) -> None:
        super().__init__()
        if not strides or any(b != 2 * a for a, b in pairwise(strides)):
            raise ValueError(f"strides must double from level to level, finest first; got {tuple(strides)}")
        self.strides = tuple(strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.canonical_size = canonical_size

    def assign_levels(self, boxes: Tensor) -> Tensor:
        """[K] int64 index into `strides` for boxes [K, 4] (xyxy, pixels), by √area (Lin et al. 2017, Eq. 1)."""
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
        # 1e-6 as torchvision's LevelMapper, so that a box of exactly the canonical size falls on the same side.
        level = torch.floor(4 + torch.log2(side / self.canonical_size) + 1e-6)
        finest = math.log2(self.strides[0])
        return (level - finest).nan_to_num(0.0).clamp(0, len(self.strides) - 1).long()

    def forward(self, features: Sequence[Tensor]) -> RegionPooler:
        """Prepare a pyramid (one [N, C, H, W] per stride) for any number of poolings."""
        if len(features) != len(self.strides):
            raise ValueError(f"{len(features)} feature maps given for {len(self.strides)} strides {self.strides}")
        _check_features(features)
        return RegionPooler(self, bag.FeatureTable.of(features, [1 / s for s in self.strides]))

    def extra_repr(self) -> str:
        return (
            f"strides={self.strides}, output_size={self.output_size}, sampling_ratio={self.sampling_ratio}, "
            f"aligned={self.aligned}, canonical_size={self.canonical_size}"
        )


@dataclass(frozen=True)
class RegionPooler:
    """A pyramid ready to be pooled from, as often as a head likes."""

    scheme: MultiScaleDeformRoIAlign
    table: bag.FeatureTable

    def assign_levels(self, rois: Tensor) -> Tensor:
        """[K] level of each of rois [K, 5]."""
        return self.scheme.assign_levels(rois[:, 1:])

    def __call__(self, rois: Tensor, levels: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        """Pool rois [K, 5] → [K, C, bins, bins].

        Args:
            rois: [K, 5] (image index, x1, y1, x2, y2) in image pixels.
            levels: [K] level of each RoI; None assigns by size. A region derived from a proposal is pooled from
                the proposal's level, so TSD passes it.
            offsets: [K, bins, bins, 2] (dx, dy), fractions of each RoI's size.
        """
        scheme = self.scheme
        size = _check_regions(self.table.rows, rois, scheme.output_size, scheme.sampling_ratio, offsets)
        if levels is None:
            levels = self.assign_levels(rois)
        elif levels.shape != rois.shape[:1]:
            raise ValueError(f"levels must be [{len(rois)}] for rois {tuple(rois.shape)}, got {tuple(levels.shape)}")
        return bag.pool(self.table, rois, levels, size, scheme.sampling_ratio, scheme.aligned, offsets)


def _check_features(features: Sequence[Tensor]) -> None:
    for f in features:
        if f.dim() != 4:
            raise ValueError(f"features must be [N, C, H, W], got {tuple(f.shape)}")
        if not f.is_floating_point():
            raise ValueError(f"features must be floating point, got {f.dtype}")
    if len({f.shape[:2] for f in features}) > 1:
        raise ValueError(f"feature maps differ in images or channels: {[tuple(f.shape) for f in features]}")


def _check_regions(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    sampling_ratio: int,
    offsets: Tensor | None,
) -> tuple[int, int]:
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"output_size must be a positive int or (rows, columns), got {output_size}")
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio must be at least 1, got {sampling_ratio}; adaptive sampling is not offered")
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(f"rois must be [K, 5] (image index, x1, y1, x2, y2), got {tuple(rois.shape)}")
    if offsets is not None and offsets.shape != (len(rois), *size, 2):
        raise ValueError(
            f"offsets must be [{len(rois)}, {size[0]}, {size[1]}, 2] for rois {tuple(rois.shape)}, "
            f"got {tuple(offsets.shape)}"
        )
    for name, tensor in (("rois", rois), ("offsets", offsets)):
        if tensor is not None and tensor.device != features.device:
            raise ValueError(f"{name} are on {tensor.device} but features on {features.device}")
    return size


def _check_backend(backend: str | None) -> None:
    if backend not in (None, "bag"):
        raise ValueError(f'unknown backend {backend!r}; use None or "bag"')
