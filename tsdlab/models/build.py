"""The ways to make a detector: from a config, or from a torchvision model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from tsdlab.config import TORCHVISION, Config, HeadName
from tsdlab.models.backbones import build_backbone
from tsdlab.models.detector import Detector
from tsdlab.models.roi_heads import build_roi_heads
from tsdlab.models.torchvision_start import Parts, copy_to_start_from, published_parts, read_config, take_over
from tsdlab.randomness import drawing_from


def build_detector(config: Config, weights_backbone: str | None = None) -> Detector:
    """A detector with random weights, in training mode.

    It is in channels-last memory: CPU convolutions are faster that way (benchmarks/heads.py measures by how much), and
    the RoI ops need no copy of its feature maps.

    Args:
        config: what to build.
        weights_backbone: "DEFAULT" downloads ImageNet weights for the backbone (network needed).

    Raises:
        ValueError: the config does not describe a detector; names the field.
    """
    make_parts = published_parts if config.backbone.name.startswith(TORCHVISION) else _parts
    return Detector(config, make_parts(config, weights_backbone)).to(memory_format=torch.channels_last)


def from_torchvision(model: GeneralizedRCNN, head: HeadName = "tsd", num_classes: int | None = None) -> Detector:
    """Give a torchvision Faster R-CNN another head. Its transform, backbone and RPN are kept, with their weights.

    Every branch of the head that has torchvision's layers starts as a copy of them. The heads that have no other
    branches (sibling, d_head, and TSD while its offsets are zero) therefore detect as the model does until they are
    trained. The only difference: at most `config.roi.pre_nms_top_n` candidates per image enter NMS.

    Strides are computed from the sizes of the feature maps. torchvision instead estimates them from the first images
    that it sees; that fails for small images, whose size changes much when it is padded to a multiple of 32.

    Args:
        model: a torchvision Faster R-CNN, published or your own, on any device. It is copied, not changed. Of a Mask
            or Keypoint R-CNN, the box detection is used.
        head: the name of the new second stage.
        num_classes: None keeps the model's output layers; a number gives it new, random ones for that many classes
            (without background).

    Returns:
        The detector, in the model's mode, with the config that describes it. If torchvision has a builder for such a
        model, `load_detector` loads saved weights. Otherwise `backbone.name` is "torchvision:own", and saved weights
        need the same torchvision model again: `load_tensors(from_torchvision(model, head, num_classes), path)`.

    Raises:
        ValueError: the model cannot be used; says what was found and what is needed.
    """
    copied = copy_to_start_from(model, num_classes)
    config = read_config(copied, head)
    detector = Detector(config, take_over(copied, config)).to(memory_format=torch.channels_last)
    return detector.train(model.training)


def as_detector(model: nn.Module) -> Detector:
    """`model` itself if it is a `Detector`; a torchvision Faster R-CNN as a `Detector` with a sibling head.

    What training wraps around a model is taken off: data parallelism, Fabric, `torch.compile`, averaging. A torchvision
    model is copied, with its attribute `categories` if it has one. To use it for many images, convert it once with this
    function.

    Raises:
        ValueError: it is neither; says why.
    """
    model = unwrapped(model)
    if isinstance(model, Detector):
        return model
    with drawing_from({"cpu": torch.Generator()}):  # its random layers are replaced; others' numbers stay as they are
        detector = from_torchvision(model, head="sibling")
    detector.categories = tuple(getattr(model, "categories", ()))
    return detector


def unwrapped(model: Any) -> Any:
    """The model inside DistributedDataParallel, DataParallel, Fabric, `torch.compile` or AveragedModel."""
    while isinstance(model, nn.Module) and not isinstance(model, GeneralizedRCNN):
        inner = getattr(model, "_orig_mod", getattr(model, "module", None))
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def _parts(config: Config, weights_backbone: str | None) -> Parts:
    backbone = build_backbone(config.backbone, weights_backbone)
    rpn = config.rpn
    anchors = AnchorGenerator(
        tuple((size,) for size in rpn.anchor_sizes), (tuple(rpn.aspect_ratios),) * len(rpn.anchor_sizes)
    )
    return Parts(
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
        build_roi_heads(config, backbone.strides),  # type: ignore[arg-type]
        GeneralizedRCNNTransform(
            config.image.min_size, config.image.max_size, list(config.image.mean), list(config.image.std)
        ),
    )
