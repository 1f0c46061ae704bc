"""Whatever is wrong with an image file is a DataError with its name, and a sound one has the size of its entry."""

from __future__ import annotations

import io
import os
import random
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stored_images import COLOURS, seen, turned

from tsdlab.data import images
from tsdlab.data.images import inspect_image, read_image
from tsdlab.errors import DataError


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation_follows_the_expected_size(tmp_path: Path, form: str) -> None:
    path = turned(tmp_path, form, 6)  # shown turned by 90° clockwise
    assert inspect_image(path) == inspect_image(path, (20, 10)) == (20, 10)
    assert read_image(path, (20, 10))[0, 5, -1] > 0.9
    assert inspect_image(path, (10, 20)) == (10, 20)
    assert read_image(path, (10, 20))[0, 0, 5] > 0.9  # boxes were drawn on the stored pixels
    for read in (read_image, inspect_image):
        with pytest.raises(DataError, match="x is 20×10, its entry says 11×20"):
            read(path, (11, 20))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_every_orientation_turns_as_the_standard_says(tmp_path: Path, form: str, orientation: int) -> None:
    image = read_image(turned(tmp_path, form, orientation))
    sides = {"top": image[0, 0], "bottom": image[0, -1], "left": image[0, :, 0], "right": image[0, :, -1]}
    white = next(name for name, side in sides.items() if side.min() == 1)
    assert white == {3: "bottom", 4: "bottom", 5: "left", 6: "right", 7: "right", 8: "left"}.get(orientation, "top")


@pytest.mark.parametrize(("form", "kind"), [("GIF", "RGB"), ("PNG", "RGB"), ("TIFF", "RGB"), ("WEBP", "RGB")])
def test_the_first_frame_of_several_is_read(tmp_path: Path, form: str, kind: str) -> None:
    frames = [Image.new(kind, (8, 6), colour) for colour in ("#336699", "#ffffff", "#000000")]
    frames[0].save(tmp_path / "x", form, save_all=True, append_images=frames[1:], lossless=True)
    assert abs(seen(tmp_path / "x").astype(int) - (0x33, 0x66, 0x99)).max() <= 1


@pytest.mark.parametrize("read", [read_image, inspect_image])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist"),
        ("link", "is a link to a file that does not exist"),
        ("loop", "cannot be opened"),
        ("folder", "is a folder"),
        ("pipe", "is a pipe"),
        ("socket", "is a device or socket"),
        ("device", "is a device or socket"),
        ("nothing", "is a folder|an empty file name"),
        ("nul", "cannot be the name of a file"),
        ("half a character", r"(cannot be the name|does not exist)"),
        ("long", "cannot be opened"),
        ("empty", "is empty"),
        ("text", "cannot be decoded"),
        ("eps", "cannot be decoded"),
    ],
)
def test_what_is_no_image_file_is_named(tmp_path: Path, kind: str, message: str, read) -> None:
    path: Path | str = tmp_path / "x.png"
    assert isinstance(path, Path)
    if kind == "link":
        path.symlink_to(tmp_path / "nowhere.png")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        path = Path("x.socket")
        with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as opened:
            patch.chdir(tmp_path)  # the name of a socket must be short
            opened.bind(str(path))
            with pytest.raises(DataError, match=message):
                read(path)
        return
    elif kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"P5 is no image, \x89PNG neither")
    elif kind == "eps":
        Image.fromarray(COLOURS).save(path, "EPS")
    else:
        path = {
            "missing": path,
            "device": "/dev/zero",
            "nothing": "",
            "nul": "a\0b.png",
            "half a character": "\ud800.png",
            "long": "x" * 5000,
        }[kind]
    with pytest.raises(DataError, match=message) as raised:
        read(path)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 600


def test_a_name_that_is_not_utf8_is_read_and_named_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff\nb.png")
    Image.fromarray(COLOURS).save(path)
    assert (seen(path) == COLOURS).all()
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\\udcff\\nb\.png cannot be decoded"):
        read_image(path)


def sound_files() -> dict[str, bytes]:
    """One small file of every format, mode and compression that Pillow writes."""
    Image.init()
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32) * 80)
    files = {
        "P2": b"P2\n4 4\n255\n" + b"1 " * 16,
        "P5": b"P5\n4 4\n4095\n" + bytes(32),
        "P1": b"P1\n4 4\n" + b"10 " * 8,
    }
    for form in sorted(set(Image.SAVE) - {"IM"}):  # which Pillow will give up
        for mode in ("RGB", "L", "P", "1", "RGBA", "I;16", "F", "CMYK"):
            for options in ({"exif": exif}, {"exif": exif, "compression": "tiff_lzw"}, {"compression": "jpeg"}, {}):
                if mode not in ("RGB", "L") and options.get("compression") == "jpeg":
                    continue  # libtiff refuses, and damages its memory on the way
                stored = io.BytesIO()
                try:
                    (deep if mode == "I;16" else picture.convert(mode)).save(stored, form, **options)
                except Exception:
                    continue  # this format does not store this mode
                files[f"{form} {mode} {options.get('compression')}"] = stored.getvalue()
                if form != "TIFF":
                    break
    return files


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Truncated, with other bytes anywhere, other bytes in the header, or bytes left out and inserted."""
    data, kind = bytearray(content), rng.randrange(4)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 3:
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(1, 8)] = rng.randbytes(rng.randrange(1, 9))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(min(len(data), 64) if kind == 2 else len(data))] = rng.choice(
            b"\0\xff 09-#" + rng.randbytes(4)
        )
    return bytes(data)


def test_whatever_is_damaged_is_read_or_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10**6)  # a damaged header may ask for gigabytes
    rng, files, outcomes = random.Random(3), sound_files(), {True: 0, False: 0}
    assert len(files) > 90
    path = tmp_path / "x"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no warning of a decoder comes through
        for _ in range(1500):
            path.write_bytes(damaged(files[rng.choice(list(files))], rng))
            try:
                size = inspect_image(path)
            except DataError:
                size = None
            try:
                image = read_image(path)
                assert size == (image.shape[2], image.shape[1])  # the header promised this
                outcomes[True] += 1
            except DataError as error:
                assert str(error).isprintable() and str(path) in str(error)
                outcomes[False] += 1
    assert min(outcomes.values()) > 300
