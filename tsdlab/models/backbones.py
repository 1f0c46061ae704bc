"""Backbones with a feature pyramid: torchvision ResNets and ResNeXts, a ResNet-10, and any timm model."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from textwrap import shorten
from typing import Any

import timm
import torch
import torchvision
from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from tsdlab.config import BackboneConfig
from tsdlab.errors import InputError
from tsdlab.models.deformable import make_deformable

_RESNET = re.compile(r"(wide_)?res(net|next)\d+(_.+)?")
_STAGES = 5  # the stem and stages 1…4


def build_backbone(config: BackboneConfig, weights: str | None = None) -> nn.Module:
    """Backbone and pyramid for a torchvision detector.

    "sync" norms are batch norms that, in training, share their statistics between all processes. torch has them for
    CUDA devices only. With one process they are plain batch norms, which compute the same. With several processes on
    CPUs they are plain batch norms too, with a warning. Their weights have the same names as plain batch norms.

    Args:
        config: the network, and which of its stages become levels.
        weights: None starts from random weights; "DEFAULT" downloads ImageNet weights (network needed).

    Returns:
        A module: images [N, 3, H, W] → ordered dict of levels "0", "1", …, "pool", each [N, fpn_channels, h, w].
        `out_channels` and `strides` (of the numbered levels) are attributes.

    Raises:
        ValueError: unknown network, or a stage of it that cannot be made deformable.
    """
    strides = tuple(2 ** (stage + 1) for stage in config.stages)
    backbone: Any
    if config.name.startswith("timm:"):
        backbone = TimmBackboneWithFPN(config, strides, pretrained=weights is not None)
        members = backbone.members
    else:
        body = _resnet(config, weights)
        width = body.inplanes // 8
        backbone = BackboneWithFPN(
            body,
            return_layers={f"layer{stage}": str(i) for i, stage in enumerate(config.stages)},
            in_channels_list=[width * 2 ** (stage - 1) for stage in config.stages],
            out_channels=config.fpn_channels,
            extra_blocks=LastLevelMaxPool(),
        )
        members = partial(_layer_members, backbone.body)
    for stage in sorted(set(config.deformable_stages)):
        if make_deformable(backbone.body, members(stage)) == 0:
            raise InputError(f"backbone {config.name!r} has no 3×3 convolution to make deformable in stage {stage}")
    if config.norm == "sync" and _can_synchronise():
        backbone.body = convert_sync_batchnorm(backbone.body)  # timm's function, which knows its own norms too
    backbone.strides = strides
    return backbone


def _layer_members(body: nn.Module, stage: int) -> list[str]:
    """Names of the modules of a torchvision network's stage."""
    return [name for name, _ in body.named_modules() if name.startswith(f"layer{stage}.")]


