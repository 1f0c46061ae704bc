"""Task-aware spatial disentanglement (Song et al., CVPR 2020, arXiv 2003.07540).

P → pool → F ─┬→ sibling(F)                             training only; the constraint compares against it
              └→ shared FC ─┬→ F_c → ΔC → pool(P, ΔC) → class logits           Eq. 5, 6
                            └→ F_r → ΔR → pool(P + ΔR) → deltas, relative to P̂_r   Eq. 3, 4
"""

from __future__ import annotations

from typing import cast

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
    torchvision_modules = BRANCH_MODULES

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.tsd
        features, hidden, self.bins = roi_feature_size(config), config.tsd.offset_hidden, config.roi.output_size
        self.offset_trunk = nn.Linear(features, hidden)
        # ΔR's own first layer, where it does not share ΔC's.
        self.localization_trunk = None if config.tsd.share_first_layer else nn.Linear(features, hidden)
        self.classification_offset = _offset_net(hidden, 2 * self._moved_apart(config.tsd.classification_region))
        self.localization_offset = _offset_net(hidden, 2 * self._moved_apart(config.tsd.localization_region))
        self.classification = Branch(config, 1 + config.num_classes)
        self.localization = Branch(config, 4 * (1 + config.num_classes))
        self.sibling = SiblingHead(config) if config.tsd.joint_sibling else None
        if self.sibling is not None:
            self.torchvision_modules = {
                **BRANCH_MODULES,
                "box_head": ("sibling.box_head", *BRANCH_MODULES["box_head"]),
                "box_predictor": ("sibling.box_predictor",),
            }

    def _moved_apart(self, region: str) -> int:
        """How many displacements a region has."""
        return self.bins**2 if region == "bins" else 1

    def forward(self, pool: RegionPooler, rois: Tensor, with_sibling: bool = False) -> HeadOutput:
        levels = pool.assign_levels(rois)  # P̂_c and P̂_r stay on the level of P
        roi_features = pool(rois, levels)
        classification_offsets, localization_offset = self.offsets(roi_features)
        boxes = rois
        if localization_offset.dim() == 2:
            moved = translate(rois, localization_offset)
            boxes = moved if self.config.boxes_teach_offset else moved.detach()
            localization_features = pool(moved, levels)
        else:
            localization_features = pool(rois, levels, localization_offset)
        return HeadOutput(
            logits=self.classification(pool(rois, levels, classification_offsets)),
            deltas=self.localization(localization_features).unflatten(1, (-1, 4)),
            boxes=boxes[:, 1:],
            classification_offsets=classification_offsets,
            localization_offset=localization_offset,
            sibling=self.sibling.answer(roi_features, rois) if with_sibling and self.sibling is not None else None,
        )

    def offsets(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """ΔC [K, bins, bins, 2] and ΔR [K, 2] (dx, dy) as fractions of the RoI's size (Eq. 5 and 3).

        A ΔC for the whole proposal is the same in every bin; a ΔR for every bin is [K, bins, bins, 2], too.
        """
        features = roi_features.flatten(1)
        if not self.config.offsets_teach_features:
            features = features.detach()
        hidden = F.relu(self.offset_trunk(features))
        classification = self.config.gamma * self.classification_offset(hidden).float()
        if self.localization_trunk is not None:
            hidden = F.relu(self.localization_trunk(features))
        localization = self.config.gamma * self.localization_offset(hidden).float()
        bins = self.bins
        if self.config.classification_region == "bins":
            classification = classification.view(-1, bins, bins, 2)
        else:
            classification = classification[:, None, None].expand(-1, bins, bins, 2)
        if self.config.localization_region == "bins":
            localization = localization.view(-1, bins, bins, 2)
        return classification, localization

    def losses(self, pool: RegionPooler, output: HeadOutput, samples: Samples) -> dict[str, Tensor]:
        """L_cls^D, L_loc^D, L_cls, L_loc, M_cls and M_loc, all of weight 1.

        Without the progressive constraint its two losses are constant zeros; without a sibling there are none of it.
        """
        classification, localization = detection_losses(output, samples)
        losses = {"loss_classifier": classification, "loss_box_reg": localization}
        if self.sibling is None:
            return losses
        # forward(with_sibling=True) is the contract of training; progressive_constraint says so if it was broken.
        sibling_classification, sibling_localization = detection_losses(cast(HeadOutput, output.sibling), samples)
        config = self.config
        margin_classification, margin_localization = progressive_constraint(
            output,
            samples,
            config.classification_margin if config.progressive_constraint else None,
            config.localization_margin if config.progressive_constraint else None,
            config.constraint_teaches_sibling,
        )
        return {
            **losses,
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
