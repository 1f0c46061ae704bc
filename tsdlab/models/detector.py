"""`build_detector`: a torchvision detector whose second stage is ours."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from tsdlab.config import Config
from tsdlab.models.backbones import build_backbone
from tsdlab.models.heads import build_head
from tsdlab.models.roi_heads import RoIHeads
from tsdlab.ops import MultiScaleDeformRoIAlign
from tsdlab.structures import Category

# Files published before torchvision 0.13 name the convolutions of RPN and FPN without the block around them.
_PUBLISHED_NAME = re.compile(r"^(?:(rpn\.head\.conv)|(backbone\.fpn\.(?:inner|layer)_blocks\.\d+))\.(weight|bias)$")


class _FullPrecisionRPNHead(RPNHead):
    """Answers in float32 whatever the layers computed in: half precision cannot name the pixels of a box."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x)
        return [o.float() for o in objectness], [d.float() for d in deltas]


class _FullPrecisionAnchors(AnchorGenerator):
    """Anchors in float32: torchvision's take the feature maps' type, of which only the shapes matter."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [f.new_empty((), dtype=torch.float32).expand(f.shape) for f in feature_maps])


class Detector(GeneralizedRCNN):
    """images → transform → backbone + FPN → RPN → RoI heads → detections, all as in torchvision.

    `model(images, targets)` returns a dict of losses in training mode and, in eval mode, a list of
    {"boxes" [D, 4], "labels" [D], "scores" [D]}; images are [3, H, W] in 0…1, boxes xyxy in the input's pixels.
    `model.config` is what it was built from, `model.categories` what its labels mean: label i is categories[i − 1]
    (empty until somebody knows).
    """

    categories: tuple[Category, ...] = ()

    def __init__(self, config: Config, weights_backbone: str | None = None) -> None:
        backbone = build_backbone(config.backbone, weights_backbone)
        rpn = config.rpn
        anchors = _FullPrecisionAnchors(
            tuple((size,) for size in rpn.anchor_sizes), (tuple(rpn.aspect_ratios),) * len(rpn.anchor_sizes)
        )
        super().__init__(
            backbone,
            RegionProposalNetwork(
                anchors,
                _FullPrecisionRPNHead(config.backbone.fpn_channels, anchors.num_anchors_per_location()[0]),
                rpn.fg_iou,
                rpn.bg_iou,
                rpn.samples_per_image,
                rpn.positive_fraction,
                {"training": rpn.pre_nms_train, "testing": rpn.pre_nms_test},
                {"training": rpn.post_nms_train, "testing": rpn.post_nms_test},
                rpn.nms_thresh,
            ),
            RoIHeads(
                config.roi,
                MultiScaleDeformRoIAlign(
                    backbone.strides,  # type: ignore[arg-type]
                    config.roi.output_size,
                    config.roi.sampling_ratio,
                    config.roi.aligned,
                    config.roi.canonical_size,
                ),
                build_head(config),
            ),
            GeneralizedRCNNTransform(
                config.image.min_size, config.image.max_size, list(config.image.mean), list(config.image.std)
            ),
        )
        self.config = config


def build_detector(config: Config, weights_backbone: str | None = None) -> Detector:
    """A detector with random weights (or ImageNet's in the backbone: weights_backbone="DEFAULT", needs a network).

    It is in channels-last memory: convolutions on a CPU are faster so (benchmarks/train_step.py says by how much),
    and the RoI ops read its feature maps as they are.
    """
    return Detector(config, weights_backbone).to(memory_format=torch.channels_last)


def load_torchvision(model: Detector, state_dict: dict[str, Tensor]) -> None:
    """Load a torchvision Faster R-CNN with FPN into backbone, RPN and whatever of the head began as its second stage.

    TSD's branches and D_head's become copies of torchvision's layers, so that before any training they detect as it
    does. torchvision pools with `aligned=False`: build the model with `roi.aligned=False` for the same detections.

    Raises:
        ValueError: a weight that the model needs is missing, unknown to it, or of another shape; names them.
    """
    own = model.state_dict()
    modules = model.roi_heads.head.torchvision_modules
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        key = _PUBLISHED_NAME.sub(_current_name, key)
        if key.startswith("roi_heads."):
            name = key.removeprefix("roi_heads.")
            for module, places in modules.items():
                if name.startswith(f"{module}."):
                    renamed |= {f"roi_heads.head.{place}{name.removeprefix(module)}": value for place in places}
        else:
            renamed[key] = value
    places = (f"roi_heads.head.{place}." for group in modules.values() for place in group)
    shared = ("backbone.", "rpn.", *places)
    expected = {k for k in own if k.startswith(shared)}
    # BatchNorm counts batches, torchvision's FrozenBatchNorm2d does not.
    missing = {k for k in expected - renamed.keys() if not k.endswith("num_batches_tracked")}
    unknown = {k for k in renamed.keys() - own.keys() if not k.endswith("num_batches_tracked")}
    misfits = [
        f"{k}: {tuple(v.shape)} does not fit {tuple(own[k].shape)}"
        for k, v in renamed.items()
        if k in own and v.shape != own[k].shape
    ]
    problems = [f"missing {k}" for k in sorted(missing)] + [f"unknown {k}" for k in sorted(unknown)] + misfits
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"these torchvision weights do not fit the model: {'; '.join(problems[:5])}{more}")
    model.load_state_dict(renamed, strict=False)


def _current_name(match: re.Match[str]) -> str:
    rpn, fpn, kind = match.groups()
    return f"{rpn}.0.0.{kind}" if rpn else f"{fpn}.0.{kind}"
