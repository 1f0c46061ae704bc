"""Double-Head R-CNN (Wu et al., CVPR 2020, arXiv 1904.06493): fully connected layers classify, convolutions localize.

P ─┬→ pool(P)           → 2 FC                    → class logits            [extended: and deltas]
   └→ pool(P enlarged)  → convolutions → average  → deltas, relative to P   [extended: and class logits]

Double-Head-Ext ("extended") trains both branches for both tasks, and classifies with both. The region of its
classification is still called P, because that is what its fc branch pools. "Reference code" is
wuyuebupt/doubleheadsrcnn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from tsdlab.config import Config
from tsdlab.errors import InputError
from tsdlab.models.heads.base import Branch, Head
from tsdlab.models.losses import detection_losses
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput, Region, Samples

_GROUP = 16  # channels normalized together


@dataclass
class DoubleExtOutput(HeadOutput):
    """Double-Head-Ext's prediction: logits of the fc branch, deltas of the conv branch, and the opposite of both."""

    counterpart: HeadOutput  # logits of the conv branch, deltas of the fc branch

    def scores(self) -> Tensor:
        return fuse_scores(super().scores(), self.counterpart.scores())


class DoubleHead(Head[HeadOutput]):
    """A 2-FC branch for the class, a convolutional branch for the box."""

    # Only the fc branch has the layers of torchvision's second stage. The convolutions start with random weights.
    torchvision_modules: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {"box_head": ("classification.fc",), "box_predictor.cls_score": ("classification.out",)}
    )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.double
        logits, deltas = 1 + config.num_classes, 4 * (1 + config.num_classes)
        self.classification = Branch(config, logits)
        self.localization = ConvBranch(config, deltas)
        # Each branch's output for the other branch's task. Only "extended" trains them.
        self.fc_deltas = nn.Linear(config.roi.hidden, deltas) if config.double.extended else None
        self.conv_logits = nn.Linear(config.roi.hidden, logits) if config.double.extended else None
        if config.double.extended:
            self.torchvision_modules = {**self.torchvision_modules, "box_predictor.bbox_pred": ("fc_deltas",)}

    def forward(self, pool: RegionPooler, rois: Tensor, all_branches: bool = False) -> HeadOutput:
        # The enlarged region is pooled from the level of P, as in the reference code and in mmdetection. Its own size
        # would often assign it to a coarser level, which is meant for larger objects.
        levels = pool.assign_levels(rois)
        fc = self.classification.fc(pool(rois, levels))  # [K, hidden]
        enlarged = enlarge(rois, self.config.box_scale)
        conv = self.localization.conv(pool(enlarged, levels))  # [K, hidden]
        logits = self.classification.out(fc)
        deltas = self.localization.out(conv).unflatten(1, (-1, 4))
        boxes, regions = rois[:, 1:], {"localization": Region(enlarged[:, 1:])}
        if self.fc_deltas is None or self.conv_logits is None:
            return HeadOutput(logits, deltas, boxes, regions=regions)
        counterpart = HeadOutput(self.conv_logits(conv), self.fc_deltas(fc).unflatten(1, (-1, 4)), boxes)
        return DoubleExtOutput(logits, deltas, boxes, counterpart, regions=regions)

    def losses(self, pool: RegionPooler, output: HeadOutput, samples: Samples) -> dict[str, Tensor]:
        """Classification loss of the fc branch and localization loss of the conv branch, each × loss_weight.

        Double-Head-Ext adds the other task of each branch. The two tasks of a branch share its weight:
        L_fc = λ_fc · cls + (1 − λ_fc) · reg and L_conv = (1 − λ_conv) · cls + λ_conv · reg.
        """
        config, weight = self.config, self.config.loss_weight
        classification, localization = detection_losses(output, samples)
        if not isinstance(output, DoubleExtOutput):
            return {"loss_classifier": weight * classification, "loss_box_reg": weight * localization}
        conv_classification, fc_localization = detection_losses(output.counterpart, samples)
        return {
            "loss_classifier": weight * config.fc_classification * classification,
            "loss_box_reg": weight * config.conv_localization * localization,
            "loss_counterpart_classifier": weight * (1 - config.conv_localization) * conv_classification,
            "loss_counterpart_box_reg": weight * (1 - config.fc_classification) * fc_localization,
        }


class ConvBranch(nn.Module):
    """Residual convolutions, average pool and a linear output: RoI features [K, C, bins, bins] → [K, outputs].

    Raises:
        ValueError: roi.hidden is not a multiple of 4, which bottlenecks need.
    """

    def __init__(self, config: Config, outputs: int) -> None:
        super().__init__()
        hidden = config.roi.hidden
        if hidden % Bottleneck.expansion:
            raise InputError(f"roi.hidden must be a multiple of {Bottleneck.expansion} for this head, got {hidden}")
        self.conv = nn.Sequential(
            WideningBlock(config.backbone.fpn_channels, hidden),
            *(
                Bottleneck(hidden, hidden // Bottleneck.expansion, norm_layer=_norm)
                for _ in range(config.double.bottlenecks)
            ),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.out = nn.Linear(hidden, outputs)

    def forward(self, roi_features: Tensor) -> Tensor:
        return self.out(self.conv(roi_features))


class WideningBlock(nn.Module):
    """Residual block [K, channels, h, w] → [K, width, h, w]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _norm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, width, 1, bias=False),
            _norm(width),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), _norm(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.residual(x))


def _norm(channels: int) -> nn.GroupNorm:
    # The reference code has BatchNorm. Its averages would come from sampled RoIs, a quarter of them objects, while
    # evaluation meets all proposals; a batch without RoIs would make the averages NaN; and every process would have its
    # own averages. GroupNorm normalizes each RoI by itself and keeps no averages. The size of a group is fixed, not the
    # number of groups: in the narrow branch of a small preset, 32 groups would have one or two channels each.
    return nn.GroupNorm(channels // math.gcd(channels, _GROUP), channels)


def enlarge(rois: Tensor, scale: float) -> Tensor:
    """rois [K, 5] with boxes `scale` times as wide and high around the same centre; they may leave the image."""
    centre = (rois[:, 1:3] + rois[:, 3:5]) / 2
    half = scale / 2 * (rois[:, 3:5] - rois[:, 1:3])
    return torch.cat([rois[:, :1], centre - half, centre + half], dim=1)


def fuse_scores(fc: Tensor, conv: Tensor) -> Tensor:
    """Fuse the class scores [K, 1 + C] of both branches: s = s_fc + s_conv · (1 − s_fc) for each object class.

    A class is present unless both branches deny it. Column 0, background, is the product of both background scores.
    A row need not sum to 1.
    """
    return torch.cat([fc[:, :1] * conv[:, :1], fc[:, 1:] + conv[:, 1:] * (1 - fc[:, 1:])], dim=1)
