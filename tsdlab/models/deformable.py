"""Deformable convolution (Dai et al., ICCV 2017): a learned offset moves the sampling position of each kernel tap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

_KERNEL = 3  # taps per side


class DeformableConv2d(DeformConv2d):
    """Replaces a plain convolution: the same weight under the same name, and offsets that start at zero.

    There is one offset (dy, dx) per output position and kernel tap, in cells of the input. It is shared by all channels
    and not bounded. There is no modulation (that is DCN v2). With offsets of zero it computes the plain convolution, so
    trained weights stay valid.

    x [N, C, H, W] → [N, C', H', W'], contiguous in any memory format of x. Under autocast, offsets and result have half
    precision; sampling and sums have the weight's type.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        # torch declares these as tuples of any length.
        geometry: Any = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
        super().__init__(
            conv.in_channels, conv.out_channels, _KERNEL, groups=conv.groups, bias=conv.bias is not None, **geometry
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.offset = nn.Conv2d(conv.in_channels, 2 * _KERNEL * _KERNEL, _KERNEL, **geometry)
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)
            parameter.requires_grad_(conv.weight.requires_grad)  # a frozen stage stays frozen

    def forward(self, x: Tensor) -> Tensor:
        offsets = self.offset(x)
        # torchvision's kernel needs one type for all inputs, and ignores autocast on a CPU.
        full = self.weight.dtype
        return super().forward(x.to(full), offsets.to(full)).to(offsets.dtype)


def make_deformable(body: nn.Module, names: Iterable[str]) -> int:
    """Replace the plain 3×3 convolutions on the residual paths of a network, in place.

    In a bottleneck that is the middle convolution, as in the authors' code and in mmdetection, which the reference code
    uses. In a basic block, which they do not mention, it is both convolutions. Not replaced are the 3×3 convolutions of
    SENet154's shortcuts ("downsample"), because only residual paths are deformable in other networks, and subclasses of
    Conv2d, because they do not compute a plain convolution with their weight.

    Args:
        body: the network.
        names: the names of its modules to look at.

    Returns:
        How many convolutions were replaced.
    """
    count = 0
    for name in names:
        conv = body.get_submodule(name)
        if type(conv) is nn.Conv2d and conv.kernel_size == (_KERNEL, _KERNEL) and "downsample" not in name.split("."):
            parent, _, child = name.rpartition(".")
            setattr(body.get_submodule(parent), child, DeformableConv2d(conv))
            count += 1
    return count
