"""D_head: one region, and a separate branch for each task (TSD paper, Fig. 3 and Tab. 1).

It is the control for TSD: it has TSD's separate branches, but does not move its regions.
"""

from __future__ import annotations

from torch import Tensor

from tsdlab.config import Config
from tsdlab.models.heads.base import BRANCH_MODULES, Branch, Head
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput


class DHead(Head[HeadOutput]):
    """Two separate 2-FC branches on the features of the proposal."""

    torchvision_modules = BRANCH_MODULES

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.classification = Branch(config, 1 + config.num_classes)
        self.localization = Branch(config, 4 * (1 + config.num_classes))

    def forward(self, pool: RegionPooler, rois: Tensor, all_branches: bool = False) -> HeadOutput:
        roi_features = pool(rois)
        return HeadOutput(
            logits=self.classification(roi_features),
            deltas=self.localization(roi_features).unflatten(1, (-1, 4)),
            boxes=rois[:, 1:],
        )
