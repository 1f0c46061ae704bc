"""One frozen dataclass describes a run. The command line, the notebooks and the tests all use it.

Every section checks its fields when it is made: each field declares its allowed values with its type (`tsdlab.ranges`),
and what depends on several fields is checked below them. Unusual values have their reason beside them. "Paper" is
arXiv 2003.07540; "reference code" is Sense-X/TSD.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tsdlab.errors import InputError
from tsdlab.ranges import (
    BatchSize,
    Channels,
    Count,
    CountOrZero,
    Factor,
    Fraction,
    FractionBelowOne,
    ImageSide,
    InnerFraction,
    NonEmptyText,
    NonEmptyTuple,
    PositiveFactor,
    PositiveFraction,
    Range,
    Seed,
    Workers,
    check_fields,
)

# The registry of heads: each name with the class that it stands for, imported when it is first built
# (`tsdlab.models.heads`). A new head is one new file and one line here.
HEADS: dict[str, str] = {
    "sibling": "tsdlab.models.heads.sibling:SiblingHead",
    "d_head": "tsdlab.models.heads.d_head:DHead",
    "double": "tsdlab.models.heads.double:DoubleHead",
    "iou": "tsdlab.models.heads.iou:IoUHead",
    "tsd": "tsdlab.models.heads.tsd:TSDHead",
}

# The registry of learning-rate schedules. A new schedule is one function in `tsdlab.training.schedule` and one line
# here.
SCHEDULES: dict[str, str] = {
    "step": "tsdlab.training.schedule:step_decay",
    "cosine": "tsdlab.training.schedule:cosine",
}

if TYPE_CHECKING:
    HeadName: TypeAlias = str
    ScheduleName: TypeAlias = str
else:  # what the command line and `Config` accept
    HeadName = Literal[tuple(HEADS)]
    ScheduleName = Literal[tuple(SCHEDULES)]

_Mean = Annotated[float, Range(-(10**6), 10**6)]
_Stage = Annotated[int, Range(0, 9)]  # torchvision's detectors use others than 1…4
_AnchorSize = Annotated[float, Range(1, 2**16)]
_Zoom = Annotated[float, Range(0.1, 10)]

TORCHVISION = "torchvision:"  # begins the backbone's name of a detector that is torchvision's up to the head
PublishedName = Literal[  # the builders of torchvision whose detectors have published weights
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
]


@dataclass(frozen=True)
class ImageConfig:
    """How an image is brought to the size and range the backbone sees."""

    min_size: ImageSide = 800  # shorter side, pixels
    max_size: ImageSide = 1333  # bound on the longer side, pixels
    mean: tuple[_Mean, _Mean, _Mean] = (0.485, 0.456, 0.406)  # ImageNet, as torchvision's weights expect
    std: tuple[PositiveFactor, PositiveFactor, PositiveFactor] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        check_fields(self, "image.")
        if self.max_size < self.min_size:
            raise InputError(
                f"image.max_size must be at least image.min_size, which is {self.min_size}, got {self.max_size}"
            )


@dataclass(frozen=True)
class BackboneConfig:
    """Backbone and feature pyramid."""

    # resnet10, a torchvision ResNet or ResNeXt, "timm:<any timm model>", or "torchvision:<builder of a Faster R-CNN>"
    # for that builder's backbone, RPN and box head.
    name: NonEmptyText = "resnet50"
    stages: NonEmptyTuple[_Stage] = (1, 2, 3, 4)  # stage i has stride 2^(i+1); each becomes a pyramid level
    fpn_channels: Channels = 256
    norm: Literal["frozen", "batch", "sync"] = "frozen"  # frozen: fine-tuning at small batch; the others: from scratch
    # Counted from the last; 5 trains the stem too. torchvision's MobileNets have 6.
    trainable_stages: Annotated[int, Range(0, 6)] = 3
    # Stages whose 3×3 convolutions are deformable (Dai et al. 2017); the usual DCN has 2, 3, 4.
    deformable_stages: tuple[_Stage, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, "backbone.")
        if self.name.startswith(TORCHVISION):
            return  # `tsdlab.models.torchvision_start` compares the stages with those of the builder
        stages, deepest = self.stages, self.stages[-1]
        if stages != tuple(range(stages[0], deepest + 1)) or not {*stages} <= {1, 2, 3, 4}:
            raise InputError(f"backbone.stages must be consecutive numbers from 1 to 4, got {stages}")
        if not {*self.deformable_stages} <= {*range(1, deepest + 1)}:
            raise InputError(
                f"backbone.deformable_stages must be numbers from 1 to {deepest}, the last of backbone.stages, "
                f"got {self.deformable_stages}"
            )
        if self.trainable_stages > 5:
            raise InputError(
                f"backbone.trainable_stages must be at most 5 for {self.name}, got {self.trainable_stages}"
            )


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network; one anchor size per pyramid level, the extra pooled level included.

    A builder of torchvision brings its own anchors; then the fields list their sizes and ratios, each once.
    """

    anchor_sizes: NonEmptyTuple[_AnchorSize] = (32, 64, 128, 256, 512)  # pixels
    aspect_ratios: NonEmptyTuple[PositiveFactor] = (0.5, 1.0, 2.0)
    fg_iou: Fraction = 0.7
    bg_iou: Fraction = 0.3
    samples_per_image: Count = 256
    positive_fraction: PositiveFraction = 0.5
    pre_nms_train: Count = 2000  # per level
    pre_nms_test: Count = 1000
    post_nms_train: Count = 2000
    post_nms_test: Count = 1000
    nms_thresh: Fraction = 0.7

    def __post_init__(self) -> None:
        check_fields(self, "rpn.")
        if self.bg_iou > self.fg_iou:
            raise InputError(f"rpn.bg_iou must be at most rpn.fg_iou, which is {self.fg_iou}, got {self.bg_iou}")
        thinnest = min(self.anchor_sizes) * min(min(ratio, 1 / ratio) for ratio in self.aspect_ratios) ** 0.5
        if thinnest < 2:  # torchvision rounds half a side to whole pixels; box deltas divide by the sides
            raise InputError(
                "rpn.anchor_sizes and rpn.aspect_ratios must make anchors whose sides have at least 2 pixels, got one "
                f"of {thinnest:.3g}"
            )


