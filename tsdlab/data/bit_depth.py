"""The pixels of a Pillow image of any mode and bit depth.

Where a file holds more than 8 bits a value, white is

- what the file says: PGM, PPM, JPEG 2000 and 12-bit TIFF do;
- for other whole numbers, the largest value of the fewest bits (8, 10, 12, 14 or 16) that hold all values of the image.
  Cameras and scanners store 10, 12 or 14 bits in 16 and do not say so. Save the images of a data set as 8 bits if their
  brightness has to be comparable;
- for floating-point numbers 1 if all are in 0…1, and 255 if all are in 0…255 and the largest is at least 64.

Anything else is refused. Values are then rounded to 8 bits. Transparency and colour profiles are ignored.
"""

from __future__ import annotations

import io
import sys
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tsdlab.data.pillow import open_image

_DEPTHS = (8, 10, 12, 14, 16)
# Pillow keeps the upper bytes of colours of 16 bits. Read with these raw modes, it keeps the lower ones.
_LOWER_BYTES = {
    **{f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA", "RGBX") for order, other in ("BL", "LB")},
    **{f"{mode};16N": f"{mode};16{'B' if sys.byteorder == 'little' else 'L'}" for mode in ("RGB", "RGBA", "RGBX")},
    "LA;16B": "RGBA",  # the two bytes of grey, the two bytes of alpha
}


class UnusableImage(Exception):
    """An image that cannot be used; the message follows its name."""


def pixels_of(image: Image.Image, turn: Image.Transpose | None = None) -> Tensor:
    """The pixels of an image as uint8 `[3, H, W]`, RGB.

    Args:
        image: its pixels are loaded if they are not yet.
        turn: how to transpose them.

    Raises:
        UnusableImage: its values do not say how bright they are.
    """
    pixels = _loaded(image)
    if turn is not None:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turn))
    channels = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    tensor = torch.empty(3, *channels.shape[1:], dtype=torch.uint8)
    tensor.numpy()[...] = channels
    return tensor


def _loaded(image: Image.Image) -> np.ndarray:
    """The pixels of an image as `_pixels` gives them, with what its file says about their brightness."""
    raw_mode = _raw_mode(image)
    white = _white(image)
    negative = image.format == "TIFF" and image.mode[:2] in ("I;", "F") and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    is_deep_colour = ";16" in raw_mode and image.mode in ("RGB", "RGBA")
    stored = _content(image.fp) if is_deep_colour else io.BytesIO()  # type: ignore[attr-defined]
    image.load()  # closes the file
    pixels = _deep_colour(image, raw_mode, stored) if is_deep_colour else _pixels(image, white)
    return 255 - pixels if negative else pixels  # Pillow inverts only 8 bits


def _content(file: IO[bytes]) -> io.BytesIO:
    """All bytes of an open file, which stays where it is."""
    here = file.tell()
    file.seek(0)
    content = io.BytesIO(file.read())
    file.seek(here)
    return content


def _pixels(image: Image.Image, white: int | None = None) -> np.ndarray:
    """A loaded image of any mode as uint8, RGB [H, W, 3] or grey [H, W]."""
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return to_bytes(np.asarray(image), white)
    if mode in ("1", "L", "LA", "La"):
        return np.asarray((image.convert("LA") if mode == "La" else image).convert("L"))
    if mode in ("P", "PA", "RGBa"):  # Pillow converts their transparency only to RGBA
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def to_bytes(values: np.ndarray, white: int | None = None) -> np.ndarray:
    """Values of more than 8 bits as uint8: 0…`white` becomes 0…255, and None stands for the rule of this module."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (-1e-3 <= low <= high <= 1 + 1e-3 or (low >= 0 and 64 <= high <= 255)):
            raise UnusableImage(
                f"holds floating-point numbers from {low:g} to {high:g}; 0…1 and 0…255 can be shown. Scale the values "
                "to one of them, or save 8 bits"
            )
        white = 1 if high < 64 else 255
    elif white is None:
        depth = next((depth for depth in _DEPTHS if high < 2**depth), None)
        if low < 0 or depth is None:
            raise UnusableImage(
                f"holds whole numbers from {low} to {high}; 0…{2 ** _DEPTHS[-1] - 1} can be shown. Scale the values, "
                "and save 8 or 16 bits"
            )
        white = 2**depth - 1
    return np.rint(np.clip(values * np.float32(255 / white), 0, 255)).astype(np.uint8)


def _white(image: Image.Image) -> int | None:
    """The value that is white in an image of one channel and more than 8 bits, if its file says so."""
    if image.format in ("PPM", "JPEG2000"):
        return 2**16 - 1  # Pillow scales to this by the largest value or the precision in the header
    if image.format == "TIFF" and image.tag_v2.get(258) == (12,):  # type: ignore[attr-defined]
        return 2**12 - 1
    return None


def _raw_mode(image: Image.Image) -> str:
    """How the decoder of `image` names the layout of a stored pixel; "" if it does not."""
    tile = getattr(image, "tile", None)
    raw_mode = (tile[0][3] if isinstance(tile[0][3], str) else next(iter(tile[0][3] or [""]))) if tile else ""
    return raw_mode if isinstance(raw_mode, str) else ""


def _deep_colour(image: Image.Image, raw_mode: str, file: IO[bytes]) -> np.ndarray:
    """RGB of 16 bits a channel as uint8 [H, W, 3]; the lower bytes are read too if the upper ones hold little."""
    upper = np.asarray(image)[..., :3]
    if upper.max() >= 2 ** (_DEPTHS[-2] - 8):
        return upper
    if raw_mode not in _LOWER_BYTES:
        raise UnusableImage("has 16 bits a channel but uses few of them, and would become black; save it as 8 bits")
    again = open_image(file)
    again.tile = [(*tile[:3], _with_raw_mode(tile[3], _LOWER_BYTES[raw_mode])) for tile in again.tile]  # type: ignore[misc]
    again.load()
    lower = np.asarray(again)[..., 1:2] if raw_mode == "LA;16B" else np.asarray(again)[..., :3]
    return to_bytes(upper.astype(np.uint16) << 8 | lower)


def _with_raw_mode(arguments: Any, raw_mode: str) -> Any:
    return raw_mode if isinstance(arguments, str) else (raw_mode, *arguments[1:])
