"""Poolings with anything in them: empty maps, images and channels; RoIs, levels and offsets of any value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from tsdlab.ops import reference

# No two of the large values are negatives of each other: a sample between them, a huge region's centre for example,
# would be in the map or not depending on the last bit.
VALUES = [math.nan, math.inf, -math.inf, 1e30, -1e29, 3e38, -1.7e38, 1e6, -1e7, 2**31, 1e-40, -1e-40, 0.0, -0.0]
coordinate = st.one_of(st.floats(-60, 60, width=32), st.integers(-8, 40).map(float), st.sampled_from(VALUES))
image = st.one_of(st.integers(-1, 3).map(float), st.sampled_from([0.5, -0.5, 1e9, *VALUES]))
level = st.one_of(st.integers(-1, 3), st.sampled_from([2**40, -(2**40)]))
side = st.sampled_from([0, 1, 1, 2, 5, 9])


@dataclass
class Pooling:
    """The arguments of a pooling over a pyramid."""

    features: list[Tensor]
    scales: list[float]
    rois: Tensor
    levels: Tensor
    size: tuple[int, int]
    sampling_ratio: int
    aligned: bool
    offsets: Tensor | None

    def leaves(self) -> list[Tensor]:
        """What a pooling is differentiable in."""
        return [*self.features, self.rois, *([] if self.offsets is None else [self.offsets])]


@st.composite
def poolings(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> Pooling:
    sizes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=3))
    images, channels = draw(st.integers(0, 2)), draw(st.sampled_from([0, 1, 3]))
    boxes = draw(st.lists(st.tuples(image, *[coordinate] * 4, level), max_size=3))
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    torch.manual_seed(draw(st.integers(0, 99)))
    offsets: Any = None
    if draw(st.booleans()):
        offsets = torch.randn(len(boxes), *size, 2, dtype=dtype) * 0.3
        if len(boxes):
            offsets[-1, -1, 0] = torch.tensor(draw(st.tuples(coordinate, coordinate)), dtype=dtype)
    return Pooling(
        features=[torch.randn(images, channels, h, w, dtype=dtype) for h, w in sizes],
        scales=[1 / 2 ** (1 + i) for i in range(len(sizes))],
        rois=torch.tensor([box[:5] for box in boxes], dtype=dtype).reshape(-1, 5),
        levels=torch.tensor([box[5] for box in boxes], dtype=torch.long),
        size=size,
        sampling_ratio=draw(st.integers(1, 3)),
        aligned=draw(st.booleans()),
        offsets=offsets,
    )


def expected(pooling: Pooling) -> Tensor:
    """The reference's answer for every RoI from its own level; zero if there is no such level."""
    p = pooling
    rows = [torch.zeros(0, p.features[0].shape[1], *p.size, dtype=p.features[0].dtype)]
    for k, index in enumerate(p.levels.tolist()):
        known = 0 <= index < len(p.features)
        shift = None if p.offsets is None else p.offsets[k : k + 1]
        arguments = (p.rois[k : k + 1], p.size, p.scales[index] if known else 1.0, p.sampling_ratio, p.aligned, shift)
        rows.append(reference.deform_roi_align(p.features[index] if known else p.features[0][:0], *arguments))
    return torch.cat(rows)
