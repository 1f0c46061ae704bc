"""What is measured for every followed proposal. `COLUMNS` is the only place that lists these numbers.

A column says how its number is called, in which unit it is, whose colour it has, and how it is computed. Tables, plots,
the report and the explorer read this dictionary, so a new number needs one new entry here and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tsdlab.ops.sampling import bin_centres


@dataclass(frozen=True)
class Moved:
    """K proposals, the places that a head moves them to, and the object that each one overlaps; pixels of the image.

    P is the proposal, P̂c the bins that the class is pooled from, P̂r the bins that the box is pooled from. The bins
    of a task that is pooled from P itself are NaN, and so is every number about them.
    """

    proposals: Tensor  # P [K, 4]
    classification_points: Tensor  # P̂c [K, bins, bins, 2] (x, y) centres of the bins
    localization_points: Tensor  # P̂r likewise
    objects: Tensor  # [K, 4]
    salient: Tensor  # [K, 4] the part of the object that tells its class; NaN where it is not marked

    @cached_property
    def size(self) -> Tensor:
        """[K, 2] width and height of P."""
        return (self.proposals[:, 2:] - self.proposals[:, :2]).clamp(min=1e-6)

    @cached_property
    def grid(self) -> Tensor:
        """[K, bins, bins, 2] centres of P's bins before they are moved."""
        return bin_centres(self.proposals, bins=self.classification_points.shape[1])

    @cached_property
    def classification_offsets(self) -> Tensor:
        """ΔC [K, bins, bins, 2], fractions of P's size."""
        return self.in_sizes(self.classification_points - self.grid)

    @cached_property
    def localization_offsets(self) -> Tensor:
        """ΔR [K, bins, bins, 2], fractions of P's size; the same for every bin where P is moved as a whole."""
        return self.in_sizes(self.localization_points - self.grid)

    @cached_property
    def localization_shift(self) -> Tensor:
        """[K, 2] how far P̂r is moved as a whole, fractions of P's size; 0 where it only changes its size."""
        shift = self.localization_offsets.mean(dim=(1, 2))
        return torch.where(_length(shift)[:, None] < _ROUNDING, 0.0, shift)  # NaN stays NaN

    @cached_property
    def to_object(self) -> Tensor:
        """[K, 2] from P's centre to the object's, fractions of P's size."""
        return (_centre(self.objects) - _centre(self.proposals)) / self.size

    @cached_property
    def moved_to_object(self) -> Tensor:
        """[K, 2] from P̂r's centre to the object's, fractions of P's size."""
        return self.to_object - self.localization_shift

    def in_sizes(self, vectors: Tensor) -> Tensor:
        """Vectors [K, bins, bins, 2] in pixels, as fractions of P's size."""
        return vectors / self.size[:, None, None]

    def to_salient(self, points: Tensor) -> Tensor:
        """[K, bins, bins] distance of points from the centre of the salient part, fractions of P's size."""
        return _length(self.in_sizes(points - _centre(self.salient)[:, None, None]))


