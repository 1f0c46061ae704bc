"""The chunks of a PNG file that Pillow reads too late or not at all."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import IO, Any

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"iCCP", b"iTXt", b"tEXt", b"zTXt")


def late_exif(file: IO[bytes]) -> dict[str | tuple[int, int], Any]:
    """The EXIF data of a PNG that stand behind its pixels, as Pillow would name them."""
    here = file.tell()
    try:
        for kind, length in _chunks(file):
            if kind == b"eXIf":
                return {"exif": b"Exif\0\0" + file.read(length)}
        return {}
    finally:
        file.seek(here)


def without_texts(file: IO[bytes]) -> io.BytesIO | None:
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
