"""The second stage: proposals → samples → head → losses, or proposals → head → detections; the same for any head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from tsdlab.config import Config, RoIConfig
from tsdlab.errors import InputError
from tsdlab.models.heads import Head, build_head
from tsdlab.models.postprocess import candidates_per_image, detections_of, without_slivers
from tsdlab.models.refinement import RefiningHead
from tsdlab.ops import MultiScaleDeformRoIAlign, RegionPooler
from tsdlab.structures import HeadOutput, Samples


class RoIHeads(nn.Module):
    """Takes the place of torchvision's RoIHeads in a GeneralizedRCNN, with any `Head`.

    `config` holds the default thresholds and limits of post-processing.
    """

    def __init__(self, config: RoIConfig, pooler: MultiScaleDeformRoIAlign, head: Head) -> None:
        super().__init__()
        self.config = config
        self.pooler = pooler
        self.head = head
        self._match = Matcher(config.fg_iou, config.fg_iou, allow_low_quality_matches=False)
        self._draw = BalancedPositiveNegativeSampler(config.samples_per_image, config.positive_fraction)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training mode, detections in eval mode; the other one is empty.

        Args:
            features: pyramid levels "0", "1", … (others are ignored), each [N, C, h, w].
            proposals: per image [k, 4], xyxy in pixels of the resized image.
            image_shapes: (height, width) of every resized image.
            targets: per image {"boxes" [n, 4], "labels" [n] int64, 1…C}; training only.
        """
        if not self.training:
            return self.detect(features, proposals, image_shapes), {}
        if targets is None:
            raise InputError("training needs targets, one dict of boxes and labels for each image; got None")
        pool = self.prepare(features)
        samples = self.sample(proposals, targets)
        output = self.head(pool, samples.rois, all_branches=True)
        losses = self.head.losses(pool, output, samples)
        return [], {name: self.config.loss_weight * loss for name, loss in losses.items()}

    def detect(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        postprocessing: RoIConfig | None = None,
    ) -> list[dict[str, Tensor]]:
        """Detections of every image; first three arguments as for `forward`, the rest as for `postprocess`."""
        pool, rois = self.prepare(features), to_rois(proposals)
        return self.postprocess(pool, self.head(pool, rois), rois, image_shapes, postprocessing)

    def postprocess(
        self,
        pool: RegionPooler,
        output: HeadOutput,
        rois: Tensor,
        image_shapes: list[tuple[int, int]],
        postprocessing: RoIConfig | None = None,
    ) -> list[dict[str, Tensor]]:
        """From the head's predictions to detections: threshold, decode, suppress, refine.

        Args:
            pool: what `output` was pooled with.
            output: the head's prediction for `rois` [K, 5], the proposals of all images.
            image_shapes: (height, width) of every resized image.
            postprocessing: thresholds, NMS and limits; None takes those of `config`.

        Returns:
            Per image, best first, {"boxes" [D, 4] in pixels of the resized image, "labels" [D] int64, 1…C,
            "scores" [D]}.
        """
        config = postprocessing or self.config
        found = candidates_per_image(output, rois, image_shapes, config)
        confidence = self.head.box_confidence(pool, *_of_batch(found))
        parts = [None] * len(found) if confidence is None else confidence.split([len(f["boxes"]) for f in found])
        found = [detections_of(f, config, part) for f, part in zip(found, parts)]
        if isinstance(self.head, RefiningHead):  # last, because gradients for every candidate would be expensive
            boxes = self.head.refine(pool, *_of_batch(found)).split([len(f["boxes"]) for f in found])
            found = [without_slivers({**f, "boxes": b}, s) for f, b, s in zip(found, boxes, image_shapes)]
        return found

    def prepare(self, features: dict[str, Tensor]) -> RegionPooler:
        """What the head pools regions of `features` with, for any number of poolings."""
        return self.pooler([features[str(i)] for i in range(len(self.pooler.strides))])

    @torch.no_grad()
    def sample(self, proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> Samples:
        """Match proposals (and the ground-truth boxes themselves) to objects; draw a balanced set from each image."""
        drawn = [self._sample_image(p, t["boxes"].to(p.dtype), t["labels"]) for p, t in zip(proposals, targets)]
        boxes, labels, matched = zip(*drawn)
        return Samples(to_rois(boxes), torch.cat(labels), torch.cat(matched))

    def _sample_image(self, proposals: Tensor, truth: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes = torch.cat([proposals, truth])
        if len(truth) == 0:
            assigned = labels.new_zeros(len(boxes))
            matched = torch.zeros_like(boxes)
        else:
            index = self._match(box_iou(truth, boxes))  # −1 where no object overlaps enough
            assigned = labels[index.clamp(min=0)] * (index >= 0)
            matched = truth[index.clamp(min=0)]
        positive, negative = self._draw([assigned])
        keep = torch.where(positive[0] | negative[0])[0]
        return boxes[keep], assigned[keep], matched[keep]


def build_roi_heads(config: Config, strides: Sequence[int]) -> RoIHeads:
    """The second stage that `config` describes, for a pyramid with these strides (pixels per feature cell)."""
    roi = config.roi
    pooler = MultiScaleDeformRoIAlign(strides, roi.output_size, roi.sampling_ratio, roi.aligned, roi.canonical_size)
    return RoIHeads(roi, pooler, build_head(config))


def _of_batch(found: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """The boxes of all images as rois [D, 5], and their labels [D]."""
    return to_rois([f["boxes"] for f in found]), torch.cat([f["labels"] for f in found])


def to_rois(boxes: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Boxes of each image ([k, 4] each) as one [K, 5] tensor with the image index in front."""
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b], dim=1) for i, b in enumerate(boxes)])
