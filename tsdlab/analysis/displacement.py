"""Where do a head's displacements lead? Compares them with what is known of each object: its box and its salient part.

The salient part is what tells the class: the badge of a badges world, or "salient_bbox" in any annotation file. What is
measured is listed in `columns.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from tsdlab.analysis.columns import COLUMNS, DIRECTIONS, EDGES, Moved
from tsdlab.analysis.statistics import NOTHING, Estimate, Tally
from tsdlab.data.items import as_items
from tsdlab.errors import InputError
from tsdlab.models.build import as_detector
from tsdlab.models.probe import Probe
from tsdlab.progress import progress_bar
from tsdlab.structures import TASKS, DetectionTrace, RegionTrace, map_tensors

ALL_LEVELS = "all"

MeanField = tuple[tuple[tuple[float, float], ...], ...]  # [bins][bins][2] (dx, dy), fractions of the proposal's size


@dataclass(frozen=True)
class Followed:
    """Proposals that overlap an object, one row each.

    Numbers about the salient part are NaN where an object has none.
    """

    objects: Tensor  # [K] int64 index into the image's target
    labels: Tensor  # [K] int64 of the objects
    proposals: Tensor  # [K, 4] pixels
    levels: Tensor  # [K] int64 index into the pooled levels
    regions: dict[str, RegionTrace]  # by task; a task that is pooled from the proposal itself has no entry
    columns: dict[str, Tensor]  # [K] each, by name as in COLUMNS
    directions: dict[str, Tensor] = field(default_factory=dict)  # [K, values] each, by name as in DIRECTIONS


@dataclass(frozen=True)
class LevelDisplacement:
    """Displacements of the proposals that are pooled from one level."""

    proposals: int
    means: dict[str, Estimate]  # by name, as in COLUMNS
    field: MeanField | None  # mean ΔC of each bin; None if the class is pooled from the proposal itself
    distributions: dict[str, tuple[Estimate, ...]]  # by name, the share in each bin of its EDGES
    localization_field: MeanField | None = None  # mean ΔR likewise
    difference: Estimate = NOTHING  # mean of |ΔC| minus |ΔR|; without a value unless both are moved

    def field_of(self, task: str) -> MeanField | None:
        """The mean offset of each bin of a task."""
        return self.field if task == "classification" else self.localization_field


@dataclass(frozen=True)
class Displacements:
    """Displacements over a data set, by level of the pyramid; level "all" has the proposals of every level."""

    levels: dict[str, LevelDisplacement]

    @property
    def tasks(self) -> list[str]:
        """The tasks whose regions are moved."""
        return [task for task in TASKS if self.levels[ALL_LEVELS].field_of(task) is not None]

    def mean(self, name: str, level: str = ALL_LEVELS) -> float | None:
        """The mean of a column; None where it has no value, for example where no salient part is marked."""
        return self.levels[level].means[name].value


def measure_displacement(
    model: nn.Module, dataset: Any, images: int = 100, min_iou: float = 0.5, progress: bool = True
) -> Displacements:
    """Follow ΔC and ΔR of the proposals that overlap an object, over the first `images` of the dataset.

    Args:
        model: a detector whose head moves a region: TSD, Double-Head, or one of your own.
        dataset: see `tsdlab.data.items.Items`; objects may have a "salient_bbox".
        images: how many of its images.
        min_iou: a proposal belongs to the object that it overlaps most, if their IoU is at least this.
        progress: show a progress bar.

    Raises:
        InputError: the head moves nothing, or no proposal overlaps an object.
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
    model: nn.Module, dataset: Any, images: int = 100, min_iou: float = 0.5, progress: bool = True
) -> Iterator[tuple[int, tuple[str, ...], Followed]]:
    """Yield for each image its index, the names of the pooled levels, and the proposals followed in it.

    Labels are those of the model.

    Arguments and errors are those of `measure_displacement`.
    """
    model = as_detector(model)
    items = as_items(dataset).for_model(model)
    for index in progress_bar(range(min(images, len(items))), "displacement", shown=progress):
        image, target = items[index]
        probe = Probe(model, image)
        yield index, probe.pooled, follow(probe.trace(), target, min_iou)


