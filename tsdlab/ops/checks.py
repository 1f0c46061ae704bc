"""Checks of the inputs of every pooling op."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tsdlab.errors import InputError


def check_features(features: Sequence[Tensor]) -> None:
    """Raises ValueError unless all are floating-point tensors [N, C, H, W] with the same N, C and dtype."""
    for f in features:
        if not isinstance(f, Tensor):
            raise InputError(f"features must be tensors [N, C, H, W], got {type(f).__name__}")
        if f.dim() != 4:
            raise InputError(f"features must be [N, C, H, W], got {tuple(f.shape)}")
        if not f.is_floating_point():
            raise InputError(f"features must be floating point, got {f.dtype}")
    if len({f.dtype for f in features}) > 1:
        raise InputError(f"feature maps must have one dtype, got {[str(f.dtype) for f in features]}")
    if len({f.shape[:2] for f in features}) > 1:
        raise InputError(
            f"feature maps must have equal numbers of images and channels, got {[tuple(f.shape) for f in features]}"
        )


def check_regions(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    sampling_ratio: int,
    offsets: Tensor | None,
) -> tuple[int, int]:
    """(rows, columns) of bins. Raises ValueError naming an argument of `deform_roi_align` that does not fit."""
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"output_size must be a positive int or (rows, columns), got {output_size}")
    if sampling_ratio < 1:
        raise InputError(
            f"sampling_ratio must be at least 1, got {sampling_ratio} (adaptive sampling is not supported)"
        )
    for name, given in (("rois", rois), ("offsets", offsets)):
        if given is not None and not isinstance(given, Tensor):
            raise InputError(f"{name} must be a tensor, got {type(given).__name__}")
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise InputError(f"rois must be [K, 5] (image index, x1, y1, x2, y2), got {tuple(rois.shape)}")
    if offsets is not None and offsets.shape != (rois.shape[0], *size, 2):
        raise InputError(
            f"offsets must be [{rois.shape[0]}, {size[0]}, {size[1]}, 2] for rois {tuple(rois.shape)}, "
            f"got {tuple(offsets.shape)}"
        )
    for name, tensor in (("rois", rois), ("offsets", offsets)):
        if tensor is not None and tensor.device != features.device:
            raise InputError(f"{name} are on {tensor.device} but features on {features.device}")
    return size