@dataclass(frozen=True)
class RoIConfig:
    """From proposals to detections, whatever the head."""

    output_size: Annotated[int, Range(1, 64)] = 7  # bins per side
    sampling_ratio: Annotated[int, Range(1, 64)] = 2  # samples per bin and side
    aligned: bool = True  # False is what torchvision's own detectors (and their weights) pool with
    canonical_size: ImageSide = 224  # an object of this side belongs to the level of stride 16 (FPN, Eq. 1)
    hidden: Channels = 1024  # width of every 2-FC branch
    samples_per_image: Count = 512
    positive_fraction: PositiveFraction = 0.25
    fg_iou: Fraction = 0.5
    loss_weight: Factor = 1.0  # of all the head's losses: a control for heads that have more of them
    score_thresh: Fraction = 0.05
    nms: Literal["hard", "linear", "gaussian"] = "hard"  # the latter two are Soft-NMS (Bodla et al. 2017)
    nms_thresh: Fraction = 0.5  # IoU; "gaussian" has no threshold
    soft_nms_sigma: PositiveFactor = 0.5  # "gaussian" only: a score decays by exp(−IoU² / σ)
    pre_nms_top_n: Count = 2000  # best candidates that enter NMS: a score threshold of 0 stays cheap
    detections_per_image: Count = 100

    def __post_init__(self) -> None:
        check_fields(self, "roi.")


@dataclass(frozen=True)
class DoubleConfig:
    """Double-Head R-CNN (Wu et al., CVPR 2020): fully connected layers classify, convolutions localize."""

    box_scale: PositiveFactor = 1.3  # RoIs of the convolutional branch are enlarged by this factor, per side
    bottlenecks: Annotated[int, Range(0, 1000)] = 4  # after the residual block that widens to roi.hidden channels
    loss_weight: Factor = 2.0  # of each branch; the reference code's Ext weighs its conv branch by 2.5
    extended: bool = False  # Double-Head-Ext: each branch does both tasks, their class scores are fused
    fc_classification: Fraction = 0.7  # λ_fc: share of classification in the fc branch's loss; "extended" only
    conv_localization: Fraction = 0.8  # λ_conv: share of localization in the conv branch's loss; "extended" only

    def __post_init__(self) -> None:
        check_fields(self, "double.")


@dataclass(frozen=True)
class IoUConfig:
    """IoU-Net (Jiang et al., ECCV 2018): a third branch predicts how well a box fits."""

    boxes_per_object: Annotated[int, Range(1, 10**4)] = 16  # jittered ground-truth boxes that train the IoU branch
    min_iou: InnerFraction = 0.5  # their IoU is uniform between this and 1
    loss_weight: Factor = 1.0
    guided_nms: bool = True  # NMS by predicted IoU, instead of roi.nms
    # T, steps of gradient ascent on predicted IoU; 0 turns refinement off.
    refinement_steps: Annotated[int, Range(0, 1000)] = 5
    step_size: Factor = 0.5  # λ
    min_change: Factor = 0.001  # Ω1: a box is done when a step changes its predicted IoU by less
    max_loss: Factor = 0.01  # −Ω2: a step that lowers the predicted IoU by more is undone, and the box is done

    def __post_init__(self) -> None:
        check_fields(self, "iou.")


