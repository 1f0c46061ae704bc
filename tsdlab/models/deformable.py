"""Deformable convolution (Dai et al., ICCV 2017): each tap of a kernel samples where a learnt offset moves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

_KERNEL = 3  # taps per side


class DeformableConv2d(DeformConv2d):
    """What a plain convolution becomes: the same weight under the same name, and offsets that start at zero.

    One (dy, dx) per output position and kernel tap, in cells of the input, common to all channels and unbounded; no
    modulation (that is DCN v2). An offset of zero computes the plain convolution, so trained weights stay valid.
    x [N, C, H, W] → [N, C', H', W'], contiguous whatever the memory format of x. Under autocast the offsets are of
    half precision, as the answer is; sampling and sums are in the weight's type.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        # torch types these as tuples of any length
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
        # torchvision's kernel wants one type, and knows nothing of autocast on a CPU.
        full = self.weight.dtype
        return super().forward(x.to(full), offsets.to(full)).to(offsets.dtype)


def make_deformable(body: nn.Module, names: Iterable[str]) -> int:
    """Make deformable, in place, every plain 3×3 convolution on a residual path among the modules `names` of `body`.

    Of a bottleneck that is the middle convolution, as in the authors' code (and mmdetection's, which the reference
    code uses); they say nothing of basic blocks, of which both convolutions are taken here. SENet154's shortcuts
    ("downsample") have 3×3 convolutions, too; they stay, as nothing but the residual path is deformable elsewhere.
    A subclass of Conv2d computes something else than a convolution of its weight, and stays as well.

    Returns:
        How many there were.
    """
    count = 0
    for name in names:
        conv = body.get_submodule(name)
        if type(conv) is nn.Conv2d and conv.kernel_size == (_KERNEL, _KERNEL) and "downsample" not in name.split("."):
            parent, _, child = name.rpartition(".")
            setattr(body.get_submodule(parent), child, DeformableConv2d(conv))
            count += 1
    return count
