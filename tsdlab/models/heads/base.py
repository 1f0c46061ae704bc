"""What every head is, and the 2-FC branch that most heads are built from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from tsdlab.config import Config
from tsdlab.models.losses import detection_losses
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput, Samples

Output = TypeVar("Output", bound=HeadOutput)


class Head(nn.Module, ABC, Generic[Output]):
    """Predicts the class and the box of each RoI, and computes its own losses.

    A subclass is built from a `Config` alone and is listed in `tsdlab.config.HEADS`. A head that predicts more than
    logits, deltas and boxes is a `Head[ItsOutput]`, where ItsOutput is its own subclass of `HeadOutput`.

    The rows of its output layers are those of the background first, if it has any, then class after class: weights of
    another data set are then taken over class by class (`tsdlab.models.start`).
    """

    # Which modules of this head can start as copies of torchvision's second stage: torchvision's name → names here.
    # A head whose inference uses only such copies detects as torchvision does, until it is trained.
    torchvision_modules: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @abstractmethod
    def forward(self, pool: RegionPooler, rois: Tensor, all_branches: bool = False) -> Output:
        """Predict for rois [K, 5] (image index, xyxy pixels).

        Args:
            pool: the features of the batch; `pool(rois, levels, offsets)` → [K, channels, bins, bins].
            rois: the proposals P.
            all_branches: also run the branches that inference does not use. True in training and in analysis.
        """

    def losses(self, pool: RegionPooler, output: Output, samples: Samples) -> dict[str, Tensor]:
        """Losses by name. The names never depend on the batch, and every parameter gets a gradient from every batch.

        Args:
            pool: what `output` was pooled with, for a head that trains on further regions.
            output: the prediction for `samples.rois`, made with all_branches=True.
            samples: the targets.
        """
        classification, localization = detection_losses(output, samples)
        return {"loss_classifier": classification, "loss_box_reg": localization}

    def box_confidence(self, pool: RegionPooler, rois: Tensor, labels: Tensor) -> Tensor | None:
        """How well boxes fit objects of their class [D], 0…1. NMS then ranks boxes by it instead of by their scores.

        None: this head does not predict it.

        Args:
            pool: the features of the batch.
            rois: [D, 5] (image index, decoded box); the result is differentiable in the boxes.
            labels: [D] int64, 1…C.
        """
        return None


class Branch(nn.Module):
    """Two fully connected layers and a linear output: RoI features [K, C, bins, bins] → [K, outputs]."""

    def __init__(self, config: Config, outputs: int) -> None:
        super().__init__()
        self.fc = TwoMLPHead(roi_feature_size(config), config.roi.hidden)
        self.out = nn.Linear(config.roi.hidden, outputs)

    def forward(self, roi_features: Tensor) -> Tensor:
        return self.out(self.fc(roi_features))


# `torchvision_modules` of a head with two branches, named `classification` and `localization`: both start with
# torchvision's trunk, and each with one of its two outputs.
BRANCH_MODULES = {
    "box_head": ("classification.fc", "localization.fc"),
    "box_predictor.cls_score": ("classification.out",),
    "box_predictor.bbox_pred": ("localization.out",),
}


def roi_feature_size(config: Config) -> int:
    """Length of one RoI's flattened features."""
    return config.backbone.fpn_channels * config.roi.output_size**2