def _can_synchronise() -> bool:
    """Whether there are several processes, on devices for which torch can synchronize batch norms."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return False
    if "nccl" in distributed.get_backend():
        return True
    warnings.warn(
        'backbone.norm "sync" needs CUDA devices; on these devices each process normalizes by its own images',
        stacklevel=3,
    )
    return False


def _resnet(config: BackboneConfig, weights: str | None) -> ResNet:
    norm_layer = FrozenBatchNorm2d if config.norm == "frozen" else nn.BatchNorm2d
    if config.name == "resnet10":
        if weights is not None:
            raise InputError("resnet10 has no ImageNet weights; train it from scratch")
        body = ResNet(BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)
    elif _RESNET.fullmatch(config.name) and config.name in torchvision.models.list_models():
        body = torchvision.models.get_model(config.name, weights=weights, norm_layer=norm_layer)
    else:
        raise InputError(
            f'unknown backbone {config.name!r}: give "resnet10", a torchvision ResNet or ResNeXt such as "resnet50", '
            'or "timm:" and the name of a timm model'
        )
    frozen = ["conv1", "layer1", "layer2", "layer3", "layer4"][: _STAGES - config.trainable_stages]
    if frozen:
        frozen.append("bn1")
    for name, parameter in body.named_parameters():
        if name.split(".")[0] in frozen:
            parameter.requires_grad_(False)
    return body


class TimmBackboneWithFPN(nn.Module):
    """A timm model with convolutional features at the given strides, and a feature pyramid like torchvision's."""

    def __init__(self, config: BackboneConfig, strides: tuple[int, ...], pretrained: bool) -> None:
        super().__init__()
        name = config.name.removeprefix("timm:")
        if not timm.is_model(name):  # "hf-hub:" and "local-dir:" names need a network or a folder, to load weights too
            raise InputError(f"backbone.name: timm makes no feature backbone {name!r}: it has no such model")
        make: Callable[..., Any] = partial(timm.create_model, name, features_only=True)
        try:
            with torch.device("meta"):  # without memory and time
                offered = make(pretrained=False).feature_info.reduction()
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"backbone.name: timm makes no feature backbone {name!r}: {reason}") from error
        missing = sorted(set(strides) - set(offered))
        if missing:
            raise InputError(
                f"timm model {name!r} has features at strides {offered}, but backbone.stages needs strides {missing}"
            )
        indices = [offered.index(stride) for stride in strides]
        unused = _try_sides(name, partial(make, pretrained=False, out_indices=indices), strides)
        self.body: Any = _download(name, make, indices) if pretrained else make(out_indices=indices)
        for parameter in unused:  # distributed training waits for the gradient of every other parameter
            self.body.get_parameter(parameter).requires_grad_(False)
        self._freeze(min(_STAGES - config.trainable_stages, config.stages[-1] + 1))  # deeper ones are not built
        if config.norm == "frozen":
            self.body = freeze_batch_norm_2d(self.body)
        self.fpn = FeaturePyramidNetwork(
            self.body.feature_info.channels(), config.fpn_channels, extra_blocks=LastLevelMaxPool()
        )
        self.out_channels = config.fpn_channels

    def _freeze(self, stages: int) -> None:
        """Freeze the first `stages` stages; the stem counts as one."""
        frozen = set(self._through(stages - 1))
        for name, parameter in self.body.named_parameters():
            if name.rpartition(".")[0] in frozen:
                parameter.requires_grad_(False)

    def members(self, stage: int) -> list[str]:
        """Names of the modules of a stage."""
        return self._through(stage)[len(self._through(stage - 1)) :]

    def _through(self, stage: int) -> list[str]:
        """Names of all modules up to the end of `stage` (0 is the stem), where the stride is 2^(stage + 1)."""
        ends = [f["module"] for f in self.body.feature_info.info if f["reduction"] <= 2 ** (stage + 1)]
        if not ends:
            return []
        # The same module is "blocks.0" in some of timm's wrappers and "blocks_0" in others.
        prefixes = (ends[-1] + ".", ends[-1].replace(".", "_") + ".")
        names = [name for name, _ in self.body.named_modules()]
        inside = [i for i, name in enumerate(names) if f"{name}.".startswith(prefixes)]
        if not inside:
            raise InputError(
                f"there is no module {ends[-1]!r} in this timm model, so its stages cannot be told apart; set "
                "backbone.trainable_stages=5 and backbone.deformable_stages=()"
            )
        return names[: inside[-1] + 1]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = OrderedDict((str(i), f) for i, f in enumerate(self.body(images)))
        return self.fpn(levels)


def _download(name: str, make: Callable[..., Any], indices: list[int]) -> Any:
    """A timm network with its published weights. timm and its hubs raise errors of many libraries."""
    try:
        return make(pretrained=True, out_indices=indices)
    except Exception as error:
        reason = shorten(str(error), 200).rstrip(".") or type(error).__name__
        raise InputError(
            f"the weights of timm model {name!r} cannot be downloaded: {reason}. Give a local file: --imagenet FILE"
        ) from error


# Small and large; some networks have tables for the positions in images up to a size.
_SIDES = ((96, 160), (640, 1056))


def _try_sides(name: str, make: Callable[[], Any], strides: tuple[int, ...]) -> list[str]:
    """Check that a timm network takes images whose sides are any multiples of 32, as detectors do.

    timm cuts a network after its last feature map, but not exactly: some modules behind it stay.

    Returns:
        The names of the parameters that the feature maps do not depend on.

    Raises:
        InputError: it does not take such images, or its maps are not [N, C, height / stride, width / stride].
    """
    for device in ("meta", "cpu"):  # meta takes no memory and no time, but lacks some operators
        with torch.device(device):
            body = make().eval()
            try:
                for height, width in _SIDES:
                    maps = body(torch.zeros(1, 3, height, width))
                    shapes = [tuple(m.shape) for m in maps]
                    channels = body.feature_info.channels()
                    wanted = [(1, c, height // s, width // s) for c, s in zip(channels, strides)]
                    if shapes != wanted:
                        raise InputError(f"maps are {shapes}, not {wanted}")
            except Exception as error:  # an assertion, a reshape, an index …
                reason, fault = f"{height} × {width} pixels: {' '.join(str(error).split())}", error
                continue
        sum(m.sum() for m in maps).backward()
        return [parameter for parameter, value in body.named_parameters() if value.grad is None]
    raise InputError(
        f"backbone.name: timm model {name!r} cannot be used for images of {shorten(reason, 300)}. Take a network for "
        "images of any size, with a map for each stride, as most convolutional networks are"
    ) from fault