@dataclass(frozen=True)
class Column:
    """One number per proposal."""

    title: str  # short, for an axis or the head of a table
    unit: str  # "" for cosines; it begins with "%" if values are fractions, which are shown in percent
    role: str  # whose colour it has: "proposal", "classification" or "localization"
    explanation: str  # a sentence
    compute: Callable[[Moved], Tensor]  # [K]; a direction may have several values per proposal, [K, values]
    edges: np.ndarray | None = None  # of its histogram; None where no histogram is kept

    @property
    def scale(self) -> float:
        """What values are multiplied by to be in `unit`."""
        return 100.0 if self.unit.startswith("%") else 1.0

    @property
    def label(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


_SIZE = "% of P"
_PIXELS = "pixels"
_ROUNDING = 1e-4  # of P's size; a shorter shift is float32's rounding of coordinates, and has no direction
_TURN = np.linspace(-180, 180, 25)

# Distances in fractions of P's size divide x by its width and y by its height.
COLUMNS = {
    "classification_offset": Column(
        "|ΔC|", _SIZE, "classification",
        "Mean length of ΔC over the bins.",
        lambda m: _length(m.classification_offsets).mean(dim=(1, 2)), np.linspace(0, 0.5, 51),
    ),
    "localization_offset": Column(
        "|ΔR|", _SIZE, "localization",
        "Mean length of ΔR over the bins; of a region that is moved as a whole, the length of its shift.",
        lambda m: _length(m.localization_offsets).mean(dim=(1, 2)), np.linspace(0, 0.5, 51),
    ),
    "classification_offset_px": Column(
        "|ΔC|", _PIXELS, "classification",
        "Mean length of ΔC over the bins, in pixels of the image.",
        lambda m: _length(m.classification_points - m.grid).mean(dim=(1, 2)), np.linspace(0, 60, 61),
    ),
    "localization_offset_px": Column(
        "|ΔR|", _PIXELS, "localization",
        "Mean length of ΔR over the bins, in pixels of the image.",
        lambda m: _length(m.localization_points - m.grid).mean(dim=(1, 2)), np.linspace(0, 30, 61),
    ),
    "grid_on_salient": Column(
        "share of P’s bins on the salient part", "%", "proposal",
        "Share of P’s bins whose centre is on the salient part before they are moved.",
        lambda m: _inside(m.grid, m.salient).mean(dim=(1, 2)),
    ),
    "moved_on_salient": Column(
        "share of P̂c on the salient part", "%", "classification",
        "Share of P̂c’s bins whose centre is on the salient part.",
        lambda m: _inside(m.classification_points, m.salient).mean(dim=(1, 2)),
    ),
    "towards_salient": Column(
        "ΔC towards the salient part", _SIZE, "classification",
        "How much closer ΔC brings a bin to the centre of the salient part, mean over the bins.",
        lambda m: (m.to_salient(m.grid) - m.to_salient(m.classification_points)).mean(dim=(1, 2)),
    ),
    "grid_spread": Column(
        "spread of P’s bins", _SIZE, "proposal",
        "Mean distance of P’s bins from P’s centre.",
        lambda m: _length(m.in_sizes(m.grid - _centre(m.proposals)[:, None, None])).mean(dim=(1, 2)),
    ),
    "moved_spread": Column(
        "spread of P̂c", _SIZE, "classification",
        "Mean distance of P̂c’s bins from their own mean.",
        lambda m: _length(
            m.in_sizes(m.classification_points - m.classification_points.mean(dim=(1, 2), keepdim=True))
        ).mean(dim=(1, 2)),
    ),
    "centre_distance": Column(
        "P to the object’s centre", _SIZE, "proposal",
        "Distance of P’s centre from the object’s centre.",
        lambda m: _length(m.to_object),
    ),
    "classification_centre_distance": Column(
        "P̂c to the object’s centre", _SIZE, "classification",
        "Distance of the mean of P̂c’s bins from the object’s centre.",
        lambda m: _length((m.classification_points.mean(dim=(1, 2)) - _centre(m.objects)) / m.size),
    ),
    "localization_centre_distance": Column(
        "P̂r to the object’s centre", _SIZE, "localization",
        "Distance of P̂r’s centre from the object’s centre.",
        lambda m: _length(m.moved_to_object),
    ),
    "localization_gain": Column(
        "ΔR towards the object’s centre", _SIZE, "localization",
        "How much closer ΔR brings the region’s centre to the object’s centre.",
        lambda m: _length(m.to_object) - _length(m.moved_to_object),
    ),
    # 0/0 = NaN, which no mean counts, where the centres are the same already or nothing moves.
    "localization_heading": Column(
        "cosine of ΔR and the way to the object", "", "localization",
        "Cosine of the angle between ΔR and the way to the object’s centre: 1 straight towards it, −1 away from it.",
        lambda m: (m.to_object * m.localization_shift).sum(dim=1) / (
            _length(m.to_object) * _length(m.localization_shift)
        ),
    ),
}  # fmt: skip

# Angles are counted in histograms, but have no mean. 0° points right and 90° down, in a frame in which P is a square.
DIRECTIONS = {
    "classification_direction": Column(
        "direction of ΔC", "degrees", "classification",
        "Direction of ΔC, one value per bin.",
        lambda m: _degrees(m.classification_offsets).flatten(1), _TURN,
    ),
    "localization_direction": Column(
        "direction of ΔR", "degrees", "localization",
        "Direction of the mean ΔR of the bins.",
        lambda m: _degrees(m.localization_shift)[:, None], _TURN,
    ),
}  # fmt: skip

# The histograms that are kept, and the edges of their bins.
EDGES = {name: column.edges for name, column in (COLUMNS | DIRECTIONS).items() if column.edges is not None}


def _length(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1)


def _degrees(vectors: Tensor) -> Tensor:
    """Directions of (dx, dy), −180…180; NaN where there is no length."""
    degrees = torch.rad2deg(torch.atan2(vectors[..., 1], vectors[..., 0]))
    return torch.where((vectors == 0).all(dim=-1), math.nan, degrees)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """[K, bins, bins] 1 where points [K, bins, bins, 2] lie in boxes [K, 4]; NaN where one of both is NaN."""
    low, high = boxes[:, None, None, :2], boxes[:, None, None, 2:]
    inside = ((points >= low) & (points <= high)).all(dim=-1).float()
    unknown = boxes.isnan().any(dim=1)[:, None, None] | points.isnan().any(dim=-1)
    return torch.where(unknown, math.nan, inside)
