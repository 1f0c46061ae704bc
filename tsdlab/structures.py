"""What flows through the detector. Shapes and units are said here once.

K counts RoIs over all images of a batch, C classes without background (label 0 is background). Boxes are xyxy in
pixels of the image the detector sees, unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Category:
    """A class of objects, as an annotation file names it."""

    id: int
    name: str


@dataclass
class Samples:
    """RoIs drawn for training, with what each should become."""

    rois: Tensor  # [K, 5] (image index, x1, y1, x2, y2)
    labels: Tensor  # [K] int64 in 0…C
    matched_boxes: Tensor  # [K, 4] the ground truth each RoI overlaps most; of no meaning where labels == 0


@dataclass
class HeadOutput:
    """What a head says of each RoI."""

    logits: Tensor  # [K, 1 + C]
    deltas: Tensor  # [K, 1 + C, 4] one box delta per class, as torchvision's BoxCoder reads them
    boxes: Tensor  # [K, 4] the boxes the deltas are relative to: P, or P̂_r
    classification_offsets: Tensor | None = None  # ΔC [K, bins, bins, 2] (dx, dy), fractions of the RoI's size
    localization_offset: Tensor | None = None  # ΔR [K, 2] (dx, dy), likewise; or one per bin, as ΔC
    sibling: HeadOutput | None = None  # TSD's jointly trained sibling head, when it was asked for
    counterpart: HeadOutput | None = None  # Double-Head-Ext: each branch's answer to the other one's task
    fused_scores: Tensor | None = None  # [K, 1 + C] class scores, where they are not the softmax of `logits`

    def scores(self) -> Tensor:
        """Class scores [K, 1 + C] in 0…1, float32."""
        return self.logits.float().softmax(dim=1) if self.fused_scores is None else self.fused_scores


@dataclass
class BranchTrace:
    """One branch's answer to every proposal of a traced image."""

    logits: Tensor  # [K, 1 + C]
    scores: Tensor  # [K, 1 + C] 0…1
    boxes: Tensor  # [K, 1 + C, 4] decoded, clipped to the image; original-image pixels


@dataclass
class Answer:
    """What a detector says of proposals; boxes and points in original-image pixels.

    Regions and offsets are None for heads that do not move their regions; those of localization also for a TSD that
    moves them bin by bin.
    """

    proposals: Tensor  # P [K, 4]
    levels: Tensor  # [K] int64 index into the pooled levels
    branches: dict[str, BranchTrace]  # "sibling", if there is one, then what inference uses, by the name of the head
    classification_offsets: Tensor | None  # ΔC [K, bins, bins, 2], fractions of the proposal's size
    localization_offset: Tensor | None  # ΔR [K, 2], fractions of the proposal's size
    classification_points: Tensor | None  # P̂_c [K, bins, bins, 2] (x, y): bin centres after their offsets
    localization_proposals: Tensor | None  # P̂_r [K, 4]

    @property
    def detection(self) -> BranchTrace:
        """The answer of the branches that inference uses."""
        return list(self.branches.values())[-1]

    @property
    def sibling(self) -> BranchTrace | None:
        """The sibling head's answer; of a sibling model, the model's own."""
        return self.branches.get("sibling")


@dataclass
class DetectionTrace(Answer):
    """Everything the detector did with one image: the answer to its proposals, best RPN score first, and more."""

    image_size: tuple[int, int]  # (height, width)
    features: dict[str, Tensor]  # level name → [1, channels, h, w]
    strides: dict[str, tuple[float, float]]  # level name → (y, x) original-image pixels per feature cell
    proposal_scores: Tensor  # [K] RPN objectness, 0…1; NaN for proposals given by the caller
    detections: dict[str, Tensor]  # boxes, labels, scores after NMS, as the model returns them
