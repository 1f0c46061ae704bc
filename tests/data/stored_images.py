"""Images as files: colours that are known, and what is read of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tsdlab.data.images import inspect_image, read_image

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
COLOURS = np.stack([RAMP, RAMP[:, ::-1], 255 - RAMP // 2], axis=-1)


def grey(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, axis=-1)


def seen(path: Path) -> np.ndarray:
    """What `read_image` reads, as uint8 [H, W, 3]; its header promised this size."""
    image = read_image(path)
    assert image.dtype == torch.float32 and image.is_contiguous() and image.min() >= 0 and image.max() <= 1
    assert inspect_image(path) == (image.shape[2], image.shape[1])
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def png(colour: int, depth: int, rows: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG with these bytes as its rows [height, bytes]; `extra` are chunks in front of the pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    header = struct.pack(">IIBBBBB", rows.shape[1] * 8 // (depth * channels), len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b""))
    )


def turned(tmp_path: Path, form: str, orientation: int) -> Path:
    """An image of 10×20 pixels whose stored top is white."""
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:5] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x", form, exif=exif)
    return tmp_path / "x"
