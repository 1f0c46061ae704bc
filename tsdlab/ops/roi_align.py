"""Deformable RoIAlign: the public ops, which check their inputs and call a backend.

Without offsets this is RoIAlign (He et al., 2017) as torchvision computes it. With offsets it is the deformable RoI
pooling of TSD's classification (Song et al., CVPR 2020, Eq. 6), in RoIAlign's continuous coordinates.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from tsdlab.errors import InputError
from tsdlab.ops import bag, fused
from tsdlab.ops.checks import check_features, check_regions

Backend = Literal["numba", "triton", "bag"]

# The compiled backend of each type of device, if its package is installed; "bag" needs no package.
_COMPILED = {
    device: package for device, package in (("cpu", "numba"), ("cuda", "triton")) if importlib.util.find_spec(package)
}


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

    A sample more than one cell outside the feature map, or at a non-finite position, contributes zero. So does a RoI
    whose image index does not exist.

    Args:
        features: [N, C, H, W]; compiled backends use channels-last memory without a copy. Otherwise it is copied once.
        rois: [K, 5] (image index, x1, y1, x2, y2), boxes in image pixels.
        output_size: bins per side, or (rows, columns).
        spatial_scale: feature cells per image pixel (1/stride).
        sampling_ratio: samples per bin and side, ≥ 1.
        aligned: True is exact. False is the convention of torchvision's own detectors, which their weights need.
        offsets: [K, rows, columns, 2] (dx, dy), fractions of the RoI's width and height.
        backend: None takes the fastest: "numba" on a CPU, "triton" on CUDA. "bag" runs on any device. None takes it if
            there is no other, and on CUDA under `torch.use_deterministic_algorithms(True)`.

    Returns:
        [K, C, rows, columns] of the features' dtype.

    Raises:
        ValueError: a shape, dtype or argument does not fit; the message names it.
    """
    check_features([features])
    size = check_regions(features, rois, output_size, sampling_ratio, offsets)
    levels = torch.zeros(rois.shape[0], dtype=torch.long, device=rois.device)
    return Pyramid.of([features], [spatial_scale]).pool(rois, levels, size, sampling_ratio, aligned, offsets, backend)


@dataclass(frozen=True)
class Pyramid:
    """Feature maps, prepared for any number of poolings."""

    maps: tuple[Tensor, ...]  # one [N, C, H, W] per level, channels-last
    scales: tuple[float, ...]  # feature cells per image pixel, one per level

    @staticmethod
    def of(features: Sequence[Tensor], scales: Sequence[float]) -> Pyramid:
        """Channels-last features are used without a copy, others are copied."""
        return Pyramid(tuple(f.contiguous(memory_format=torch.channels_last) for f in features), tuple(scales))

    @cached_property
    def table(self) -> bag.FeatureTable:
        return bag.FeatureTable.of(self.maps, self.scales)

    def pool(
        self,
        rois: Tensor,
        levels: Tensor,
        output_size: tuple[int, int],
        sampling_ratio: int,
        aligned: bool,
        offsets: Tensor | None = None,
        backend: Backend | None = None,
    ) -> Tensor:
        """As `deform_roi_align`, each RoI from its own level (levels [K] int64)."""
        if _choose_backend(self.maps[0], backend) == "bag":
            return bag.pool(self.table, rois, levels, output_size, sampling_ratio, aligned, offsets)
        # Coordinates need at least float32: half precision cannot hold the position of a cell in a large map.
        dtype = torch.promote_types(self.maps[0].dtype, torch.float32)
        offsets = None if offsets is None else offsets.to(dtype)
        maps, scales = list(self.maps), list(self.scales)
        return fused.pool_regions(maps, rois.to(dtype), levels, offsets, scales, output_size, sampling_ratio, aligned)


