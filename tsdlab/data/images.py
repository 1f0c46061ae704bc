"""Image files as tensors: what Pillow opens is shown right, or refused with its name and the reason.

Colour profiles are ignored, and of an animation or a file with several pages the first is read. `bit_depth.py` says
which value is white.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from PIL import Image
from torch import Tensor

from tsdlab.data.bit_depth import UnusableImage, pixels_of
from tsdlab.data.pillow import QUIET, open_image
from tsdlab.data.png import late_exif, without_texts
from tsdlab.data.stored import in_unit_range
from tsdlab.errors import DataError, shown

# 537 megapixels. As float32 that is 6.4 GB; Pillow's own limit of 179 would refuse photographs.
MAX_PIXELS = 2**29

_Result = TypeVar("_Result")
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

    The values are those of `read_pixels`, divided by 255.

    Args:
        path: any format that Pillow reads, except drawings (EPS).
        size: the expected (width, height) in pixels. If only the stored, unrotated pixels have this size, the boxes
            were drawn on those, and the orientation is not applied.

    Raises:
        DataError: there is no such file, it cannot be decoded, has another size or more than `MAX_PIXELS` pixels, or
            its values do not say how bright they are.
    """
    return _attempt(path, lambda file: in_unit_range(_decode(file, size)))


def read_pixels(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """As `read_image`, but uint8 of 0…255: a quarter of the memory.

    Raises:
        DataError: as `read_image`.
    """
    return _attempt(path, lambda file: _decode(file, size))


def inspect_image(path: str | Path, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) of `read_image(path, size)`, from the header alone.

    Raises:
        DataError: as `read_image`, if the header is enough to know it.
    """
    return _attempt(path, lambda file: _plan(open_image(file), size).size)


def vanishes(width: int, height: int, max_size: int) -> bool:
    """Whether the shorter side is less than a pixel once the longer one is resized to `max_size` pixels."""
    # A little more than one pixel: torch computes the new size in 32 bits and rounds it down.
    return min(width, height) * max_size < max(width, height) * (1 + 1e-4)


def _attempt(path: str | Path, work: Callable[[IO[bytes]], _Result]) -> _Result:
    """`work` on an open file; whatever goes wrong becomes a DataError with the file's name."""
    name = shown(path) or "an empty file name"
    try:
        with _open_regular(path) as file, QUIET:
            try:
                return work(file)
            except ValueError:
                lean = without_texts(file)
                if lean is None:
                    raise
                return work(lean)
    except UnusableImage as error:
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
            raise UnusableImage(f"is {kind}, not an image file; correct the file name in its entry")
        if status.st_size == 0:
            raise UnusableImage("is empty; replace the file, or remove its entry")
        opened = Path(path).open("rb")  # noqa: SIM115 - closed below, where its errors are the decoder's
    except FileNotFoundError as error:
        what = "is a link to a file that does not exist" if Path(path).is_symlink() else "does not exist"
        raise UnusableImage(f"{what}; restore the file, or remove its entry") from error
    except OSError as error:
        raise UnusableImage(
            f"cannot be opened ({error.strerror or error}); make it readable, or remove its entry"
        ) from error
    except ValueError as error:  # a NUL or half a surrogate pair
        raise UnusableImage("cannot be the name of a file; correct the file name in its entry") from error
    with opened as file:
        yield file


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
        raise UnusableImage(f"has no pixels ({stored[0]}×{stored[1]}); replace the file, or remove its entry")
    if stored[0] * stored[1] > MAX_PIXELS:
        raise UnusableImage(
            f"is {stored[0]}×{stored[1]}, at most {MAX_PIXELS / 1e6:.0f} megapixels are read; cut it into parts, or "
            "remove its entry"
        )
    if size is not None and size not in (upright, stored):
        raise UnusableImage(
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
            image.info.update(late_exif(image.fp))  # type: ignore[attr-defined]
        value = Image.Image.getexif(image).get(_ORIENTATION)  # PNG's own would decode the pixels first
    except Exception:
        return 1
    return int(value) if value in _TURNS else 1


def _decode(file: IO[bytes], size: tuple[int, int] | None) -> Tensor:
    """uint8 [3, H, W]."""
    image = open_image(file)
    plan = _plan(image, size)
    return pixels_of(image, plan.turn)
