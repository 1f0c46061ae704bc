"""The whole analysis over a data set: misalignment, and displacements if the head moves its regions."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

from torch import distributed, nn

from tsdlab.analysis.displacement import (
    Displacements,
    LevelDisplacement,
    displacements,
    follow,
    tally_displacement,
)
from tsdlab.analysis.misalignment import Misalignment, misalignment, tally_misalignment
from tsdlab.analysis.statistics import REPLICATES, Estimate, Tally
from tsdlab.data.items import as_items
from tsdlab.models.build import as_detector
from tsdlab.models.probe import Probe
from tsdlab.progress import progress_bar
from tsdlab.ranges import Count, check_value


@dataclass(frozen=True)
class Analysis:
    """The numbers of a whole analysis, each with a bootstrap 95% interval over images and the count behind it."""

    misalignment: Misalignment
    displacement: Displacements | None  # None if the head does not move its regions, or no proposal overlaps an object

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; a missing value is None, never NaN."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Analysis:
        """Inverse of `as_dict`, also after JSON."""
        found = values["displacement"]
        return Analysis(
            Misalignment(**_revived(values["misalignment"])),
            None
            if found is None
            else Displacements({level: LevelDisplacement(**_revived(of)) for level, of in found["levels"].items()}),
        )


def _revived(value: Any) -> Any:
    """Plain values with their estimates restored, and lists as tuples."""
    if isinstance(value, dict):
        if value.keys() == {field.name for field in dataclasses.fields(Estimate)}:
            return Estimate(**value)
        return {name: _revived(of) for name, of in value.items()}
    return tuple(_revived(of) for of in value) if isinstance(value, list | tuple) else value


def analyze(
    model: nn.Module,
    dataset: Any,
    images: int | None = None,
    replicates: int = REPLICATES,
    progress: bool = True,
) -> Analysis:
    """Measure the misalignment of a detector's two tasks on every object of a data set.

    Memory does not grow with the data set. Under torchrun every process takes a share of the images, and each one
    returns the analysis of all images.

    Args:
        model: a tsdlab detector, or any Faster R-CNN of torchvision; its labels are matched to those of the dataset in
            the same way as by `tsdlab.evaluate`.
        dataset: the images and their objects; see `tsdlab.data.items.Items`.
        images: use only the first images, this many; None uses all.
        replicates: of the bootstrap.
        progress: show a progress bar.

    Raises:
        InputError: the dataset has a category that the model does not know, or `images` is less than 1.
    """
    check_value("images", images, Count | None)
    model = as_detector(model)
    items = as_items(dataset).for_model(model)
    tally = Tally(replicates)
    together = distributed.is_available() and distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    count = len(items) if images is None else min(images, len(items))
    mine = itertools.islice(range(count), rank, None, world)
    for index in progress_bar(mine, "analyze", len(range(rank, count, world)), shown=progress and rank == 0):
        image, target = items[index]
        tally.begin(index)
        observe(tally, Probe(model, image), target)
    whole = tally.gather()
    return Analysis(misalignment(whole), displacements(whole))


def observe(tally: Tally, probe: Probe, target: dict[str, Any]) -> None:
    """Add one image, whose objects are `target` (boxes, labels of the model, maybe salient_boxes)."""
    trace = probe.trace()
    tally_misalignment(tally, probe, trace, target)
    if trace.regions:
        tally_displacement(tally, follow(trace, target), probe.pooled)
