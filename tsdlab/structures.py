"""What flows through the detector, with every shape and unit.

K is the number of RoIs, over all images of a batch. C is the number of classes without background; label 0 is
background. Boxes are (x1, y1, x2, y2) in pixels of the resized image that the backbone sees, unless stated otherwise.
Levels are the feature maps of the pyramid that RoIs are pooled from, finest first.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
class Displacement:
    """How far a head moves the regions of its two tasks; None where it moves no region, or not in this form."""

    classification_offsets: Tensor | None = None  # ΔC [K, bins, bins, 2] (dx, dy), fractions of the RoI's size
    localization_offset: Tensor | None = None  # ΔR [K, 2] (dx, dy), fractions of the RoI's size


@dataclass
class HeadOutput:
    """What a head predicts for each RoI. A head that predicts more than this returns a subclass."""

    logits: Tensor  # [K, 1 + C]
    deltas: Tensor  # [K, 1 + C, 4] one box delta per class, as torchvision's BoxCoder reads them
    boxes: Tensor  # [K, 4] the boxes that the deltas are relative to

    def scores(self) -> Tensor:
        """Class scores [K, 1 + C] in 0…1, float32."""
        return self.logits.float().softmax(dim=1)

    def extra_branches(self) -> dict[str, HeadOutput]:
        """Predictions of branches that inference does not use, by name. Analysis shows them beside this output."""
        return {}

    def displacement(self) -> Displacement:
        """How far the head moved its regions away from the RoIs."""
        return Displacement()


@dataclass
class BranchTrace:
    """What one branch predicts for every proposal of a traced image."""

    logits: Tensor  # [K, 1 + C]
    scores: Tensor  # [K, 1 + C] 0…1
    boxes: Tensor  # [K, 1 + C, 4] decoded and clipped to the image; pixels of the original image


@dataclass
class Answer:
    """What a detector predicts for proposals. Boxes and points are in pixels of the original image.

    Offsets, points and regions are None for heads that do not move their regions. Those of localization are also None
    for a TSD that moves the bins of its localization region one by one.
    """

    proposals: Tensor  # P [K, 4]
    levels: Tensor  # [K] int64, index of the level that each proposal is pooled from
    branches: dict[str, BranchTrace]  # by name; the last one is what inference uses, named after the head
    classification_offsets: Tensor | None  # ΔC [K, bins, bins, 2], fractions of the proposal's size
    localization_offset: Tensor | None  # ΔR [K, 2], fractions of the proposal's size
    classification_points: Tensor | None  # P̂_c [K, bins, bins, 2] (x, y): bin centres moved by their offsets
    localization_proposals: Tensor | None  # P̂_r [K, 4]

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
