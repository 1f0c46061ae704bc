"""Image files as tensors: what Pillow opens is shown right, or refused with its name and the reason.

Where a file holds more than 8 bits a value, white is

- what the file says: PGM, PPM, JPEG 2000 and 12-bit TIFF do;
- for other whole numbers, the largest value of the fewest bits (8, 10, 12, 14 or 16) that hold all values of the image.
  Cameras and scanners store 10, 12 or 14 bits in 16 and do not say so. Save the images of a data set as 8 bits if their
  brightness has to be comparable;
- for floating-point numbers 1 if all are in 0…1, and 255 if all are in 0…255 and the largest is at least 64.

Anything else is refused. Values are then rounded to 8 bits. Transparency and colour profiles are ignored, and of an
animation or a file with several pages the first is read.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from tsdlab.errors import DataError, InputError, shown

# 537 megapixels. As float32 that is 6.4 GB; Pillow's own limit of 179 would refuse photographs.
MAX_PIXELS = 2**29

_Result = TypeVar("_Result")
_DEPTHS = (8, 10, 12, 14, 16)
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"iCCP", b"iTXt", b"tEXt", b"zTXt")
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED_BACK = _TURNS | {6: _TURNS[8], 8: _TURNS[6]}


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """An image file of any mode as float32 `[3, H, W]`, RGB in 0…1; its EXIF orientation is applied.

    Args:
        path: any format that Pillow reads, except drawings (EPS).
        size: the expected (width, height) in pixels. If only the stored, unrotated pixels have this size, the boxes
            were drawn on those, and the orientation is not applied.

    Raises:
        DataError: there is no such file, it cannot be decoded, has another size or more than `MAX_PIXELS` pixels, or
            its values do not say how bright they are.
    """
    return _attempt(path, lambda file: _decode(file, size))


def inspect_image(path: str | Path, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) of `read_image(path, size)`, from the header alone.

    Raises:
        DataError: as `read_image`, if the header is enough to know it.
    """
    return _attempt(path, lambda file: _plan(_open(file), size).size)


def vanishes(width: int, height: int, max_size: int) -> bool:
    """Whether the shorter side is less than a pixel once the longer one is resized to `max_size` pixels."""
    # A little more than one pixel: torch computes the new size in 32 bits and rounds it down.
    return min(width, height) * max_size < max(width, height) * (1 + 1e-4)


class _Unusable(Exception):
    """An image that is decoded but cannot be used; the message follows its name."""


def _attempt(path: str | Path, work: Callable[[IO[bytes]], _Result]) -> _Result:
    """`work` on an open file; whatever goes wrong becomes a DataError with the file's name."""
    name = shown(path) or "an empty file name"
    try:
        with _open_regular(path) as file, _QUIET:
            try:
                return work(file)
            except ValueError:
                lean = _without_texts(file)
                if lean is None:
                    raise
                return work(lean)
    except _Unusable as error:
        raise DataError(f"{name} {error}") from error
    # Decoders raise nearly everything on damaged files, and none of it names the file.
    except Exception as error:
        reason = "not enough memory" if isinstance(error, MemoryError) else shown(str(error)) or type(error).__name__
        raise DataError(f"{name} cannot be decoded ({reason}); replace the file, or remove its entry") from error


@contextmanager
def _open_regular(path: str | Path) -> Iterator[IO[bytes]]:
    try:
        status = Path(path).stat()
        mode = status.st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
            raise _Unusable(f"is {kind}, not an image file; correct the file name in its entry")
        if status.st_size == 0:
            raise _Unusable("is empty; replace the file, or remove its entry")
        opened = Path(path).open("rb")  # noqa: SIM115 - closed below, where its errors are the decoder's
    except FileNotFoundError as error:
        what = "is a link to a file that does not exist" if Path(path).is_symlink() else "does not exist"
        raise _Unusable(f"{what}; restore the file, or remove its entry") from error
    except OSError as error:
        raise _Unusable(
            f"cannot be opened ({error.strerror or error}); make it readable, or remove its entry"
        ) from error
    except ValueError as error:  # a NUL or half a surrogate pair
        raise _Unusable("cannot be the name of a file; correct the file name in its entry") from error
    with opened as file:
        yield file


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    """As `PIL.Image.open`, without its limit of pixels: that is a global variable, which belongs to the caller.

    Says why a damaged file is not opened, and leaves out EPS, for which Pillow starts another program.
    """
    file.seek(0)
    prefix, tried = file.read(16), {"EPS"}
    reasons: list[str] = []
    for find_formats in (Image.preinit, Image.init):
        find_formats()
        for name in [name for name in Image.ID if name not in tried]:
            tried.add(name)
            factory, accept = Image.OPEN[name]
            accepted = accept(prefix) if accept else True
            if isinstance(accepted, str):
                reasons.append(accepted)
            elif accepted:
                file.seek(0)
                try:
                    return factory(file, "")
                except (SyntaxError, IndexError, TypeError, struct.error) as error:  # what Pillow's own loop goes on at
                    if accept:
                        reasons.append(f"{name}: {error}")
    raise SyntaxError(", ".join(reasons) or "not an image in a format that Pillow reads")


