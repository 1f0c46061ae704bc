"""One frozen dataclass describes a run; the command line, the notebooks and the tests all speak it.

Odd values carry their reason beside them. "Paper" is arXiv 2003.07540; "reference code" is Sense-X/TSD.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

HeadName = Literal["sibling", "d_head", "tsd"]


@dataclass(frozen=True)
class ImageConfig:
    """How an image is brought to the size and range the backbone sees."""

    min_size: int = 800  # shorter side, pixels
    max_size: int = 1333  # bound on the longer side, pixels
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet, as torchvision's weights expect
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneConfig:
    """Backbone and feature pyramid."""

    name: str = "resnet50"  # resnet10, a torchvision ResNet or ResNeXt, or "timm:<any timm model>"
    stages: tuple[int, ...] = (1, 2, 3, 4)  # stage i has stride 2^(i+1); each becomes a pyramid level
    fpn_channels: int = 256
    norm: Literal["frozen", "batch"] = "frozen"  # frozen: fine-tuning at small batch; batch: from scratch
    trainable_stages: int = 3  # 0…5, counted from the last; 5 trains the stem too


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network; one anchor size per pyramid level, the extra pooled level included."""

    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)  # pixels
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    fg_iou: float = 0.7
    bg_iou: float = 0.3
    samples_per_image: int = 256
    positive_fraction: float = 0.5
    pre_nms_train: int = 2000  # per level
    pre_nms_test: int = 1000
    post_nms_train: int = 2000
    post_nms_test: int = 1000
    nms_thresh: float = 0.7


@dataclass(frozen=True)
class RoIConfig:
    """From proposals to detections, whatever the head."""

    output_size: int = 7  # bins per side
    sampling_ratio: int = 2  # samples per bin and side
    aligned: bool = True  # False is what torchvision's own detectors (and their weights) pool with
    canonical_size: int = 224  # an object of this side belongs to the level of stride 16 (FPN, Eq. 1)
    hidden: int = 1024  # width of every 2-FC branch
    samples_per_image: int = 512
    positive_fraction: float = 0.25
    fg_iou: float = 0.5
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    pre_nms_top_n: int = 2000  # best candidates that enter NMS: a score threshold of 0 stays cheap
    detections_per_image: int = 100


