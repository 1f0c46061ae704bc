"""Task-aware spatial disentanglement (Song et al., CVPR 2020, arXiv 2003.07540).

P → pool → F ─┬→ sibling(F)                             training only; the constraint compares against it
              └→ shared FC ─┬→ F_c → ΔC → pool(P, ΔC) → class logits           Eq. 5, 6
                            └→ F_r → ΔR → pool(P + ΔR) → deltas, relative to P̂_r   Eq. 3, 4
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsdlab.config import Config
from tsdlab.models.heads.base import BRANCH_MODULES, Branch, Head, roi_feature_size
from tsdlab.models.heads.sibling import SiblingHead
from tsdlab.models.losses import detection_losses, progressive_constraint
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput, Samples


class TSDHead(Head):
    """One proposal becomes two: a deformed one to classify from, a translated one to localize from."""

    # The offsets start at zero, so that both regions are the proposal itself and the branches answer as the sibling.
    torchvision_modules: ClassVar = {
        **BRANCH_MODULES,
        "box_head": ("sibling.box_head", *BRANCH_MODULES["box_head"]),
        "box_predictor": ("sibling.box_predictor",),
    }

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.tsd
        hidden, bins = config.tsd.offset_hidden, config.roi.output_size
        self.offset_trunk = nn.Linear(roi_feature_size(config), hidden)
        self.classification_offset = _offset_net(hidden, bins * bins * 2)
        self.localization_offset = _offset_net(hidden, 2)
        self.classification = Branch(config, 1 + config.num_classes)
        self.localization = Branch(config, 4 * (1 + config.num_classes))
        self.sibling = SiblingHead(config)

    def forward(self, pool: RegionPooler, rois: Tensor, with_sibling: bool = False) -> HeadOutput:
        levels = pool.assign_levels(rois)  # P̂_c and P̂_r stay on the level of P
        roi_features = pool(rois, levels)
        classification_offsets, localization_offset = self.offsets(roi_features)
        moved = translate(rois, localization_offset)
        boxes = moved if self.config.boxes_teach_offset else moved.detach()
        return HeadOutput(
            logits=self.classification(pool(rois, levels, classification_offsets)),
            deltas=self.localization(pool(moved, levels)).unflatten(1, (-1, 4)),
            boxes=boxes[:, 1:],
            classification_offsets=classification_offsets,
            localization_offset=localization_offset,
            sibling=self.sibling.answer(roi_features, rois) if with_sibling else None,
        )

    def offsets(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """ΔC [K, bins, bins, 2] and ΔR [K, 2] (dx, dy) as fractions of the RoI's size (Eq. 5 and 3)."""
        bins = roi_features.shape[-1]
        hidden = F.relu(self.offset_trunk(roi_features.flatten(1)))
        classification = self.config.gamma * self.classification_offset(hidden).view(-1, bins, bins, 2)
        return classification.float(), (self.config.gamma * self.localization_offset(hidden)).float()

    def losses(self, pool: RegionPooler, output: HeadOutput, samples: Samples) -> dict[str, Tensor]:
        """L_cls^D, L_loc^D, L_cls, L_loc, M_cls and M_loc, all of weight 1.

        Without the progressive constraint its two losses are constant zeros.
        """
        classification, localization = detection_losses(output, samples)
        # forward(with_sibling=True) is the contract of training; progressive_constraint says so if it was broken.
        sibling_classification, sibling_localization = detection_losses(cast(HeadOutput, output.sibling), samples)
        margin_classification = margin_localization = torch.zeros_like(classification)
        if self.config.progressive_constraint:
            margin_classification, margin_localization = progressive_constraint(
                output, samples, self.config.classification_margin, self.config.localization_margin
            )
        return {
            "loss_classifier": classification,
            "loss_box_reg": localization,
            "loss_sibling_classifier": sibling_classification,
            "loss_sibling_box_reg": sibling_localization,
            "loss_margin_classifier": margin_classification,
            "loss_margin_box_reg": margin_localization,
        }


def translate(rois: Tensor, offset: Tensor) -> Tensor:
    """P̂_r = P + ΔR (Eq. 4): rois [K, 5] moved by offset [K, 2], fractions of their size; the size stays."""
    size = rois[:, 3:5] - rois[:, 1:3]
    shift = offset * size
    return torch.cat([rois[:, :1], rois[:, 1:3] + shift, rois[:, 3:5] + shift], dim=1)


def _offset_net(hidden: int, outputs: int) -> nn.Sequential:
    """FC → ReLU → FC that starts at zero: before training both regions are the proposal itself."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), last)
