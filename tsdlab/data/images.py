"""Decoding image files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tsdlab.errors import DataError


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """An image file of any mode as float32 `[3, H, W]`, RGB in 0…1; its EXIF orientation is applied.

    Args:
        path: any format that Pillow reads.
        size: the expected (width, height) in pixels. If only the stored, unrotated pixels have this size, the boxes
            were drawn on those, and the orientation is not applied.

    Raises:
        DataError: the file cannot be decoded, or has another size.
    """
    try:
        with Image.open(path) as stored:
            stored.load()
            image = ImageOps.exif_transpose(stored)
            if size not in (None, image.size) and size == stored.size:
                image = stored
            if size not in (None, image.size):
                raise DataError(
                    f"{path} is {image.width}×{image.height}, its entry says {size[0]}×{size[1]}; "
                    "correct width and height, or restore the image the boxes were drawn on"
                )
            pixels = _rgb(image)
    # What Pillow's decoders raise on damaged files; none of it names the file.
    except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); replace the file, or remove its entry") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 `[H, W, 3]`."""
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit grey to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))
