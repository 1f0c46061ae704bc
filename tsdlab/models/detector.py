"""`build_detector`: a torchvision detector whose second stage is ours."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from tsdlab.config import Config
from tsdlab.models.backbones import build_backbone
from tsdlab.models.heads import build_head
from tsdlab.models.roi_heads import RoIHeads
from tsdlab.ops import MultiScaleDeformRoIAlign


class Detector(GeneralizedRCNN):
    """images → transform → backbone + FPN → RPN → RoI heads → detections, all as in torchvision.

    `model(images, targets)` returns a dict of losses in training mode and, in eval mode, a list of
    {"boxes" [D, 4], "labels" [D], "scores" [D]}; images are [3, H, W] in 0…1, boxes xyxy in the input's pixels.
    `model.config` is what it was built from.
    """

    def __init__(self, config: Config, weights_backbone: str | None = None) -> None:
        backbone = build_backbone(config.backbone, weights_backbone)
        rpn = config.rpn
        anchors = AnchorGenerator(
            tuple((size,) for size in rpn.anchor_sizes), (tuple(rpn.aspect_ratios),) * len(rpn.anchor_sizes)
        )
        super().__init__(
            backbone,
            RegionProposalNetwork(
                anchors,
                RPNHead(config.backbone.fpn_channels, anchors.num_anchors_per_location()[0]),
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
    """Load a torchvision Faster R-CNN with FPN into backbone, RPN and, where the head has one, sibling head.

    torchvision pools with `aligned=False`: build the model with `roi.aligned=False` for the same detections.

    Raises:
        ValueError: a weight that the model needs is missing, unknown to it, or of another shape; names them.
    """
    heads = {"sibling": "roi_heads.head.", "tsd": "roi_heads.head.sibling."}
    prefix = heads.get(model.config.head)
    own = model.state_dict()
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key.startswith("roi_heads."):
            if prefix is None:
                continue
            key = prefix + key.removeprefix("roi_heads.")
        renamed[key] = value
    expected = {k for k in own if k.startswith(("backbone.", "rpn.", prefix or "backbone."))}
    if prefix == heads["sibling"]:
        expected = set(own)
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
