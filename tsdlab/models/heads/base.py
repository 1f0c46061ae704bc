"""What every head is, and the 2-FC branch they are built from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from tsdlab.config import Config
from tsdlab.models.losses import detection_losses
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput, Samples


class Head(nn.Module, ABC):
    """Says class and box of each RoI; given samples, says how wrong it was.

    Subclasses are built from a `Config` alone and registered in `tsdlab.models.heads.HEADS`.
    """

    # Where the modules of torchvision's second stage fit into this head: copies may go to several places. A head with
    # all of them in the branches that answer detects at first as torchvision does.
    torchvision_modules: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @abstractmethod
    def forward(self, pool: RegionPooler, rois: Tensor, with_sibling: bool = False) -> HeadOutput:
        """Answer for rois [K, 5] (image index, xyxy pixels).

        Args:
            pool: features of the batch; `pool(rois, levels, offsets)` → [K, channels, bins, bins].
            rois: the proposals P.
            with_sibling: also give the answer of the sibling head, if there is one in this head.
        """

    def losses(self, pool: RegionPooler, output: HeadOutput, samples: Samples) -> dict[str, Tensor]:
        """Losses by name; always the same names, whatever the batch holds.

        Args:
            pool: what `output` was pooled with, for a head that trains on further regions.
            output: the answer to `samples.rois`, given with_sibling=True.
            samples: what it should have been.
        """
        classification, localization = detection_losses(output, samples)
        return {"loss_classifier": classification, "loss_box_reg": localization}

    def box_confidence(self, pool: RegionPooler, rois: Tensor, labels: Tensor) -> Tensor | None:
        """How well boxes fit objects of their class, 0…1, by which they are then ranked in NMS; None: this head
        cannot tell.

        Args:
            pool: features of the batch.
            rois: [D, 5] (image index, decoded box); differentiable in the boxes.
            labels: [D] int64 in 1…C.
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


# Two branches named `classification` and `localization`, begun as copies of torchvision's trunk and its two outputs.
BRANCH_MODULES = {
    "box_head": ("classification.fc", "localization.fc"),
    "box_predictor.cls_score": ("classification.out",),
    "box_predictor.bbox_pred": ("localization.out",),
}


def roi_feature_size(config: Config) -> int:
    """Length of one RoI's flattened features."""
    return config.backbone.fpn_channels * config.roi.output_size**2
