"""Region pooling as one torch operator: compiled loops on a CPU (numba), one kernel launch on CUDA (Triton).

The operator is opaque to torch: `torch.compile` and `torch.export` see one node with known shapes, and autograd uses
the gradient registered here. Each compiler is imported when the first tensor of its device arrives.

Under autocast the operator computes in the type of its features, which a convolution has already made low precision.
Coordinates stay in at least float32.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tsdlab.ops.sampling import regions_backward

_REGIONS = (
    "Tensor rois, Tensor levels, Tensor? offsets, float[] scales, int[2] output_size, int sampling_ratio, bool aligned"
)


@torch.library.custom_op(
    "tsdlab::pool_regions", mutates_args=(), device_types="cpu", schema=f"(Tensor[] features, {_REGIONS}) -> Tensor"
)
def pool_regions(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    offsets: Tensor | None,
    scales: Sequence[float],
    output_size: Sequence[int],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The mean of the bilinear samples of every bin.

    Args:
        features: one [N, C, H, W] per level, channels-last.
        rois: [K, 5] (image, x1, y1, x2, y2) in image pixels; float64 if the features are float64, else float32.
        levels: [K] int64, the level each RoI is pooled from.
        offsets: [K, rows, columns, 2] of the RoIs' dtype, or None.
        scales: feature cells per image pixel, one per level.
        output_size, sampling_ratio, aligned: as in `deform_roi_align`.

    Returns:
        [K, C, rows, columns] of the features' dtype, channels-last in memory.
    """
    from tsdlab.ops import numba_kernels

    rows, columns = output_size
    return numba_kernels.forward(features, rois, levels, offsets, scales, (rows, columns), sampling_ratio, aligned)


@pool_regions.register_kernel("cuda")
def _(features, rois, levels, offsets, scales, output_size, sampling_ratio, aligned):
    from tsdlab.ops import triton_kernels

    rows, columns = output_size
    return triton_kernels.forward(features, rois, levels, offsets, scales, (rows, columns), sampling_ratio, aligned)


@pool_regions.register_fake
def _(features, rois, levels, offsets, scales, output_size, sampling_ratio, aligned):
    return features[0].new_empty(rois.shape[0], *output_size, features[0].shape[1]).permute(0, 3, 1, 2)


@torch.library.custom_op(
    "tsdlab::pool_regions_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor grad, Tensor[] features, {_REGIONS}, bool need_features, bool need_points) -> (Tensor[], Tensor)",
)
def pool_regions_backward(
    grad: Tensor,
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    offsets: Tensor | None,
    scales: Sequence[float],
    output_size: Sequence[int],
    sampling_ratio: int,
    aligned: bool,
    need_features: bool,
    need_points: bool,
) -> tuple[list[Tensor], Tensor]:
    """The backward pass of `pool_regions`: from the gradient of the result to those of features and sample points.

    Args:
        grad: [K, C, rows, columns] the gradient of the result.
        need_features, need_points: which gradients to compute.
        features, rois, levels, offsets, scales, output_size, sampling_ratio, aligned: as for `pool_regions`.

    Returns:
        The gradient of every level, channels-last, or [] without `need_features`. And the moments [K, rows, columns, 4]
        of the gradient of the sample points, or [0, ...] without `need_points`: for each bin, the sums of
        (gx, fx·gx, gy, fy·gy) over its samples. A sample is at the fractions fx, fy of its RoI's width and height;
        moving it by one cell along x or y changes the loss by gx or gy.
    """
    from tsdlab.ops import numba_kernels

    rows, columns = output_size
    where = (rois, levels, offsets, scales, (rows, columns), sampling_ratio, aligned)
    return numba_kernels.backward(grad, features, *where, need_features, need_points)


@pool_regions_backward.register_kernel("cuda")
def _(grad, features, rois, levels, offsets, scales, output_size, sampling_ratio, aligned, need_features, need_points):
    from tsdlab.ops import triton_kernels

    strict = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    if need_features and strict:
        raise RuntimeError(
            "backend 'triton' sums the gradient of the features in no fixed order, which "
            "torch.use_deterministic_algorithms(True) forbids; use backend=None or 'bag'"
        )
    rows, columns = output_size
    where = (rois, levels, offsets, scales, (rows, columns), sampling_ratio, aligned)
    return triton_kernels.backward(grad, features, *where, need_features, need_points)


@pool_regions_backward.register_fake
def _(grad, features, rois, levels, offsets, scales, output_size, sampling_ratio, aligned, need_features, need_points):
    channels_last = [f.new_empty(f.shape[0], *f.shape[2:], f.shape[1]).permute(0, 3, 1, 2) for f in features]
    return channels_last if need_features else [], rois.new_empty(rois.shape[0] if need_points else 0, *output_size, 4)


def _remember(ctx: Any, inputs: tuple, output: Tensor) -> None:
    features, rois, levels, offsets, *ctx.how = inputs
    ctx.save_for_backward(rois, levels, offsets, *features)


def _backward(ctx: Any, grad: Tensor) -> tuple:
    rois, levels, offsets, *features = ctx.saved_tensors
    scales, _, _, aligned = ctx.how
    need_features = any(ctx.needs_input_grad[0])
    need_points = ctx.needs_input_grad[1] or ctx.needs_input_grad[3]
    feature_grads, moments = pool_regions_backward(
        grad, features, rois, levels, offsets, *ctx.how, need_features, need_points
    )
    roi_grad = offset_grad = None
    if need_points:
        roi_grad, offset_grad = regions_backward(moments, rois, levels, offsets, scales, aligned)
    return feature_grads or [None] * len(features), roi_grad, None, offset_grad, None, None, None, None


pool_regions.register_autograd(_backward, setup_context=_remember)
