"""IoU-Net (Jiang et al., "Acquisition of Localization Confidence for Accurate Object Detection", ECCV 2018).

P → pool → sibling head → class logits, deltas → boxes B
B → Precise RoI Pooling → 2-FC branch → predicted IoU of B with its object; it ranks the boxes and refines them
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tsdlab.config import Config
from tsdlab.models.heads.base import Branch
from tsdlab.models.heads.sibling import SiblingHead
from tsdlab.models.refinement import ascend
from tsdlab.ops import MultiScaleDeformRoIAlign, RegionPooler, precise
from tsdlab.ops.bag import FeatureTable
from tsdlab.structures import HeadOutput, Samples


class IoUHead(SiblingHead):
    """The sibling head, and a branch that predicts how well a box fits an object of a class.

    Classes and boxes come from RoIAlign as in every other head. The publication uses Precise RoI Pooling for them too.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config.iou
        self.iou = Branch(config, config.num_classes)

    def losses(self, pool: RegionPooler, output: HeadOutput, samples: Samples) -> dict[str, Tensor]:
        """The sibling head's losses, and the IoU branch's smooth L1 on jittered ground truth (mean over boxes)."""
        rois, labels = _objects(samples).repeat_interleave(self.config.boxes_per_object, dim=0).split([5, 1], dim=1)
        lowest = self.config.min_iou
        iou = lowest + (1 - lowest) * torch.rand_like(rois[:, 0])
        rois = torch.cat([rois[:, :1], jitter(rois[:, 1:], iou)], dim=1)
        fit = self._fit(pool.pyramid.table, pool.scheme, rois, labels[:, 0].long())
        target = 2 * (iou - lowest) / (1 - lowest) - 1
        loss = F.smooth_l1_loss(fit, target, reduction="sum") / max(len(rois), 1)
        return {**super().losses(pool, output, samples), "loss_iou": self.config.loss_weight * loss}

    def predict_iou(self, pool: RegionPooler, rois: Tensor, labels: Tensor) -> Tensor:
        """Predicted IoU [D] of each box with its object; arguments as for `box_confidence`.

        It is a regression to 0…1 without a clamp: clamped boxes would tie and have no gradient.
        """
        return self._to_iou(self._fit(pool.pyramid.table, pool.scheme, rois, labels))

    def box_confidence(self, pool: RegionPooler, rois: Tensor, labels: Tensor) -> Tensor | None:
        """The predicted IoU; None if NMS ranks boxes by their scores (`iou.guided_nms` is False)."""
        return self.predict_iou(pool, rois, labels) if self.config.guided_nms else None

    def refine(self, pool: RegionPooler, rois: Tensor, labels: Tensor) -> Tensor:
        """Move the boxes of rois [D, 5] (image index, box) to a higher predicted IoU: [D, 4]; labels [D] are 1…C."""
        # Full precision: half precision does not resolve the small changes of IoU that stop the ascent.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(rois.device.type, enabled=False):
            table = pool.pyramid.table
            # A tensor made in inference mode cannot take part in a gradient; a copy can.
            rows = table.rows.detach().to(self.iou.out.weight.dtype, copy=table.rows.is_inference())
            table, images = replace(table, rows=rows), rois[:, :1].clone()

            def confidence(boxes: Tensor, which: Tensor) -> Tensor:
                regions = torch.cat([images[which], boxes], dim=1)
                return self._to_iou(self._fit(table, pool.scheme, regions, labels[which]))

            return ascend(confidence, rois[:, 1:], self.config)

    def _fit(self, table: FeatureTable, scheme: MultiScaleDeformRoIAlign, rois: Tensor, labels: Tensor) -> Tensor:
        """The branch's output [D] for rois [D, 5] and their classes [D] in 1…C: −1 is min_iou, 1 a perfect fit."""
        levels = scheme.assign_levels(rois[:, 1:])
        roi_features = precise.pool(table, rois, levels, (scheme.output_size, scheme.output_size), scheme.aligned)
        fit = self.iou(roi_features).gather(1, labels[:, None] - 1)[:, 0]
        return fit.to(torch.promote_types(fit.dtype, torch.float32))

    def _to_iou(self, fit: Tensor) -> Tensor:
        return self.config.min_iou + (1 - self.config.min_iou) * (fit + 1) / 2


def _objects(samples: Samples) -> Tensor:
    """[n, 6] (image index, box, label): the ground-truth objects that at least one sample was matched to."""
    positive = samples.labels > 0
    return torch.cat(
        [samples.rois[positive, :1], samples.matched_boxes[positive], samples.labels[positive, None]], dim=1
    ).unique(dim=0)


def jitter(boxes: Tensor, iou: Tensor) -> Tensor:
    """Move the four edges of each box in a random direction until the box has the given IoU with the original.

    Directions are isotropic in fractions of the box's size, drawn from torch's global generator. Boxes are not clipped
    to the image, because clipping would change the IoU.

    Let t be the length of the motion. The sides of the intersection are 1 − p t and 1 − q t in fractions of the box's
    sides, where p, q ≥ 0 sum the edges that move inwards. The sides of the moved box are longer by r t and s t, where
    r, s ≥ 0 sum the edges that move outwards. Then
    1 / IoU = (1 + (1 − p t + r t)(1 − q t + s t)) / ((1 − p t)(1 − q t)) − 1
            = 1 / ((1 − p t)(1 − q t)) + (1 + r t / (1 − p t))(1 + s t / (1 − q t)) − 1.
    It grows with t as long as there is an intersection, so every IoU belongs to one length: the smaller positive root
    of a quadratic.

    Args:
        boxes: [n, 4] xyxy, not empty.
        iou: [n], above 0 and at most 1.

    Returns:
        [n, 4] boxes with the given IoU, up to rounding.
    """
    direction = torch.randn_like(boxes)  # (dx1, dy1, dx2, dy2)
    outward = direction * direction.new_tensor([-1.0, -1.0, 1.0, 1.0])
    p, q = outward.clamp(max=0).abs().unflatten(1, (2, 2)).sum(dim=1).unbind(dim=1)
    r, s = outward.clamp(min=0).unflatten(1, (2, 2)).sum(dim=1).unbind(dim=1)
    k = 1 + 1 / iou
    # a t² + b t + 2 − k = 0 with b > 0 and 2 − k ≤ 0. This form of the root has no cancellation.
    a, b = (r - p) * (s - q) - k * p * q, r - p + s - q + k * (p + q)
    length = 2 * (k - 2) / (b + (b**2 + 4 * a * (k - 2)).clamp(min=0).sqrt())
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + length[:, None] * direction * size