class _Plan(NamedTuple):
    """How the loaded pixels become those that are delivered."""

    size: tuple[int, int]  # delivered (width, height)
    turn: Image.Transpose | None


def _plan(image: Image.Image, size: tuple[int, int] | None) -> _Plan:
    """From the header of `image`, before its pixels are loaded."""
    orientation = _orientation(image)
    is_tiff = image.format == "TIFF"  # Pillow turns these while it loads them
    stored = (int(image.tag_v2[256]), int(image.tag_v2[257])) if is_tiff else image.size  # type: ignore[attr-defined]
    upright = stored[::-1] if orientation >= 5 else stored
    if min(stored) < 1:
        raise _Unusable(f"has no pixels ({stored[0]}×{stored[1]}); replace the file, or remove its entry")
    if stored[0] * stored[1] > MAX_PIXELS:
        raise _Unusable(
            f"is {stored[0]}×{stored[1]}, at most {MAX_PIXELS / 1e6:.0f} megapixels are read; cut it into parts, or "
            "remove its entry"
        )
    if size is not None and size not in (upright, stored):
        raise _Unusable(
            f"is {upright[0]}×{upright[1]}, its entry says {size[0]}×{size[1]}; "
            "correct width and height, or restore the image the boxes were drawn on"
        )
    if size in (None, upright):
        return _Plan(upright, None if is_tiff else _TURNS.get(orientation))
    return _Plan(stored, _TURNED_BACK.get(orientation) if is_tiff else None)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1…8; 1 if there is none or the EXIF data are damaged."""
    try:
        if image.format == "PNG" and "exif" not in image.info:
            image.info.update(_late_exif(image.fp))  # type: ignore[attr-defined]
        value = Image.Image.getexif(image).get(_ORIENTATION)  # PNG's own would decode the pixels first
    except Exception:
        return 1
    return int(value) if value in _TURNS else 1


def _decode(file: IO[bytes], size: tuple[int, int] | None) -> Tensor:
    """float32 [3, H, W] in 0…1."""
    image = _open(file)
    plan = _plan(image, size)
    return _tensor(_loaded(image), plan.turn)


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


def _tensor(pixels: np.ndarray, turn: Image.Transpose | None = None) -> Tensor:
    """uint8 [H, W, 3] or [H, W] as float32 [3, H, W] in 0…1."""
    if turn is not None:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turn))
    channels = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    image = torch.empty(3, *channels.shape[1:], dtype=torch.float32)
    image.numpy()[...] = channels  # one pass, without a second array of this size
    return image.div_(255)


def _pixels(image: Image.Image, white: int | None = None) -> np.ndarray:
    """A loaded image of any mode as uint8, RGB [H, W, 3] or grey [H, W]."""
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return _to_bytes(np.asarray(image), white)
    if mode in ("1", "L", "LA", "La"):
        return np.asarray((image.convert("LA") if mode == "La" else image).convert("L"))
    if mode in ("P", "PA", "RGBa"):  # Pillow converts their transparency only to RGBA
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _to_bytes(values: np.ndarray, white: int | None = None) -> np.ndarray:
    """Values of more than 8 bits as uint8: 0…`white` becomes 0…255, and None stands for the rule of this module."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (-1e-3 <= low <= high <= 1 + 1e-3 or (low >= 0 and 64 <= high <= 255)):
            raise _Unusable(
                f"holds floating-point numbers from {low:g} to {high:g}; 0…1 and 0…255 can be shown. Scale the values "
                "to one of them, or save 8 bits"
            )
        white = 1 if high < 64 else 255
    elif white is None:
        depth = next((depth for depth in _DEPTHS if high < 2**depth), None)
        if low < 0 or depth is None:
            raise _Unusable(
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


# Pillow keeps the upper bytes of colours of 16 bits. Read with these raw modes, it keeps the lower ones.
_LOWER_BYTES = {
    **{f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA", "RGBX") for order, other in ("BL", "LB")},
    **{f"{mode};16N": f"{mode};16{'B' if sys.byteorder == 'little' else 'L'}" for mode in ("RGB", "RGBA", "RGBX")},
    "LA;16B": "RGBA",  # the two bytes of grey, the two bytes of alpha
}


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
        raise _Unusable("has 16 bits a channel but uses few of them, and would become black; save it as 8 bits")
    again = _open(file)
    again.tile = [(*tile[:3], _with_raw_mode(tile[3], _LOWER_BYTES[raw_mode])) for tile in again.tile]  # type: ignore[misc]
    again.load()
    lower = np.asarray(again)[..., 1:2] if raw_mode == "LA;16B" else np.asarray(again)[..., :3]
    return _to_bytes(upper.astype(np.uint16) << 8 | lower)


def _with_raw_mode(arguments: Any, raw_mode: str) -> Any:
    return raw_mode if isinstance(arguments, str) else (raw_mode, *arguments[1:])


def _late_exif(file: IO[bytes]) -> dict[str | tuple[int, int], Any]:
    """The EXIF data of a PNG that stand behind its pixels, as Pillow would name them."""
    here = file.tell()
    try:
        for kind, length in _chunks(file):
            if kind == b"eXIf":
                return {"exif": b"Exif\0\0" + file.read(length)}
        return {}
    finally:
        file.seek(here)


def _without_texts(file: IO[bytes]) -> io.BytesIO | None:
    """A PNG without texts and colour profile; None if the file is no PNG.

    Pillow refuses those of more than a megabyte. Its limit is a global variable, which belongs to the caller. The
    orientation may stand in uncompressed XMP, so this is kept.
    """
    lean = io.BytesIO()
    lean.write(_PNG)
    chunk = None
    for chunk in _chunks(file):
        kind, length = chunk
        body = file.read(length + 4)
        if kind not in _TEXTS or body.startswith(b"XML:com.adobe.xmp\0\0"):
            lean.write(struct.pack(">I4s", length, kind) + body)
    lean.seek(0)
    return None if chunk is None else lean


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Name and length of every chunk of a PNG, with the file at the start of the chunk's data; none of another file."""
    end, start = file.seek(0, os.SEEK_END), len(_PNG)
    file.seek(0)
    if file.read(len(_PNG)) != _PNG:
        return
    while start + 8 <= end:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield kind, min(length, end - start - 8)
        start += length + 12


class _Quiet:
    """While any thread reads an image, warnings of Pillow are not shown: what matters in them becomes an error.

    `warnings.catch_warnings` alone would leave its filters behind if two threads use it at once.
    """

    def __init__(self) -> None:
        self._lock, self._readers, self._filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._filters.__exit__(None, None, None)


_QUIET = _Quiet()


# Images in memory -------------------------------------------------------------------------------------------------

_OVERSHOOT = 0.1  # what resizing may add beyond 0…1
_FEW = 16  # pixels, of which all may be nearly black


def as_image(value: Any) -> Tensor:
    """An image in any usual form as float32 `[3, H, W]`, RGB in 0…1.

    - A path: as `read_image`.
    - A PIL image of any mode: its pixels as they are, without the EXIF orientation.
    - A tensor, an array or nested lists: `[3, H, W]` or `[H, W, 3]`, with 1 or 4 channels likewise (alpha is ignored),
      `[H, W]`, or a batch of one. Where the first and the last dimension could be the channels, a tensor is
      `[3, H, W]`, and anything else `[H, W, 3]`.

    Floating-point numbers are in 0…1; up to 0.1 beyond is clipped. Whole numbers follow the rule of this module: up to
    255 they are in 0…255; but nothing except 0 and 1 is a mask, and refused. A tensor stays on its device, and without
    its history. It is returned itself if nothing has to change. A PIL image whose file is not yet decoded is read as
    `read_image` does.

    Raises:
        InputError: it is none of these, is empty, or its values do not say how bright they are; DataError for a file.
    """
    if isinstance(value, str | Path):
        return read_image(value)
    try:
        if isinstance(value, Image.Image):
            with _QUIET:
                return _tensor(_loaded(value))
        return _bright(_channels_first(value))
    except _Unusable as error:
        raise InputError(f"image {error}") from error
    except (OSError, SyntaxError, ValueError) as error:  # a PIL image is decoded only now
        raise InputError(f"image cannot be decoded ({shown(str(error))})") from error


def _channels_first(value: Any) -> Tensor:
    """A tensor or array of numbers as [3, H, W]."""
    image = as_numbers(value)
    if image is None or image.is_complex():
        raise _Unusable(
            f"must be a tensor or array of numbers [3, H, W] or [H, W, 3], a PIL image or a path, got {_kind_of(value)}"
        )
    image = image[0] if image.dim() == 4 and len(image) == 1 else image
    image = image[None] if image.dim() == 2 else image
    channels = (1, 3, 4)
    image = image.detach() if image.requires_grad else image
    first, last = (image.dim() == 3 and image.shape[axis] in channels for axis in (0, -1))
    if not (first or last) or image.numel() == 0:
        raise _Unusable(f"must be [3, H, W], got {tuple(image.shape)}; [H, W, 3], 1 or 4 channels and [H, W] will do")
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
            raise _Unusable(f"must hold floating-point numbers in 0…1, got {low:g} to {high:g}; {advice}")
        return image.clamp(0, 1) if low < 0 or high > 1 else image
    if image.dtype == torch.bool:
        return image.float()
    if image[0].numel() > _FEW and bool((image == 1).any()) and bool(((image == 0) | (image == 1)).all()):
        raise _Unusable(
            "holds whole numbers from 0 to 1, which would be black: whole numbers are in 0…255. Convert a mask to bool "
            "or float, or multiply it by 255"
        )
    if image.dtype != torch.uint8:
        image = torch.from_numpy(_to_bytes(image.cpu().numpy())).to(image.device)
    return image.float().div_(255)


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
