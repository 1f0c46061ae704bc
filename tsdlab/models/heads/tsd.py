"""Task-aware spatial disentanglement (Song et al., CVPR 2020, arXiv 2003.07540).

P → pool → F ─┬→ sibling(F)                             not in inference; the constraint compares with it
              └→ shared FC ─┬→ F_c → ΔC → pool(P, ΔC) → class logits           Eq. 5, 6
                            └→ F_r → ΔR → pool(P + ΔR) → deltas, relative to P̂r   Eq. 3, 4
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsdlab.config import Config
from tsdlab.errors import InputError
from tsdlab.models.heads.base import BRANCH_MODULES, Branch, Head, roi_feature_size
from tsdlab.models.heads.sibling import SiblingHead
from tsdlab.models.losses import detection_losses, progressive_constraint
from tsdlab.ops import RegionPooler
from tsdlab.structures import HeadOutput, Region, Samples


@dataclass
class TSDOutput(HeadOutput):
    """TSD's prediction: `boxes` are P̂r, or P if the bins of the localization region are moved one by one."""

    sibling: HeadOutput | None  # prediction of the jointly trained sibling head; None without it, or in inference

    def extra_branches(self) -> dict[str, HeadOutput]:
        return {} if self.sibling is None else {"sibling": self.sibling}


class TSDHead(Head[TSDOutput]):
    """One proposal becomes two regions: a deformed one to classify from, a translated one to localize from."""

    # The offsets start at zero: both regions are then the proposal itself, and the branches predict what torchvision's
    # second stage would.
    torchvision_modules = BRANCH_MODULES

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.tsd
        self.moves_bins = config.tsd.localization_region == "bins"
        features, hidden, self.bins = roi_feature_size(config), config.tsd.offset_hidden, config.roi.output_size
        self.offset_trunk = nn.Linear(features, hidden)
        # ΔR's own first layer; None if it shares ΔC's.
        self.localization_trunk = None if config.tsd.share_first_layer else nn.Linear(features, hidden)
        self.classification_offset = _offset_net(hidden, 2 * self._displacements(config.tsd.classification_region))
        self.localization_offset = _offset_net(hidden, 2 * self._displacements(config.tsd.localization_region))
        self.classification = Branch(config, 1 + config.num_classes)
        self.localization = Branch(config, 4 * (1 + config.num_classes))
        self.sibling = SiblingHead(config) if config.tsd.joint_sibling else None
        if self.sibling is not None:
            self.torchvision_modules = {
                **BRANCH_MODULES,
                "box_head": ("sibling.box_head", *BRANCH_MODULES["box_head"]),
                "box_predictor": ("sibling.box_predictor",),
            }

    def _displacements(self, region: str) -> int:
        """How many displacements a region has: one for each bin, or one for the whole proposal."""
        return self.bins**2 if region == "bins" else 1

    def forward(self, pool: RegionPooler, rois: Tensor, all_branches: bool = False) -> TSDOutput:
        levels = pool.assign_levels(rois)  # P̂c and P̂r are pooled from the level of P
        roi_features = pool(rois, levels)
        classification_offsets, localization_offsets = self.offsets(roi_features)
        if self.moves_bins:
            boxes, localization_features = rois, pool(rois, levels, localization_offsets)
            localization = Region(rois[:, 1:], localization_offsets)
        else:
            moved = translate(rois, localization_offsets)
            boxes = moved if self.config.boxes_teach_offset else moved.detach()
            localization_features = pool(moved, levels)
            localization = Region(moved[:, 1:])
        return TSDOutput(
            logits=self.classification(pool(rois, levels, classification_offsets)),
            deltas=self.localization(localization_features).unflatten(1, (-1, 4)),
            boxes=boxes[:, 1:],
            sibling=self.sibling.predict(roi_features, rois) if all_branches and self.sibling is not None else None,
            regions={"classification": Region(rois[:, 1:], classification_offsets), "localization": localization},
        )

    def offsets(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """ΔC [K, bins, bins, 2] and ΔR [K, 2] (dx, dy), as fractions of the RoI's size (Eq. 5 and 3).

        If the whole proposal has one ΔC, it is repeated for every bin. If every bin has its own ΔR, ΔR is
        [K, bins, bins, 2].
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
        if self.moves_bins:
            localization = localization.view(-1, bins, bins, 2)
        return classification, localization

    def losses(self, pool: RegionPooler, output: TSDOutput, samples: Samples) -> dict[str, Tensor]:
        """L_cls^D, L_loc^D, L_cls, L_loc, M_cls and M_loc, each with weight 1.

        If the progressive constraint is turned off, M_cls and M_loc are constant zeros. If there is no sibling head,
        only the first two losses exist.

        Raises:
            ValueError: `output` was made without all_branches=True.
        """
        classification, localization = detection_losses(output, samples)
        losses = {"loss_classifier": classification, "loss_box_reg": localization}
        if self.sibling is None:
            return losses
        if output.sibling is None:
            raise InputError("TSD's losses need the sibling's prediction: call the head with all_branches=True")
        sibling_classification, sibling_localization = detection_losses(output.sibling, samples)
        config = self.config
        margin_classification, margin_localization = progressive_constraint(
            output,
            output.sibling,
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
    """P̂r = P + ΔR (Eq. 4): rois [K, 5] moved by offset [K, 2], fractions of their size; their size is kept."""
    size = rois[:, 3:5] - rois[:, 1:3]
    shift = offset * size
    return torch.cat([rois[:, :1], rois[:, 1:3] + shift, rois[:, 3:5] + shift], dim=1)


def _offset_net(hidden: int, outputs: int) -> nn.Sequential:
    """FC → ReLU → FC. The last layer starts at zero: before training both regions are the proposal itself."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), last)
