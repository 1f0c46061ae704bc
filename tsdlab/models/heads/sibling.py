"""The classical head: one region, one trunk, two sibling outputs (Fast R-CNN; with FPN, 2 × 1024)."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from tsdlab.config import Config
from tsdlab.models.heads.base import Head, roi_feature_size
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput


class SiblingHead(Head):
    """Classification and localization from the same features of the same proposal."""

    torchvision_modules = MappingProxyType({"box_head": ("box_head",), "box_predictor": ("box_predictor",)})

    def __init__(self, config: Config) -> None:
        super().__init__()
        # torchvision's modules under torchvision's names, so that its weights fit.
        self.box_head = TwoMLPHead(roi_feature_size(config), config.roi.hidden)
        self.box_predictor = FastRCNNPredictor(config.roi.hidden, 1 + config.num_classes)

    def forward(self, pool: RegionPooler, rois: Tensor, with_sibling: bool = False) -> HeadOutput:
        output = self.answer(pool(rois), rois)
        return replace(output, sibling=output) if with_sibling else output

    def answer(self, roi_features: Tensor, rois: Tensor) -> HeadOutput:
        """The head on features already pooled: [K, C, bins, bins] of rois [K, 5]."""
        logits, deltas = self.box_predictor(self.box_head(roi_features))
        return HeadOutput(logits=logits, deltas=deltas.unflatten(1, (-1, 4)), boxes=rois[:, 1:])
