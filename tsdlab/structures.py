"""What flows through the detector, with every shape and unit.

K is the number of RoIs, over all images of a batch. C is the number of classes without background; label 0 is
background. Boxes are (x1, y1, x2, y2) in pixels of the resized image that the backbone sees, unless stated otherwise.
Levels are the feature maps of the pyramid that RoIs are pooled from, finest first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

# The two tasks of the second stage. What belongs to one of them is kept under its name.
TASKS = ("classification", "localization")


@dataclass(frozen=True)
class Category:
    """A class of objects, as an annotation file names it."""

    id: int | str
    name: str


@dataclass
class Samples:
    """The RoIs of a training step, with their targets."""

    rois: Tensor  # [K, 5] (image index, x1, y1, x2, y2)
    labels: Tensor  # [K] int64, 0…C
    matched_boxes: Tensor  # [K, 4] the object that each RoI overlaps most; undefined for background


@dataclass
class Region:
    """Where a head pools one of its tasks from: the boxes and offsets that it gives to its pooler."""

    boxes: Tensor  # [K, 4]
    # [K, bins, bins, 2] (dx, dy) how far each bin is moved, fractions of the box's size; None: bins stay in their grid.
    offsets: Tensor | None = None


@dataclass
class HeadOutput:
    """What a head predicts for each RoI. A head that predicts more than this returns a subclass."""

    logits: Tensor  # [K, 1 + C]
    deltas: Tensor  # [K, 1 + C, 4] one box delta per class, as torchvision's BoxCoder reads them
    boxes: Tensor  # [K, 4] the boxes that the deltas are relative to
    # By task, as in TASKS; a task that is pooled from the RoIs themselves has no entry.
    regions: dict[str, Region] = field(default_factory=dict, kw_only=True)

    def scores(self) -> Tensor:
        """Class scores [K, 1 + C] in 0…1, float32."""
        return self.logits.float().softmax(dim=1)

    def extra_branches(self) -> dict[str, HeadOutput]:
        """Predictions of branches that inference does not use, by name. Analysis shows them beside this output."""
        return {}


@dataclass
class BranchTrace:
    """What one branch predicts for every proposal of a traced image."""

    logits: Tensor  # [K, 1 + C]
    scores: Tensor  # [K, 1 + C] 0…1
    boxes: Tensor  # [K, 1 + C, 4] decoded and clipped to the image; pixels of the original image


@dataclass
class RegionTrace:
    """Where one task is pooled from, for every proposal of a traced image: P̂c or P̂r. Pixels of the original image."""

    boxes: Tensor  # [K, 4]
    points: Tensor  # [K, bins, bins, 2] (x, y) where each bin has its centre
    offsets: Tensor  # [K, bins, bins, 2] (dx, dy) from the bin's place in P's own grid, fractions of P's size
    deformed: bool  # whether bins are moved one by one; otherwise the points are the plain grid of the boxes

    @property
    def moved(self) -> Tensor:
        """[K] |ΔC| or |ΔR|: mean length of the bins' offsets, a fraction of P's size."""
        return self.offsets.norm(dim=-1).mean(dim=(-2, -1))

    @property
    def translation(self) -> Tensor:
        """[K, 2] mean of the bins' offsets (dx, dy), fractions of P's size: ΔR where all bins move alike."""
        return self.offsets.mean(dim=(-3, -2))


@dataclass
class Answer:
    """What a detector predicts for proposals. Boxes and points are in pixels of the original image."""

    proposals: Tensor  # P [K, 4]
    levels: Tensor  # [K] int64, index of the level that each proposal is pooled from
    branches: dict[str, BranchTrace]  # by name; the last one is what inference uses, named after the head
    regions: dict[str, RegionTrace]  # by task, as in TASKS; a task that is pooled from P itself has no entry

    @property
    def detection(self) -> BranchTrace:
        """The branch that inference uses."""
        return list(self.branches.values())[-1]

    @property
    def sibling(self) -> BranchTrace | None:
        """The sibling head: TSD's, or the whole second stage of a sibling model; None for other heads."""
        return self.branches.get("sibling")


@dataclass
class DetectionTrace(Answer):
    """Everything a detector computed for one image. Proposals are sorted by RPN score, best first."""

    image_size: tuple[int, int]  # (height, width) of the original image, pixels
    features: dict[str, Tensor]  # level name → [1, channels, h, w]
    strides: dict[str, tuple[float, float]]  # level name → (y, x) original-image pixels per feature cell
    proposal_scores: Tensor  # [K] RPN objectness, 0…1; NaN for proposals that the caller gave
    detections: dict[str, Tensor]  # boxes, labels and scores after NMS, as the model returns them


def map_tensors(change: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """Apply `change` to every tensor of a dataclass or dict, however deep; what is no tensor stays as it is.

    Args:
        change: takes one tensor of each, in the order in which they are given.
        first, others: of the same structure.
    """
    if isinstance(first, Tensor):
        return change(first, *others)
    if isinstance(first, dict):
        return {name: map_tensors(change, value, *(of[name] for of in others)) for name, value in first.items()}
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        values = {
            name: map_tensors(change, getattr(first, name), *(getattr(of, name) for of in others))
            for name in (field.name for field in dataclasses.fields(first))
        }
        return type(first)(**values)
    return first
