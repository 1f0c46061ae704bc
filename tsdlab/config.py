"""One frozen dataclass describes a run; the command line, the notebooks and the tests all speak it.

Odd values carry their reason beside them. "Paper" is arXiv 2003.07540; "reference code" is Sense-X/TSD.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tsdlab.errors import InputError

# The registry of heads: each name with the class that it stands for, imported when it is first built
# (`tsdlab.models.heads`). A new head is one new file and one line here.
HEADS: dict[str, str] = {
    "sibling": "tsdlab.models.heads.sibling:SiblingHead",
    "d_head": "tsdlab.models.heads.d_head:DHead",
    "double": "tsdlab.models.heads.double:DoubleHead",
    "iou": "tsdlab.models.heads.iou:IoUHead",
    "tsd": "tsdlab.models.heads.tsd:TSDHead",
}

if TYPE_CHECKING:
    HeadName: TypeAlias = str
else:
    HeadName = Literal[tuple(HEADS)]  # what the command line and `Config` accept

TORCHVISION = "torchvision:"  # begins the backbone's name of a detector that is torchvision's up to the head


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

    # resnet10, a torchvision ResNet or ResNeXt, "timm:<any timm model>", or "torchvision:<builder of a Faster R-CNN>"
    # for that builder's backbone, RPN and box head.
    name: str = "resnet50"
    stages: tuple[int, ...] = (1, 2, 3, 4)  # stage i has stride 2^(i+1); each becomes a pyramid level
    fpn_channels: int = 256
    norm: Literal["frozen", "batch", "sync"] = "frozen"  # frozen: fine-tuning at small batch; the others: from scratch
    trainable_stages: int = 3  # 0…5, counted from the last; 5 trains the stem too (torchvision's MobileNets have 6)
    deformable_stages: tuple[int, ...] = ()  # whose 3×3 convolutions are deformable (Dai et al. 2017); DCN: 2, 3, 4


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network; one anchor size per pyramid level, the extra pooled level included.

    A builder of torchvision brings its own anchors; then the fields list their sizes and ratios, each once.
    """

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
    loss_weight: float = 1.0  # of all the head's losses: a control for heads that have more of them
    score_thresh: float = 0.05
    nms: Literal["hard", "linear", "gaussian"] = "hard"  # the latter two are Soft-NMS (Bodla et al. 2017)
    nms_thresh: float = 0.5  # IoU; "gaussian" has no threshold
    soft_nms_sigma: float = 0.5  # "gaussian" only: a score decays by exp(−IoU² / σ)
    pre_nms_top_n: int = 2000  # best candidates that enter NMS: a score threshold of 0 stays cheap
    detections_per_image: int = 100


@dataclass(frozen=True)
class DoubleConfig:
    """Double-Head R-CNN (Wu et al., CVPR 2020): fully connected layers classify, convolutions localize."""

    box_scale: float = 1.3  # RoIs of the convolutional branch are enlarged by this factor, per side
    bottlenecks: int = 4  # after the residual block that widens to roi.hidden channels
    loss_weight: float = 2.0  # of each branch; the reference code's Ext weighs its conv branch by 2.5
    extended: bool = False  # Double-Head-Ext: each branch does both tasks, their class scores are fused
    fc_classification: float = 0.7  # λ_fc: share of classification in the fc branch's loss; "extended" only
    conv_localization: float = 0.8  # λ_conv: share of localization in the conv branch's loss; "extended" only


@dataclass(frozen=True)
class IoUConfig:
    """IoU-Net (Jiang et al., ECCV 2018): a third branch predicts how well a box fits."""

    boxes_per_object: int = 16  # jittered ground-truth boxes that train the IoU branch
    min_iou: float = 0.5  # their IoU is uniform between this and 1
    loss_weight: float = 1.0
    guided_nms: bool = True  # NMS by predicted IoU, instead of roi.nms
    refinement_steps: int = 5  # T, steps of gradient ascent on predicted IoU; 0 turns refinement off
    step_size: float = 0.5  # λ
    min_change: float = 0.001  # Ω1: a box is done when its predicted IoU changes by less …
    max_loss: float = 0.01  # −Ω2: … or has become worse by more