@dataclass(frozen=True)
class TSDConfig:
    """Task-aware spatial disentanglement and the progressive constraint."""

    gamma: float = 0.1  # γ, Eq. 3 and 5: scale of both offsets
    offset_hidden: int = 256
    progressive_constraint: bool = True
    classification_margin: float = 0.2  # m_c; 0.2 in the paper's ablations, 0.3 in the reference configs
    localization_margin: float = 0.2  # m_r
    # True as in the reference code: the regression target and M_loc also teach ΔR.
    # False as in simpledet's port: ΔR learns through the pooled features alone.
    boxes_teach_offset: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """The schedule. One step is one batch over all processes."""

    steps: int = 90_000
    batch_size: int = 16  # images per step, over all processes
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02  # at `lr_batch_size` images; scaled linearly with batch_size
    lr_batch_size: int = 16
    momentum: float = 0.9  # sgd only
    weight_decay: float = 1e-4
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)  # fractions of `steps` at which "step" divides lr by 10
    warmup_steps: int = 1000
    warmup_factor: float = 1 / 32  # of lr, at step 0; the paper warms 0.00125 → 0.04
    clip_norm: float = 35.0  # the reference code's; 0 turns clipping off
    flip: float = 0.5  # probability
    scale_jitter: tuple[float, float] = (1.0, 1.0)  # range of random zoom; (1, 1) turns it off
    ema: float = 0.0  # decay of the averaged weights that are evaluated and exported; 0 turns it off
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    eval_every: int = 10_000  # steps; 0 evaluates at the end only
    checkpoint_every: int = 1000  # steps
    log_every: int = 20  # steps
    workers: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Config:
    """Everything that makes a run: what is built and how it is trained."""

    head: HeadName = "tsd"
    num_classes: int = 80  # objects' classes, background not counted; training takes it from the data
    image: ImageConfig = field(default_factory=ImageConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)
    tsd: TSDConfig = field(default_factory=TSDConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        levels = len(self.backbone.stages) + 1  # and the pooled one
        if len(self.rpn.anchor_sizes) != levels:
            raise ValueError(
                f"rpn.anchor_sizes has {len(self.rpn.anchor_sizes)} entries for {levels} pyramid levels "
                f"(backbone.stages {self.backbone.stages} and one pooled level); give one size per level"
            )
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1 (background not counted), got {self.num_classes}")


def config_to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def config_from_dict(values: dict[str, Any]) -> Config:
    """Inverse of `config_to_dict`; lists become tuples. Raises ValueError naming an unknown field."""
    return _from_dict(Config, values, "config")


def _from_dict(cls: Any, values: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{where} has unknown field(s) {', '.join(unknown)}; {cls.__name__} has {sorted(hints)}")
    return cls(**{name: _plain(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _plain(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _from_dict(hint, value, where)
    if isinstance(hint, types.GenericAlias) and typing.get_origin(hint) is tuple:
        return tuple(value)
    return value


# 128 px badges on a laptop CPU: a ResNet-10 to stride 16, pyramid of 64 channels. Objects are 24–96 px, so the
# pyramid's levels are assigned at half the usual size: otherwise every object would sit on the finest one.
_BADGES_TINY = Config(
    num_classes=6,
    image=ImageConfig(min_size=128, max_size=128),
    backbone=BackboneConfig(name="resnet10", stages=(1, 2, 3), fpn_channels=64, norm="batch", trainable_stages=5),
    rpn=RPNConfig(
        anchor_sizes=(24, 40, 64, 96),
        samples_per_image=128,
        pre_nms_train=300,
        pre_nms_test=300,
        post_nms_train=150,
        post_nms_test=150,
    ),
    roi=RoIConfig(canonical_size=112, hidden=256, samples_per_image=64),
    train=TrainConfig(
        steps=5000,
        batch_size=8,
        optimizer="adamw",
        lr=1e-3,
        lr_batch_size=8,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_steps=250,
        eval_every=1250,
        checkpoint_every=500,
        workers=0,
    ),
)

# COCO 1x: 90k steps of 16 images, torchvision's ResNet-50 recipe with the paper's clipping.
_COCO_R50 = Config()

# The paper's recipe: 16 GPUs × 2 images, lr 0.04, 13 epochs of 117,266 images, ÷10 at epochs 8 and 11.
_PAPER_TRAIN = TrainConfig(
    steps=13 * 117_266 // 32,
    batch_size=32,
    lr=0.04,
    lr_batch_size=32,
    milestones=(8 / 13, 11 / 13),
    warmup_steps=117_266 // 32,
)

PRESETS: dict[str, Config] = {
    "badges-tiny": _BADGES_TINY,
    "badges": replace(
        _BADGES_TINY,
        backbone=replace(_BADGES_TINY.backbone, name="resnet18", fpn_channels=128),
        roi=replace(_BADGES_TINY.roi, hidden=512, samples_per_image=128),
        train=replace(
            _BADGES_TINY.train,
            steps=4000,
            batch_size=32,
            lr=2e-3,  # √4 times that of 8 images: AdamW, and mixed precision
            lr_batch_size=32,
            eval_every=1000,
            precision="bf16-mixed",
            workers=8,
        ),
    ),
    # 640×480 microscope images, cells of 30–250 px, trained from scratch.
    "bccd": Config(
        num_classes=3,
        image=ImageConfig(min_size=480, max_size=640),
        backbone=BackboneConfig(name="resnet18", fpn_channels=128, norm="batch", trainable_stages=5),
        rpn=RPNConfig(
            anchor_sizes=(32, 64, 96, 160, 256), pre_nms_train=600, pre_nms_test=600, post_nms_train=400,
            post_nms_test=300,
        ),
        roi=RoIConfig(hidden=512, samples_per_image=128),
        train=TrainConfig(
            steps=3000, batch_size=4, optimizer="adamw", lr=4e-4, lr_batch_size=4, weight_decay=1e-2,
            schedule="cosine", warmup_steps=200, scale_jitter=(0.7, 1.4), eval_every=500, checkpoint_every=250,
            workers=2,
        ),
    ),
    "coco-r50-1x": _COCO_R50,
    "coco-r101": replace(
        _COCO_R50, backbone=replace(_COCO_R50.backbone, name="resnet101"), train=_PAPER_TRAIN
    ),
}  # fmt: skip
