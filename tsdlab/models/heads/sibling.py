"""The classical head: one region, one trunk, two sibling outputs (Fast R-CNN; with FPN, 2 × 1024)."""

from __future__ import annotations

from types import MappingProxyType

from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from tsdlab.config import Config
from tsdlab.models.heads.base import Head, roi_feature_size
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput


class SiblingHead(Head[HeadOutput]):
    """Classifies and localizes from the same features of the proposal."""

    torchvision_modules = MappingProxyType({"box_head": ("box_head",), "box_predictor": ("box_predictor",)})

    def __init__(self, config: Config) -> None:
        super().__init__()
        # torchvision's modules under torchvision's names, so that its weights fit.
        self.box_head = TwoMLPHead(roi_feature_size(config), config.roi.hidden)
        self.box_predictor = FastRCNNPredictor(config.roi.hidden, 1 + config.num_classes)

    def forward(self, pool: RegionPooler, rois: Tensor, all_branches: bool = False) -> HeadOutput:
        return self.predict(pool(rois), rois)

    def predict(self, roi_features: Tensor, rois: Tensor) -> HeadOutput:
        """Predict from features that are already pooled: [K, C, bins, bins] of rois [K, 5]."""
        logits, deltas = self.box_predictor(self.box_head(roi_features))
        return HeadOutput(logits=logits, deltas=deltas.unflatten(1, (-1, 4)), boxes=rois[:, 1:])
