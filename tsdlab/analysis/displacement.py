"""Where do TSD's displacements lead? Held against what is known of each object: its box, and its salient part.

The salient part is what tells the class: the badge of a badges world, or "salient_bbox" of any annotation file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import box_iou

from tsdlab.analysis.statistics import Estimate, Tally
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import InputError
from tsdlab.models.probe import Probe, as_detector
from tsdlab.ops.sampling import bin_centres
from tsdlab.progress import progress_bar
from tsdlab.structures import Answer, DetectionTrace

ALL_LEVELS = "all"

# What is binned for distributions, and between which edges. Offsets are lengths; directions are of the image: 0° to the
# right, 90° down.
EDGES: dict[str, np.ndarray] = {
    "classification_offset": np.linspace(0, 0.5, 51),
    "localization_offset": np.linspace(0, 0.5, 51),
    "classification_offset_px": np.linspace(0, 60, 61),
    "localization_offset_px": np.linspace(0, 30, 61),
    "classification_direction": np.linspace(-180, 180, 25),
    "localization_direction": np.linspace(-180, 180, 25),
}


@dataclass(frozen=True)
class Followed:
    """Proposals that overlap an object, one row each; distances in fractions of the proposal's width and height.

    Columns of the salient part are NaN where an object has none.
    """

    objects: Tensor  # [K] int64, place in the image's target
    labels: Tensor  # [K] int64 of the objects
    proposals: Tensor  # [K, 4]
    levels: Tensor  # [K] int64 index into the pooled levels
    offsets: Tensor  # ΔC [K, bins, bins, 2]
    shift: Tensor  # ΔR [K, 2]
    columns: dict[str, Tensor]  # [K] each, see COLUMNS


# What is averaged, and how a person would call it.
COLUMNS = {
    "classification_offset": "|ΔC|",
    "localization_offset": "|ΔR|",
    "classification_offset_px": "|ΔC|, pixels",
    "localization_offset_px": "|ΔR|, pixels",
    "grid_on_salient": "share of P's plain grid on the salient part",
    "moved_on_salient": "share of P̂_c on the salient part",
    "towards_salient": "how much nearer ΔC brings a bin to the salient part's centre",
    "grid_spread": "how far the plain grid's bins lie from their mean",
    "moved_spread": "the same of P̂_c",
    "centre_distance": "of P's centre from the object's",
    "classification_centre_distance": "of P̂_c's mean from the object's centre",
    "localization_centre_distance": "of P̂_r's centre from the object's",
    "localization_gain": "how much nearer ΔR brings the centre to the object's",
    "localization_heading": "cosine between ΔR and the way to the object's centre",
}


@dataclass(frozen=True)
class LevelDisplacement:
    """Displacements of the proposals of one level."""

    proposals: int
    means: dict[str, Estimate]  # by name, as in COLUMNS
    field: tuple[tuple[tuple[float, float], ...], ...]  # mean ΔC (dx, dy) by bin, [bins][bins][2]
    distributions: dict[str, tuple[Estimate, ...]]  # by name, shares between its EDGES


@dataclass(frozen=True)
class Displacements:
    """Displacements over a data set, by level of the pyramid; "all" is all of them."""

    levels: dict[str, LevelDisplacement]

    def mean(self, name: str, level: str = ALL_LEVELS) -> float | None:
        """The mean of a column; None where there is none, as of salient parts that nobody has marked."""
        return self.levels[level].means[name].value


def measure_displacement(
    model: GeneralizedRCNN, dataset: CocoDataset, images: int = 100, min_iou: float = 0.5, progress: bool = True
) -> Displacements:
    """Follow ΔC and ΔR of the proposals that overlap an object, over the first `images` of the dataset.

    Args:
        model: a detector whose head moves its regions: TSD with one displacement per proposal for localization.
        dataset: objects may have a "salient_bbox".
        images: how many of its images.
        min_iou: a proposal belongs to the object it overlaps most, if at least this much.
        progress: show a progress bar.

    Raises:
        ValueError: the head moves nothing, or no proposal overlaps an object.
    """
    tally = Tally()
    for index, levels, followed in follow_images(model, dataset, images, min_iou, progress):
        tally.begin(index)
        tally_displacement(tally, followed, levels)
    found = displacements(tally)
    if found is None:
        raise InputError(f"no proposal overlaps an object with IoU ≥ {min_iou}")
    return found


def follow_images(
    model: GeneralizedRCNN, dataset: CocoDataset, images: int = 100, min_iou: float = 0.5, progress: bool = True
) -> Iterator[tuple[int, tuple[str, ...], Followed]]:
    """Image by image its index, the names of the pooled levels, and its proposals followed.

    Arguments and errors are those of `measure_displacement`.
    """
    model = as_detector(model)
    for index in progress_bar(range(min(images, len(dataset))), "displacement", shown=progress):
        image, target = dataset[index]
        probe = Probe(model, image)
        yield index, probe.pooled, follow(probe.trace(), target, min_iou)


def moves_regions(answer: Answer) -> bool:
    """Whether there is a ΔC and a ΔR for the whole proposal to follow."""
    return answer.classification_points is not None and answer.localization_proposals is not None


def follow(trace: DetectionTrace, target: dict[str, Any], min_iou: float = 0.5) -> Followed:
    """The proposals of a trace that overlap an object of `target` most, and by at least `min_iou`.

    Raises:
        ValueError: the trace's head does not move its regions.
    """
    points, moved = trace.classification_points, trace.localization_proposals
    offsets, shift = trace.classification_offsets, trace.localization_offset
    if points is None or moved is None or offsets is None or shift is None:
        head = list(trace.branches)[-1]
        raise InputError(
            f"head {head!r} has no displacement to follow: it moves nothing, or the region of its boxes bin by bin"
        )
    proposals = trace.proposals.cpu()
    overlap = box_iou(proposals, target["boxes"])
    if overlap.shape[1] == 0:
        overlap = proposals.new_zeros(len(proposals), 1)
    best, nearest = overlap.max(dim=1)
    good = best >= max(min_iou, 1e-6)
    nearest = nearest[good]
    things = target["boxes"][nearest]
    salient = target["salient_boxes"][nearest] if "salient_boxes" in target else torch.full_like(things, math.nan)
    columns = _columns(proposals[good], points[good].cpu(), moved[good].cpu(), things, salient)
    return Followed(
        objects=nearest,
        labels=target["labels"][nearest],
        proposals=proposals[good],
        levels=trace.levels[good].cpu(),
        offsets=offsets[good].cpu(),
        shift=shift[good].cpu(),
        columns=columns,
    )


def tally_displacement(tally: Tally, followed: Followed, levels: tuple[str, ...]) -> None:
    """Add the proposals of an image, by level and for all of them."""
    directions = {
        "classification_direction": _degrees(followed.offsets).flatten(1),
        "localization_direction": _degrees(followed.shift)[:, None],
    }
    for level, chosen in [
        (ALL_LEVELS, torch.ones(len(followed.levels), dtype=torch.bool)),
        *((name, followed.levels == i) for i, name in enumerate(levels)),
    ]:
        if not chosen.any():
            continue
        for name, values in followed.columns.items():
            tally.add(("displacement", level, name), values[chosen])
        tally.add(("displacement", level, "field"), followed.offsets[chosen].flatten(1))
        for name, edges in EDGES.items():
            values = directions[name] if name in directions else followed.columns[name]
            tally.add_counts(("displacement", level, "shares", name), values[chosen].flatten(), edges)


def displacements(tally: Tally) -> Displacements | None:
    """What `tally_displacement` has gathered; None if that is nothing."""
    found = {}
    levels = {level for _, level, *_ in tally.names("displacement")}
    for level in sorted(levels, key=lambda name: (name != ALL_LEVELS, name)):
        mean = np.array([estimate.value for estimate in tally.means(("displacement", level, "field"))])
        bins = math.isqrt(len(mean) // 2)
        means = {name: tally.mean(("displacement", level, name)) for name in COLUMNS}
        found[level] = LevelDisplacement(
            proposals=means["classification_offset"].count,
            means=means,
            field=tuple(tuple(tuple(place) for place in row) for row in mean.reshape(bins, bins, 2).tolist()),
            distributions={name: tuple(tally.shares(("displacement", level, "shares", name))) for name in EDGES},
        )
    return Displacements(found) if found else None


@dataclass(frozen=True)
class Decomposition:
    """What ΔC is made of: shares of its energy, the mean square length of its arrows; they sum to 1."""

    translation: float  # all bins of a proposal moved as one: looking again
    pattern: float  # what is the same in every proposal besides: another grid
    rest: float  # what is a proposal's own
    translation_is_shift: tuple[float, float]  # correlation of that translation with ΔR, in x and in y


def decompose(offsets: Tensor, shift: Tensor) -> Decomposition:
    """Take ΔC [K, bins, bins, 2] of many proposals apart, and hold its translation against their ΔR [K, 2].

    Raises:
        ValueError: there are fewer than three proposals, or none of them moves.
    """
    if len(offsets) < 3 or not offsets.any():
        raise InputError(f"nothing to decompose: {len(offsets)} proposals, of which none or too few move")
    translation = offsets.mean(dim=(1, 2))  # [K, 2]
    reshaping = offsets - translation[:, None, None]
    pattern = reshaping.mean(dim=0)  # [bins, bins, 2]
    energy = offsets.square().mean()
    x, y = (torch.corrcoef(torch.stack([translation[:, i], shift[:, i]]))[0, 1].item() for i in range(2))
    return Decomposition(
        translation=(translation.square().mean() / energy).item(),
        pattern=(pattern.square().mean() / energy).item(),
        rest=((reshaping - pattern).square().mean() / energy).item(),
        translation_is_shift=(x, y),
    )


def _degrees(vectors: Tensor) -> Tensor:
    """Directions of (dx, dy), −180…180."""
    return torch.rad2deg(torch.atan2(vectors[..., 1], vectors[..., 0]))


def _columns(proposals: Tensor, points: Tensor, moved: Tensor, objects: Tensor, salient: Tensor) -> dict[str, Tensor]:
    """`Followed.columns` from boxes [K, 4] and points [K, bins, bins, 2]."""
    size = (proposals[:, 2:] - proposals[:, :2]).clamp(min=1e-6)
    grid = bin_centres(proposals, bins=points.shape[1])
    goal = _centre(salient)[:, None, None]
    scale = size[:, None, None]
    distance, moved_distance = (_length((p - goal) / scale) for p in (grid, points))
    start, end, mean = _centre(proposals), _centre(moved), points.mean(dim=(1, 2))
    way = (_centre(objects) - start) / size
    shift = (end - start) / size
    before, after = _length(way), _length((_centre(objects) - end) / size)
    columns = {
        "classification_offset": _length((points - grid) / scale).mean(dim=(1, 2)),
        "localization_offset": _length(shift),
        "classification_offset_px": _length(points - grid).mean(dim=(1, 2)),
        "localization_offset_px": _length(end - start),
        "grid_on_salient": _inside(grid, salient).mean(dim=(1, 2)),
        "moved_on_salient": _inside(points, salient).mean(dim=(1, 2)),
        "towards_salient": (distance - moved_distance).mean(dim=(1, 2)),
        "grid_spread": _length((grid - start[:, None, None]) / scale).mean(dim=(1, 2)),
        "moved_spread": _length((points - mean[:, None, None]) / scale).mean(dim=(1, 2)),
        "centre_distance": before,
        "classification_centre_distance": _length((mean - _centre(objects)) / size),
        "localization_centre_distance": after,
        "localization_gain": before - after,
        # Without a way to go or a step taken there is no heading: 0/0, which no mean counts.
        "localization_heading": (way * shift).sum(dim=1) / (before * _length(shift)),
    }
    assert columns.keys() == COLUMNS.keys()
    return columns


def _length(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """[K, bins, bins] 1 where points [K, bins, bins, 2] lie in boxes [K, 4]; NaN for boxes that are NaN."""
    low, high = boxes[:, None, None, :2], boxes[:, None, None, 2:]
    inside = ((points >= low) & (points <= high)).all(dim=-1).float()
    return torch.where(boxes.isnan().any(dim=1)[:, None, None], math.nan, inside)
