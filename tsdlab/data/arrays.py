"""Images and numbers in memory, in any usual form, as tensors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tsdlab.data.bit_depth import UnusableImage, pixels_of, to_bytes
from tsdlab.data.images import read_image
from tsdlab.data.pillow import QUIET
from tsdlab.data.stored import in_unit_range
from tsdlab.errors import InputError, shown

_OVERSHOOT = 0.1  # what resizing may add beyond 0…1
_FEW = 16  # pixels, of which all may be nearly black


def as_image(value: Any) -> Tensor:
    """An image in any usual form as float32 `[3, H, W]`, RGB in 0…1.

    - A path: as `read_image`.
    - A PIL image of any mode: its pixels as they are, without the EXIF orientation.
    - A tensor, an array or nested lists: `[3, H, W]` or `[H, W, 3]`, with 1 or 4 channels likewise (alpha is ignored),
      `[H, W]`, or a batch of one. Where the first and the last dimension could be the channels, a tensor is
      `[3, H, W]`, and anything else `[H, W, 3]`.

    Floating-point numbers are in 0…1; up to 0.1 beyond is clipped. Whole numbers follow the rule of `bit_depth.py`: up
    to 255 they are in 0…255; but nothing except 0 and 1 is a mask, and refused. A tensor stays on its device, and
    without its history. It is returned itself if nothing has to change. A PIL image whose file is not yet decoded is
    read as `read_image` does.

    Raises:
        InputError: it is none of these, is empty, or its values do not say how bright they are; DataError for a file.
    """
    if isinstance(value, str | Path):
        return read_image(value)
    try:
        if isinstance(value, Image.Image):
            with QUIET:
                return in_unit_range(pixels_of(value))
        return _bright(_channels_first(value))
    except UnusableImage as error:
        raise InputError(f"image {error}") from error
    except (OSError, SyntaxError, ValueError) as error:  # a PIL image is decoded only now
        raise InputError(f"image cannot be decoded ({shown(str(error))})") from error


def _channels_first(value: Any) -> Tensor:
    """A tensor or array of numbers as [3, H, W]."""
    image = as_numbers(value)
    if image is None or image.is_complex():
        raise UnusableImage(
            f"must be a tensor or array of numbers [3, H, W] or [H, W, 3], a PIL image or a path, got {_kind_of(value)}"
        )
    image = image[0] if image.dim() == 4 and len(image) == 1 else image
    image = image[None] if image.dim() == 2 else image
    channels = (1, 3, 4)
    image = image.detach() if image.requires_grad else image
    first, last = (image.dim() == 3 and image.shape[axis] in channels for axis in (0, -1))
    if not (first or last) or image.numel() == 0:
        raise UnusableImage(
            f"must be [3, H, W], got {tuple(image.shape)}; [H, W, 3], 1 or 4 channels and [H, W] will do"
        )
    if last and not (first and isinstance(value, Tensor)):
        image = image.permute(2, 0, 1)
    return image.expand(3, -1, -1) if len(image) == 1 else image[:3] if len(image) == 4 else image


def _bright(image: Tensor) -> Tensor:
    """[3, H, W] of any type as float32 in 0…1."""
    if image.is_floating_point():
        image = image.float()
        low, high = (v.item() for v in image.aminmax())
        if not -_OVERSHOOT <= low <= high <= 1 + _OVERSHOOT:
            advice = "divide it by 255" if low >= 0 and high <= 255 else "undo its normalization, or scale it"
            advice = advice if math.isfinite(high - low) else "replace what is not finite"
            raise UnusableImage(f"must hold floating-point numbers in 0…1, got {low:g} to {high:g}; {advice}")
        return image.clamp(0, 1) if low < 0 or high > 1 else image
    if image.dtype == torch.bool:
        return image.float()
    if image[0].numel() > _FEW and bool((image == 1).any()) and bool(((image == 0) | (image == 1)).all()):
        raise UnusableImage(
            "holds whole numbers from 0 to 1, which would be black: whole numbers are in 0…255. Convert a mask to bool "
            "or float, or multiply it by 255"
        )
    if image.dtype != torch.uint8:
        image = torch.from_numpy(to_bytes(image.cpu().numpy())).to(image.device)
    return in_unit_range(image)


def as_numbers(value: Any) -> Tensor | None:
    """A tensor, an array, or nested lists of numbers as a plain tensor; None if it is something else."""
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided or value.is_quantized:
            return None
        value = value.as_subclass(Tensor) if type(value) is not Tensor else value  # such as tv_tensors.Image
        return value.clone() if value.is_inference() and not torch.is_inference_mode_enabled() else value
    try:
        array = np.asarray(value)
    except Exception:  # rows of unequal length, or whatever an object's own conversion raises
        return None
    if array.dtype.kind not in "biuf":
        return None
    kind = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.float64
    return torch.from_numpy(np.array(array, dtype=kind, order="C"))  # torch has no negative strides


def _kind_of(value: Any) -> str:
    """How a message names what was given in place of an image."""
    dtype = getattr(value, "dtype", None)
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}" + (f" of {dtype}" if dtype is not None else "")
