"""The ways to make a detector: from a config, from a torchvision model, and with torchvision's weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from tsdlab.config import TORCHVISION, Config, HeadName
from tsdlab.errors import InputError
from tsdlab.models.backbones import build_backbone
from tsdlab.models.detector import Detector
from tsdlab.models.roi_heads import build_roi_heads
from tsdlab.models.torchvision_start import Parts, copy_to_start_from, published_parts, read_config, take_over


def build_detector(config: Config, weights_backbone: str | None = None) -> Detector:
    """A detector with random weights (or ImageNet's in the backbone: weights_backbone="DEFAULT", needs a network).

    It is in channels-last memory: convolutions on a CPU are faster so (benchmarks/heads.py says by how much),
    and the RoI ops read its feature maps as they are.

    Raises:
        ValueError: the config describes nothing that can be built; names what is wrong.
    """
    make_parts = published_parts if config.backbone.name.startswith(TORCHVISION) else _parts
    return Detector(config, make_parts(config, weights_backbone)).to(memory_format=torch.channels_last)


def from_torchvision(model: GeneralizedRCNN, head: HeadName = "tsd", num_classes: int | None = None) -> Detector:
    """Give a torchvision Faster R-CNN another head: transform, backbone and RPN go on as they are, weights included.

    Wherever the head has a branch like torchvision's it begins as a copy of it, so that before any training the heads
    made of such branches alone (sibling, d_head, and TSD with its offsets at zero) detect as the model did; NMS sees
    no more than `config.roi.pre_nms_top_n` candidates, however.

    Strides are those of the maps. torchvision guesses them from the first images that it sees, which goes wrong where
    padding to a multiple of 32 changes the size of a small image much.

    Args:
        model: a torchvision Faster R-CNN, published or of one's own, on any device; it stays as it is. Of a Mask or
            Keypoint R-CNN the boxes are taken.
        head: the second stage.
        num_classes: None keeps the model's outputs; otherwise new ones, for that many classes (without background),
            start from random.

    Returns:
        The detector, in the model's mode, with the config that describes it. If a builder of torchvision makes such
        a model, saved weights load by `load_detector`; otherwise `backbone.name` is "torchvision:own" and they load
        into the same model made again: `load_tensors(from_torchvision(model, head, num_classes), path)`.

    Raises:
        ValueError: it cannot be taken over; says what was found and what is needed.
    """
    copied = copy_to_start_from(model, num_classes)
    config = read_config(copied, head)
    detector = Detector(config, take_over(copied, config)).to(memory_format=torch.channels_last)
    return detector.train(model.training)


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


def load_torchvision(model: Detector, state_dict: dict[str, Tensor]) -> list[str]:
    """Load a torchvision Faster R-CNN with FPN into backbone, RPN and whatever of the head began as its second stage.

    TSD's branches and D_head's become copies of torchvision's layers, so that before any training they detect as it
    does. torchvision pools with `aligned=False`: build the model with `roi.aligned=False` for the same detections.

    Returns:
        The names of the outputs that were left as they were, for torchvision's are of another number of classes.

    Raises:
        ValueError: a weight that the model needs is missing, unknown to it, or of another shape; names them.
    """
    own = model.state_dict()
    modules = model.roi_heads.head.torchvision_modules
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key.startswith("roi_heads."):
            name = key.removeprefix("roi_heads.")
            for module, places in modules.items():
                if name.startswith(f"{module}."):
                    renamed |= {f"roi_heads.head.{place}{name.removeprefix(module)}": value for place in places}
        else:
            renamed[key] = value
    places = {f"roi_heads.head.{place}.": module for module, group in modules.items() for place in group}
    expected = {k for k in own if k.startswith(("backbone.", "rpn.", *places))}
    # BatchNorm counts batches, torchvision's FrozenBatchNorm2d does not; a deformable convolution's offsets are zero.
    missing = {k for k in expected - renamed.keys() if not k.endswith("num_batches_tracked") and ".offset." not in k}
    unknown = {k for k in renamed.keys() - own.keys() if not k.endswith("num_batches_tracked")}
    misfits = {k for k, v in renamed.items() if k in own and v.shape != own[k].shape}
    outputs = tuple(place for place, module in places.items() if module.startswith("box_predictor"))
    # One value for each class, or for each of its deltas, of the same features.
    left = {k for k in misfits if k.startswith(outputs) and renamed[k].shape[1:] == own[k].shape[1:]}
    problems = [f"missing {k}" for k in sorted(missing)] + [f"unknown {k}" for k in sorted(unknown)]
    problems += [f"{k}: {tuple(renamed[k].shape)} does not fit {tuple(own[k].shape)}" for k in sorted(misfits - left)]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(f"these torchvision weights do not fit the model: {'; '.join(problems[:5])}{more}")
    model.load_state_dict({k: v for k, v in renamed.items() if k in own and k not in left}, strict=False)
    return sorted(left)
