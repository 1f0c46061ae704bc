"""PNG files with chunks that Pillow refuses or reads too late."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from stored_images import COLOURS, png, seen, turned

from tsdlab.data.images import inspect_image, read_image


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    path = turned(tmp_path, "PNG", 6)
    content = path.read_bytes()
    at = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[at : at + 4], "big")
    path.write_bytes(content[:at] + content[at + length : -12] + content[at : at + length] + content[-12:])
    assert inspect_image(path) == (20, 10) and read_image(path, (20, 10))[0, 5, -1] == 1


def test_damaged_exif_data_do_not_matter(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "x.png", exif=b"Exif\0\0broken")
    assert (seen(tmp_path / "x.png") == COLOURS).all()


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "iTXt", "many tEXt", "zTXt behind the pixels"])
def test_megabytes_of_text_or_profile_in_a_png_are_read_over(tmp_path: Path, kind: str) -> None:
    long = bytes(3_000_000)
    chunks = {
        "iCCP": [(b"iCCP", b"name\0\0" + zlib.compress(long))],
        "zTXt": [(b"zTXt", b"Comment\0\0" + zlib.compress(long))],
        "iTXt": [(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(long))],
        "many tEXt": [(b"tEXt", b"Comment\0" + long)] * 23,  # 69 MB
    }
    content = png(2, 8, COLOURS.reshape(4, -1), *chunks.get(kind, chunks["zTXt"]))
    if kind == "zTXt behind the pixels":
        at, pixels = content.index(b"zTXt") - 4, content.index(b"IDAT") - 4
        content = content[:at] + content[pixels:-12] + content[at:pixels] + content[-12:]
    (tmp_path / "x.png").write_bytes(content)
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    assert (seen(tmp_path / "x.png") == COLOURS).all()
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
