"""Start from a torchvision Faster R-CNN: keep its first stage, and put one of our heads in place of its second stage.

The modules themselves are used, not tensors by name: any backbone, RPN and box head keep working as they did. A part
that cannot be used raises an error that names it.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads as TorchvisionRoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from tsdlab.config import (
    TORCHVISION,
    BackboneConfig,
    Config,
    HeadName,
    ImageConfig,
    PublishedName,
    RoIConfig,
    RPNConfig,
)
from tsdlab.errors import InputError
from tsdlab.models.roi_heads import RoIHeads, build_roi_heads

# The function that makes the body of each builder's backbone, and how many layers of the body can be trained.
_RESNET = partial(resnet_fpn_backbone, backbone_name="resnet50"), 5
_MOBILENET = partial(mobilenet_backbone, backbone_name="mobilenet_v3_large", fpn=True), 6
_BODIES: dict[str, tuple[Callable[..., Any], int]] = {
    name: _RESNET if "resnet50" in name else _MOBILENET for name in get_args(PublishedName)
}
_OWN = f"{TORCHVISION}own"  # the backbone's name in the config of a model that no builder makes

_EPSILON = 1e-5  # of FrozenBatchNorm2d in every builder's model
_BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the deltas; tsdlab.models.boxes supports no others


class Parts(NamedTuple):
    """The parts of a GeneralizedRCNN."""

    backbone: nn.Module
    rpn: RegionProposalNetwork
    roi_heads: RoIHeads
    transform: GeneralizedRCNNTransform


def copy_to_start_from(model: GeneralizedRCNN, num_classes: int | None = None) -> GeneralizedRCNN:
    """A copy of a torchvision Faster R-CNN, ready for `read_config` and `take_over`.

    Args:
        model: the model; only its box detection is used.
        num_classes: None keeps its output layers; a number gives it new, random ones for that many classes (without
            background).

    Raises:
        ValueError: the model cannot be used; says what was found and what is needed.
    """
    _check(model)
    model = copy.deepcopy(model)
    fold_epsilon(model)
    if num_classes is not None:
        old = model.roi_heads.box_predictor.cls_score
        model.roi_heads.box_predictor = FastRCNNPredictor(old.in_features, 1 + num_classes).to(old.weight)
    return model


def read_config(model: GeneralizedRCNN, head: HeadName) -> Config:
    """The config that describes `model` with the head `head`; its `train` section is the default.

    `backbone.name` is "torchvision:" and the name of the torchvision builder that makes such a model; `published_parts`
    can then make it again from the config. It is "torchvision:own" if no builder does. RPN anchors are listed without
    repetition.

    Raises:
        ValueError: the maps that it pools from are no pyramid, or its box head fits none of our heads.
    """
    config = _described(model, head)
    return replace(config, backbone=_name_builder(config, model))


def _described(model: GeneralizedRCNN, head: HeadName) -> Config:
    """As `read_config`, without looking for the builder."""
    strides, channels = _pooled_maps(model)
    image, rpn, roi, pool = model.transform, model.rpn, model.roi_heads, model.roi_heads.box_roi_pool
    anchors = rpn.anchor_generator
    return Config(
        head=head,
        num_classes=roi.box_predictor.cls_score.out_features - 1,
        image=ImageConfig(int(image.min_size[-1]), image.max_size, tuple(image.image_mean), tuple(image.image_std)),
        backbone=BackboneConfig(
            name=_OWN,
            stages=tuple(stride.bit_length() - 2 for stride in strides),
            fpn_channels=channels,
            norm="frozen" if any(isinstance(m, FrozenBatchNorm2d) for m in model.backbone.modules()) else "batch",
        ),
        rpn=RPNConfig(
            anchor_sizes=tuple(dict.fromkeys(size for level in anchors.sizes for size in level)),
            aspect_ratios=tuple(dict.fromkeys(ratio for level in anchors.aspect_ratios for ratio in level)),
            fg_iou=rpn.proposal_matcher.high_threshold,
            bg_iou=rpn.proposal_matcher.low_threshold,
            samples_per_image=rpn.fg_bg_sampler.batch_size_per_image,
            positive_fraction=rpn.fg_bg_sampler.positive_fraction,
            pre_nms_train=rpn._pre_nms_top_n["training"],
            pre_nms_test=rpn._pre_nms_top_n["testing"],
            post_nms_train=rpn._post_nms_top_n["training"],
            post_nms_test=rpn._post_nms_top_n["testing"],
            nms_thresh=rpn.nms_thresh,
        ),
        roi=RoIConfig(
            output_size=pool.output_size[0],
            sampling_ratio=pool.sampling_ratio,
            aligned=False,
            canonical_size=int(_canonical_size(pool)),
            hidden=roi.box_predictor.cls_score.in_features,
            samples_per_image=roi.fg_bg_sampler.batch_size_per_image,
            positive_fraction=roi.fg_bg_sampler.positive_fraction,
            fg_iou=roi.proposal_matcher.high_threshold,
            score_thresh=roi.score_thresh,
            nms_thresh=roi.nms_thresh,
            detections_per_image=roi.detections_per_img,
        ),
    )


def take_over(model: GeneralizedRCNN, config: Config) -> Parts:
    """The parts of a `Detector`, made from those of `model`, which must not be used afterwards: give a copy.

    Copies of its box head and predictor go to the head's `torchvision_modules`. `config.roi` sets pooling, sampling and
    post-processing.
    """
    roi_heads = build_roi_heads(config, [2 ** (stage + 1) for stage in config.backbone.stages])
    for name, places in roi_heads.head.torchvision_modules.items():
        for place in places:
            roi_heads.head.set_submodule(place, copy.deepcopy(model.roi_heads.get_submodule(name)))
    model.backbone.register_forward_hook(_as_levels)
    roi_heads.to(next(model.roi_heads.box_predictor.parameters()))  # its device and type
    return Parts(model.backbone, model.rpn, roi_heads, model.transform)


def published_model(
    name: str, num_classes: int, backbone: BackboneConfig, weights_backbone: str | None = None, **numbers: Any
) -> FasterRCNN:
    """The model of a torchvision builder, with random weights.

    The builders themselves allow frozen norms and a choice of trainable layers only for downloaded weights.

    Args:
        name: the builder's name, such as "fasterrcnn_resnet50_fpn_v2".
        num_classes: without background.
        backbone: its `norm` and `trainable_stages` are used.
        weights_backbone: "DEFAULT" downloads ImageNet weights of the backbone.
        numbers: further arguments of the builder.

    Raises:
        ValueError: the model does not have that many trainable stages.
    """
    make_body, layers = _BODIES[name]
    if not 0 <= backbone.trainable_stages <= layers:
        raise InputError(f"backbone.trainable_stages of {name} must be 0…{layers}, got {backbone.trainable_stages}")
    model = get_model(name, weights=None, weights_backbone=None, num_classes=1 + num_classes, **numbers)
    model.backbone.body = make_body(
        weights=weights_backbone,
        norm_layer=_norm_layer(backbone.norm),
        trainable_layers=backbone.trainable_stages,
    ).body
    return model


def _norm_layer(norm: str) -> type[nn.Module]:
    return FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d


def published_parts(config: Config, weights_backbone: str | None = None) -> Parts:
    """The parts of a detector whose `config.backbone.name` names a torchvision builder, with random weights.

    Raises:
        ValueError: there is no builder of that name, or the config contradicts what it makes; names the field.
    """
    name = config.backbone.name.removeprefix(TORCHVISION)
    if name not in _BODIES:
        raise InputError(
            f"backbone.name {config.backbone.name!r} is not a torchvision builder ({', '.join(_BODIES)}). A detector "
            "that started as your own torchvision model is loaded in three steps: make the same torchvision model; "
            f"detector = tsdlab.from_torchvision(model, {config.head!r}, {config.num_classes}); "
            "tsdlab.models.weights.load_tensors(detector, path). Train it like any torchvision detector, in your own "
            "loop"
        )
    image, rpn = config.image, config.rpn
    model = published_model(
        name,
        config.num_classes,
        config.backbone,
        weights_backbone,
        min_size=image.min_size,
        max_size=image.max_size,
        image_mean=list(image.mean),
        image_std=list(image.std),
        rpn_pre_nms_top_n_train=rpn.pre_nms_train,
        rpn_pre_nms_top_n_test=rpn.pre_nms_test,
        rpn_post_nms_top_n_train=rpn.post_nms_train,
        rpn_post_nms_top_n_test=rpn.post_nms_test,
        rpn_nms_thresh=rpn.nms_thresh,
        rpn_fg_iou_thresh=rpn.fg_iou,
        rpn_bg_iou_thresh=rpn.bg_iou,
        rpn_batch_size_per_image=rpn.samples_per_image,
        rpn_positive_fraction=rpn.positive_fraction,
    )
    made = _described(model, config.head)
    fixed = {
        "backbone": ("stages", "fpn_channels", "norm", "deformable_stages"),
        "rpn": ("anchor_sizes", "aspect_ratios"),
        "roi": ("output_size", "hidden"),
    }
    for section, fields in fixed.items():
        for field in fields:
            asked, has = (getattr(getattr(c, section), field) for c in (config, made))
            if asked != has:
                raise InputError(f"torchvision's {name} has {section}.{field} {has}, but the config has {asked}")
    return take_over(model, config)


@torch.no_grad()
def fold_epsilon(model: nn.Module) -> None:
    """Give all frozen norms the usual ε, and change their scale so that they compute the same as before.

    torchvision runs its first published weights with an ε of 0, which is not stored in any tensor. After folding it
    into the scale, the tensors alone describe the model. (Folding it into the variance could make that negative.)
    """
    for norm in model.modules():
        if isinstance(norm, FrozenBatchNorm2d) and norm.eps != _EPSILON:
            norm.weight.mul_(((norm.running_var + _EPSILON) / (norm.running_var + norm.eps)).sqrt())
            norm.eps = _EPSILON


def _check(model: Any) -> None:
    """Raises ValueError naming the part of `model` that cannot be used."""
    if not isinstance(model, GeneralizedRCNN):
        raise InputError(f"the model must be a torchvision Faster R-CNN, got a {type(model).__name__}")
    roi = model.roi_heads
    if type(roi) is not TorchvisionRoIHeads:
        raise InputError(f"model.roi_heads must be torchvision's RoIHeads, got that of {type(roi).__module__}")
    if type(roi.box_roi_pool) is not MultiScaleRoIAlign:
        raise InputError(
            f"roi_heads.box_roi_pool must be a MultiScaleRoIAlign, got a {type(roi.box_roi_pool).__name__}"
        )
    if type(roi.box_predictor) is not FastRCNNPredictor:
        raise InputError(
            f"roi_heads.box_predictor must be a FastRCNNPredictor, got a {type(roi.box_predictor).__name__}"
        )
    if type(model.rpn) is not RegionProposalNetwork or type(model.rpn.anchor_generator) is not AnchorGenerator:
        raise InputError(
            "model.rpn must be a RegionProposalNetwork with an AnchorGenerator, got a "
            f"{type(model.rpn).__name__} with a {type(getattr(model.rpn, 'anchor_generator', None)).__name__}"
        )
    pool, matcher = roi.box_roi_pool, roi.proposal_matcher
    outputs = tuple(layer.out_features for layer in (roi.box_predictor.cls_score, roi.box_predictor.bbox_pred))
    thresholds = (matcher.high_threshold, matcher.low_threshold)
    needed = {
        "box_predictor must give four deltas for every class": (outputs, outputs[1] == 4 * outputs[0]),
        "box_roi_pool.output_size must be square": (pool.output_size, len({*pool.output_size}) == 1),
        "box_roi_pool.sampling_ratio must be at least 1": (pool.sampling_ratio, pool.sampling_ratio >= 1),
        "the canonical size of box_roi_pool at stride 16 must be a whole number of pixels": (
            _canonical_size(pool),
            _canonical_size(pool) % 1 == 0,
        ),
        f"bbox_reg_weights must be {_BOX_WEIGHTS}": (
            roi.box_coder.weights,
            tuple(roi.box_coder.weights) == _BOX_WEIGHTS,
        ),
        "box_fg_iou_thresh and box_bg_iou_thresh must be equal": (thresholds, thresholds[0] == thresholds[1]),
    }
    for condition, (found, holds) in needed.items():
        if not holds:
            raise InputError(f"{condition}; the model has {found}")


def _canonical_size(pool: MultiScaleRoIAlign) -> float:
    """Side in pixels of the regions that are pooled at stride 16, which torchvision calls level 4."""
    return pool.canonical_scale * 2.0 ** (4 - pool.canonical_level)


@torch.no_grad()
def _pooled_maps(model: GeneralizedRCNN) -> tuple[list[int], int]:
    """Strides and channels of the maps that RoIs are pooled from, found by running the backbone on a blank image.

    torchvision computes the number of maps from the first and the last stride. If two maps have the same stride, as
    MobileNet's have, it counts them as one and never pools from the second.
    """
    side = 4 * max(32, model.transform.size_divisible)
    image = next(model.backbone.parameters()).new_zeros(1, 3, side, side)
    maps = _as_levels(None, None, copy.deepcopy(model.backbone).eval()(image))
    pool, roi = model.roi_heads.box_roi_pool, model.roi_heads
    # Powers of two, as torchvision rounds them.
    strides = {n: 2 ** round(math.log2(side / f.shape[-2])) for n, f in maps.items() if n in pool.featmap_names}
    if not strides:
        raise InputError(f"regions are pooled from maps {pool.featmap_names}, but the backbone gives {list(maps)}")
    sizes = list(strides.values())
    count = max(1, round(math.log2(sizes[-1] / sizes[0])) + 1)
    if sizes[-1] < sizes[0] or sizes[:count] != [sizes[0] * 2**i for i in range(count)]:
        raise InputError(f"the strides of the pooled maps must double, finest first; the model has {strides}")
    if list(strides)[:count] != [str(i) for i in range(count)]:
        raise InputError(f'the pooled maps must be named "0", "1", … in this order; the model has {list(strides)}')
    channels, bins, hidden = maps["0"].shape[1], pool.output_size[0], roi.box_predictor.cls_score.in_features
    trunk = copy.deepcopy(roi.box_head).eval()(image.new_zeros(2, channels, bins, bins))
    if trunk.shape != (2, hidden):
        raise InputError(
            f"box_head must give [K, {hidden}], the input of box_predictor; it gives {['K', *trunk.shape[1:]]}"
        )
    return sizes[:count], channels


def _as_levels(module: Any, inputs: Any, features: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """A forward hook: a backbone without a pyramid returns one map, which torchvision calls "0"."""
    return OrderedDict({"0": features}) if isinstance(features, Tensor) else features


def _name_builder(config: Config, model: GeneralizedRCNN) -> BackboneConfig:
    """`config.backbone`, with the name and the trainable stages of the builder that makes such a model, if one does.

    If parts of the model are frozen that are not whole stages, it gets the closest number of trainable stages.
    """
    norm = config.backbone.norm
    alike = [name for name in _BODIES if _network(_candidate(name, config.num_classes, norm)) == _network(model)]
    if not alike:
        return config.backbone
    # MobileNet's two builders make the same network and differ in the size of their images.
    sizes = {name: _candidate(name, config.num_classes, norm).transform.min_size for name in alike}
    name = min(alike, key=lambda name: sizes[name] != model.transform.min_size)
    trains = [parameter.requires_grad for parameter in model.backbone.body.parameters()]
    differences = [sum(a != b for a, b in zip(trains, trained)) for trained in _trained_parameters(name, norm)]
    return replace(config.backbone, name=TORCHVISION + name, trainable_stages=differences.index(min(differences)))


@cache
def _candidate(name: str, num_classes: int, norm: Any) -> FasterRCNN:
    """The model of a builder on the meta device, which uses no memory for its tensors."""
    with torch.device("meta"):
        return published_model(name, num_classes, BackboneConfig(norm=norm))


@cache
def _trained_parameters(name: str, norm: Any) -> list[list[bool]]:
    """For every number of trainable stages, which parameters of the body are trained."""
    make_body, layers = _BODIES[name]
    norm_layer = _norm_layer(norm)
    with torch.device("meta"):
        bodies = [make_body(weights=None, norm_layer=norm_layer, trainable_layers=n).body for n in range(layers + 1)]
    return [[parameter.requires_grad for parameter in body.parameters()] for body in bodies]


def _network(model: GeneralizedRCNN) -> list[Any]:
    """What defines a model, apart from the values of its tensors and the fields of a config; for comparisons.

    Modules are compared by how they print, so a subclass that prints like its base class counts as equal to it.
    """
    transform, rpn, roi = model.transform, model.rpn, model.roi_heads
    parts = (model.backbone, rpn, roi.box_head, roi.box_predictor)
    return [
        *(str(part) for part in parts),  # strides of convolutions, activations, ε
        *({name: tensor.shape for name, tensor in part.state_dict().items()} for part in parts),
        [[*level] for level in rpn.anchor_generator.sizes],
        [[*level] for level in rpn.anchor_generator.aspect_ratios],
        rpn.score_thresh,
        rpn.min_size,
        roi.box_roi_pool.featmap_names,
        type(transform),
        len(transform.min_size),
        transform.size_divisible,
        transform.fixed_size,
        transform._skip_resize,
    ]