@dataclass(frozen=True)
class TSDConfig:
    """Task-aware spatial disentanglement and the progressive constraint; the fields are the paper's ablations."""

    gamma: float = 0.1  # γ, Eq. 3 and 5: scale of both offsets
    offset_hidden: int = 256
    share_first_layer: bool = True  # of the two offset nets
    # One displacement for each bin (deformable RoI pooling), or one for the whole proposal (Tab. 5: Point.w, Prop.w).
    classification_region: Literal["bins", "proposal"] = "bins"
    localization_region: Literal["bins", "proposal"] = "proposal"
    joint_sibling: bool = True  # train the sibling head along; the constraint needs it
    progressive_constraint: bool = True
    classification_margin: float | None = 0.2  # m_c; None leaves M_cls out. 0.3 in the reference configs
    localization_margin: float | None = 0.2  # m_r; None leaves M_loc out
    constraint_teaches_sibling: bool = False  # False as in the reference code: its score and IoU are constants
    offsets_teach_features: bool = True  # False: the offset nets read the features and do not shape them
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
    double: DoubleConfig = field(default_factory=DoubleConfig)
    iou: IoUConfig = field(default_factory=IoUConfig)
    tsd: TSDConfig = field(default_factory=TSDConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        _check_choices(self, "")
        self._check_ranges()
        levels = len(self.backbone.stages) + 1  # and the pooled one
        if len(self.rpn.anchor_sizes) != levels and not self.backbone.name.startswith(TORCHVISION):
            raise InputError(
                f"rpn.anchor_sizes has {len(self.rpn.anchor_sizes)} entries for {levels} pyramid levels "
                f"(backbone.stages {self.backbone.stages} and one pooled level); give one size per level"
            )
        if self.num_classes < 1:
            raise InputError(f"num_classes must be at least 1 (background not counted), got {self.num_classes}")
        if self.head == "tsd" and self.tsd.progressive_constraint and not self.tsd.joint_sibling:
            raise InputError(
                "tsd.progressive_constraint compares with the sibling head: without tsd.joint_sibling turn it off, too"
            )
        if self.head == "iou" and self.iou.guided_nms and self.roi.nms != "hard":
            raise InputError(f"iou.guided_nms takes the place of roi.nms {self.roi.nms!r}: turn one of them off")

    def _check_ranges(self) -> None:
        """Raises ValueError naming a number that would train nothing, or diverge."""
        iou, double, roi, tsd = self.iou, self.double, self.roi, self.tsd
        shares = (double.fc_classification, double.conv_localization)
        margins = [m for m in (tsd.classification_margin, tsd.localization_margin) if m is not None]
        sound = {
            "tsd.gamma": (tsd.gamma, 0 <= tsd.gamma < math.inf, "at least 0"),
            "tsd.offset_hidden": (tsd.offset_hidden, tsd.offset_hidden >= 1, "at least 1"),
            "the margins of tsd": (margins, all(0 <= m <= 1 for m in margins), "between 0 and 1, or None"),
            "the shares of double": (shares, all(0 <= share <= 1 for share in shares), "between 0 and 1"),
            "roi.loss_weight": (roi.loss_weight, roi.loss_weight >= 0, "at least 0"),
            "roi.soft_nms_sigma": (roi.soft_nms_sigma, roi.soft_nms_sigma > 0, "above 0"),
            "double.box_scale": (double.box_scale, double.box_scale > 0, "above 0"),
            "double.bottlenecks": (double.bottlenecks, double.bottlenecks >= 0, "at least 0"),
            "iou.boxes_per_object": (iou.boxes_per_object, iou.boxes_per_object >= 1, "at least 1"),
            "iou.min_iou": (iou.min_iou, 0 < iou.min_iou < 1, "between 0 and 1"),
            "iou.refinement_steps": (iou.refinement_steps, iou.refinement_steps >= 0, "at least 0"),
        }
        for name, (value, fine, bounds) in sound.items():
            if not fine:
                raise InputError(f"{name} must be {bounds}, got {value}")


def _check_choices(config: Any, where: str) -> None:
    """Raises ValueError naming a field, at any depth, whose value is none of its choices."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            _check_choices(value, f"{where}{name}.")
        elif typing.get_origin(hint) is Literal and value not in typing.get_args(hint):
            choices = ", ".join(map(repr, typing.get_args(hint)))
            raise InputError(f"{where}{name} must be one of {choices}; got {value!r}")


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
        raise InputError(f"{where} has unknown field(s) {', '.join(unknown)}; {cls.__name__} has {sorted(hints)}")
    return cls(**{name: _plain(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _plain(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _from_dict(hint, value, where)
    if isinstance(hint, types.GenericAlias) and typing.get_origin(hint) is tuple:
        return tuple(value)
    return value