@dataclass(frozen=True)
class TSDConfig:
    """Task-aware spatial disentanglement and the progressive constraint; the fields are the paper's ablations."""

    gamma: Factor = 0.1  # γ, Eq. 3 and 5: scale of both offsets
    offset_hidden: Channels = 256
    share_first_layer: bool = True  # of the two offset nets
    # One displacement for each bin (deformable RoI pooling), or one for the whole proposal (Tab. 5: Point.w, Prop.w).
    classification_region: Literal["bins", "proposal"] = "bins"
    localization_region: Literal["bins", "proposal"] = "proposal"
    joint_sibling: bool = True  # also train a sibling head; the progressive constraint needs it
    progressive_constraint: bool = True
    classification_margin: Fraction | None = 0.2  # m_c; None leaves M_cls out. 0.3 in the reference configs
    localization_margin: Fraction | None = 0.2  # m_r; None leaves M_loc out
    constraint_teaches_sibling: bool = False  # False as in the reference code: no gradient to the sibling head
    offsets_teach_features: bool = True  # False: no gradient flows from the offset nets into the features
    # True as in the reference code: the regression target and M_loc also teach ΔR.
    # False as in simpledet's port: ΔR learns through the pooled features alone.
    boxes_teach_offset: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "tsd.")


@dataclass(frozen=True)
class TrainConfig:
    """The schedule. One step is one batch over all processes."""

    steps: Count = 90_000
    batch_size: BatchSize = 16  # images per step, over all processes
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Factor = 0.02  # at `lr_batch_size` images; scaled linearly with batch_size
    lr_batch_size: BatchSize = 16
    momentum: FractionBelowOne = 0.9  # sgd only
    weight_decay: Factor = 1e-4
    schedule: ScheduleName = "step"
    milestones: tuple[InnerFraction, ...] = (2 / 3, 8 / 9)  # fractions of `steps` at which "step" divides lr by 10
    warmup_steps: CountOrZero = 1000
    warmup_factor: Fraction = 1 / 32  # of lr, at step 0; the paper warms 0.00125 → 0.04
    clip_norm: Factor = 35.0  # the reference code's; 0 turns clipping off
    flip: Fraction = 0.5  # probability
    scale_jitter: tuple[_Zoom, _Zoom] = (1.0, 1.0)  # range of random zoom; (1, 1) turns it off
    ema: FractionBelowOne = 0.0  # decay of the averaged weights that are evaluated and exported; 0 turns it off
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    eval_every: CountOrZero = 10_000  # steps; 0 evaluates at the end only
    # Stop early after so many evaluations without a better AP; 0 trains to the end. A cosine schedule gains most in its
    # last steps, which early stopping leaves out.
    patience: CountOrZero = 0
    checkpoint_every: Count = 1000  # steps
    keep_every: CountOrZero = 0  # steps; their weights are kept, for views that follow the training; 0 keeps none
    log_every: Count = 20  # steps
    workers: Workers = 4  # processes that load images; 0 loads them in the training process
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self, "train.")
        if any(later <= earlier for earlier, later in zip(self.milestones, self.milestones[1:])):
            raise InputError(f"train.milestones must increase, got {self.milestones}")
        if self.scale_jitter[0] > self.scale_jitter[1]:
            raise InputError(f"train.scale_jitter must be (low, high) with low ≤ high, got {self.scale_jitter}")


@dataclass(frozen=True)
class Config:
    """Everything that makes a run: what is built and how it is trained."""

    head: HeadName = "tsd"
    num_classes: Annotated[int, Range(1, 10**6)] = 80  # without background; training takes it from the data
    image: ImageConfig = field(default_factory=ImageConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)
    double: DoubleConfig = field(default_factory=DoubleConfig)
    iou: IoUConfig = field(default_factory=IoUConfig)
    tsd: TSDConfig = field(default_factory=TSDConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        levels = len(self.backbone.stages) + 1  # and the pooled one
        if len(self.rpn.anchor_sizes) != levels and not self.backbone.name.startswith(TORCHVISION):
            raise InputError(
                f"rpn.anchor_sizes has {len(self.rpn.anchor_sizes)} entries for {levels} pyramid levels "
                f"(backbone.stages {self.backbone.stages} and one pooled level); give one size per level"
            )
        if self.head == "tsd" and self.tsd.progressive_constraint and not self.tsd.joint_sibling:
            raise InputError(
                "tsd.progressive_constraint compares with the sibling head: turn on tsd.joint_sibling, "
                "or turn off tsd.progressive_constraint"
            )
        if self.head == "iou" and self.iou.guided_nms and self.roi.nms != "hard":
            raise InputError(
                f"iou.guided_nms replaces roi.nms, which is {self.roi.nms!r}: turn off iou.guided_nms, "
                "or set roi.nms to 'hard'"
            )


def config_to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def config_from_dict(values: dict[str, Any]) -> Config:
    """Inverse of `config_to_dict`; lists become tuples, and missing fields take their defaults.

    Raises:
        InputError: a field is unknown, or its value is not allowed; names the field.
    """
    return _from_dict(Config, values, "config")


def _from_dict(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where} must be an object with the fields of {cls.__name__}, got {values!r}")
    hints = typing.get_type_hints(cls)
    unknown = sorted(map(str, set(values) - set(hints)))
    if unknown:
        raise InputError(f"{where} has unknown field(s) {', '.join(unknown)}; {cls.__name__} has {sorted(hints)}")
    return cls(**{name: _plain(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _plain(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _from_dict(hint, value, where)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    return value