class MultiScaleDeformRoIAlign(nn.Module):
    """`deform_roi_align` on a feature pyramid: the size of a RoI decides which level it is pooled from.

    Call it with the pyramid; it returns a `RegionPooler`, which is called with regions.

    Args:
        strides: image pixels per feature cell, one per level, finest first; each is twice the one before.
        output_size: bins per side.
        sampling_ratio, aligned: as in `deform_roi_align`.
        canonical_size: side (pixels) of the regions that are pooled at stride 16 (Lin et al. 2017, Eq. 1).
        backend: as in `deform_roi_align`.
    """

    def __init__(
        self,
        strides: Sequence[int],
        output_size: int = 7,
        sampling_ratio: int = 2,
        aligned: bool = True,
        canonical_size: int = 224,
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        if min(output_size, sampling_ratio, canonical_size) < 1:
            raise InputError(
                "output_size, sampling_ratio and canonical_size must be at least 1; "
                f"got {output_size}, {sampling_ratio}, {canonical_size}"
            )
        if not strides or min(strides) < 1 or any(b != 2 * a for a, b in pairwise(strides)):
            raise InputError(f"strides must double from level to level, finest first; got {tuple(strides)}")
        self.strides = tuple(strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.canonical_size = canonical_size
        self.backend = backend

    def assign_levels(self, boxes: Tensor) -> Tensor:
        """[K] int64 index into `strides` for boxes [K, 4] (xyxy, pixels), by √area (Lin et al. 2017, Eq. 1)."""
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
        # 1e-6 as in torchvision's LevelMapper: a box of exactly the canonical size gets the same level as there.
        level = torch.floor(4 + torch.log2(side / self.canonical_size) + 1e-6)
        finest = math.log2(self.strides[0])
        return (level - finest).nan_to_num(0.0).clamp(0, len(self.strides) - 1).long()

    def forward(self, features: Sequence[Tensor]) -> RegionPooler:
        """Prepare a pyramid (one [N, C, H, W] per stride) for any number of poolings."""
        if len(features) != len(self.strides):
            raise InputError(f"{len(features)} feature maps given for {len(self.strides)} strides {self.strides}")
        check_features(features)
        return RegionPooler(self, Pyramid.of(features, [1 / s for s in self.strides]))

    def extra_repr(self) -> str:
        return (
            f"strides={self.strides}, output_size={self.output_size}, sampling_ratio={self.sampling_ratio}, "
            f"aligned={self.aligned}, canonical_size={self.canonical_size}"
        )


@dataclass(repr=False)  # not frozen: torch.compile of torch 2.9 cannot build a frozen one
class RegionPooler:
    """What a head pools regions with: a pyramid, and the settings of the pooling."""

    scheme: MultiScaleDeformRoIAlign
    pyramid: Pyramid
    levels: Tensor | None = None  # [K] int64, the level of each RoI; None assigns levels by size

    def assign_levels(self, rois: Tensor) -> Tensor:
        """[K] int64, the level of each of rois [K, 5]."""
        if self.levels is None:
            return self.scheme.assign_levels(rois[:, 1:])
        if self.levels.shape != rois.shape[:1]:
            raise InputError(f"this pooler has levels for {len(self.levels)} RoIs, got {len(rois)} RoIs")
        return self.levels

    def from_levels(self, levels: Tensor) -> RegionPooler:
        """A pooler of the same features for K RoIs, each from its given level [K] (int64) instead of by its size."""
        return replace(self, levels=levels)

    def __call__(self, rois: Tensor, levels: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        """Pool rois [K, 5] → [K, C, bins, bins].

        Args:
            rois: [K, 5] (image index, x1, y1, x2, y2) in image pixels.
            levels: [K] level of each RoI; None takes those of `assign_levels`. A head that derives regions from
                proposals assigns levels to the proposals and passes them with the derived regions.
            offsets: [K, bins, bins, 2] (dx, dy), fractions of each RoI's size.
        """
        scheme = self.scheme
        size = check_regions(self.pyramid.maps[0], rois, scheme.output_size, scheme.sampling_ratio, offsets)
        if levels is None:
            levels = self.assign_levels(rois)
        elif levels.shape != rois.shape[:1]:
            raise InputError(
                f"levels must be [{rois.shape[0]}] for rois {tuple(rois.shape)}, got {tuple(levels.shape)}"
            )
        return self.pyramid.pool(rois, levels, size, scheme.sampling_ratio, scheme.aligned, offsets, scheme.backend)


def _choose_backend(features: Tensor, backend: str | None) -> str:
    """The given backend, if it can pool these features; if None is given, the fastest that can."""
    compiled = _COMPILED.get(features.device.type, "bag")
    if backend is None:
        # Triton adds gradients atomically, in no fixed order. The CPU kernels never write to the same place.
        return "bag" if compiled == "triton" and torch.are_deterministic_algorithms_enabled() else compiled
    if backend not in (compiled, "bag"):
        usable = " or ".join(sorted({repr(compiled), "'bag'"}))
        raise InputError(f"backend {backend!r} cannot pool features on {features.device}; use None, {usable}")
    return backend