def follow(trace: DetectionTrace, target: dict[str, Any], min_iou: float = 0.5) -> Followed:
    """The proposals of a trace whose IoU with an object of `target` is at least `min_iou`.

    Each proposal is compared with the object that it overlaps most.

    Raises:
        InputError: the trace's head does not move its regions.
    """
    if not trace.regions:
        head = list(trace.branches)[-1]
        raise InputError(
            f"head {head!r} has no displacement to follow: it pools both tasks from the proposal itself; "
            "use a model with a head that moves its regions, such as 'tsd'"
        )
    proposals = trace.proposals.cpu()
    overlap = box_iou(proposals, target["boxes"])
    if overlap.shape[1] == 0:
        overlap = proposals.new_zeros(len(proposals), 1)
    best, nearest = overlap.max(dim=1)
    good = best >= max(min_iou, 1e-6)
    nearest = nearest[good]
    objects = target["boxes"][nearest]
    salient = target["salient_boxes"][nearest] if "salient_boxes" in target else torch.full_like(objects, math.nan)
    regions: dict[str, RegionTrace] = map_tensors(lambda of_all: of_all.cpu()[good], trace.regions)
    nowhere = torch.full_like(next(iter(regions.values())).points, math.nan)
    classification, localization = (regions[task].points if task in regions else nowhere for task in TASKS)
    measured = Moved(proposals[good], classification, localization, objects, salient)
    return Followed(
        objects=nearest,
        labels=target["labels"][nearest],
        proposals=proposals[good],
        levels=trace.levels[good].cpu(),
        regions=regions,
        columns={name: column.compute(measured) for name, column in COLUMNS.items()},
        directions={name: direction.compute(measured) for name, direction in DIRECTIONS.items()},
    )


def tally_displacement(tally: Tally, followed: Followed, levels: tuple[str, ...]) -> None:
    """Add the proposals of an image, for each level and for all levels together."""
    values = followed.columns | followed.directions
    for level, chosen in [
        (ALL_LEVELS, torch.ones(len(followed.levels), dtype=torch.bool)),
        *((name, followed.levels == i) for i, name in enumerate(levels)),
    ]:
        if not chosen.any():
            continue
        for name in COLUMNS:
            tally.add(("displacement", level, name), values[name][chosen])
        for task, region in followed.regions.items():
            tally.add(("displacement", level, "field", task), region.offsets[chosen].flatten(1))
        for name, edges in EDGES.items():
            tally.add_counts(("displacement", level, "shares", name), values[name][chosen].flatten(), edges)


def displacements(tally: Tally) -> Displacements | None:
    """The results of what `tally_displacement` has added; None if there was no proposal."""
    found = {}
    levels = {level for _, level, *_ in tally.names("displacement")}
    for level in sorted(levels, key=lambda name: (name != ALL_LEVELS, name)):
        means = {name: tally.mean(("displacement", level, name)) for name in COLUMNS}
        found[level] = LevelDisplacement(
            proposals=means["centre_distance"].count,
            means=means,
            field=_mean_field(tally, level, "classification"),
            distributions={name: tuple(tally.shares(("displacement", level, "shares", name))) for name in EDGES},
            localization_field=_mean_field(tally, level, "localization"),
            difference=tally.difference(*(("displacement", level, f"{task}_offset") for task in TASKS)),
        )
    return Displacements(found) if found else None


def _mean_field(tally: Tally, level: str, task: str) -> MeanField | None:
    means = [estimate.value for estimate in tally.means(("displacement", level, "field", task))]
    bins = math.isqrt(len(means) // 2)
    field = np.array(means).reshape(bins, bins, 2).tolist()
    return tuple(tuple(tuple(place) for place in row) for row in field) if means else None


@dataclass(frozen=True)
class Decomposition:
    """The three parts of ΔC, as shares of its energy (the mean squared length of its offsets); they sum to 1."""

    translation: float  # all bins of a proposal move together
    pattern: float  # of what is left, the part that is the same for every proposal
    rest: float  # what is different for each proposal and bin
    translation_is_shift: tuple[float, float]  # correlation of the translation with ΔR, in x and in y


def decompose(offsets: Tensor, shift: Tensor) -> Decomposition:
    """Split the ΔC [K, bins, bins, 2] of many proposals into parts, and compare its translation with ΔR [K, 2].

    Raises:
        InputError: there are fewer than three proposals, or none of them moves.
    """
    if len(offsets) < 3 or not offsets.any():
        raise InputError(f"cannot split ΔC of {len(offsets)} proposals: at least 3 are needed, and one that moves")
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
