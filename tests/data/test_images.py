"""Whatever Pillow opens is shown right or refused by name, and whatever is wrong with a file is a DataError."""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, features

from tsdlab.data import images
from tsdlab.data.images import inspect_image, read_image
from tsdlab.errors import DataError

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
COLOURS = np.stack([RAMP, RAMP[:, ::-1], 255 - RAMP // 2], axis=-1)


def seen(path: Path) -> np.ndarray:
    """What `read_image` reads, as uint8 [H, W, 3]; its header promised this size."""
    image = read_image(path)
    assert image.dtype == torch.float32 and image.is_contiguous() and image.min() >= 0 and image.max() <= 1
    assert inspect_image(path) == (image.shape[2], image.shape[1])
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def grey(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, axis=-1)


# Modes and formats ------------------------------------------------------------------------------------------------

LOSSLESS = [
    *((form, mode) for form in ("BMP", "GIF", "PNG", "TIFF", "WEBP", "JPEG2000", "TGA", "PPM", "ICO") for mode in "L"),
    *((form, "RGB") for form in ("BMP", "PNG", "TIFF", "WEBP", "JPEG2000", "TGA", "PPM", "SGI", "PCX", "QOI", "DDS")),
    *((form, "RGBA") for form in ("PNG", "TIFF", "WEBP", "JPEG2000", "TGA", "ICO", "QOI", "DDS")),
    *((form, "LA") for form in ("PNG", "TIFF", "JPEG2000", "TGA")),
    *(("TIFF", mode) for mode in ("RGBX", "CMYK", "YCbCr", "LAB", "PA")),
    *((form, mode) for form in ("PNG", "TIFF", "BMP", "GIF", "PCX", "ICO") for mode in ("P", "1")),
]


@pytest.mark.parametrize(("form", "mode"), LOSSLESS)
def test_a_ramp_comes_back_from_every_format_and_mode(tmp_path: Path, form: str, mode: str) -> None:
    is_grey = mode in ("L", "LA", "1")
    stored = Image.fromarray(RAMP if is_grey else COLOURS).convert(mode)
    options = {"WEBP": {"lossless": True}, "ICO": {"sizes": [stored.size]}}  # by itself an icon is 16 pixels or more
    compressed = {"compression": "tiff_lzw"} if mode == "YCbCr" else {}  # Pillow 12 does not read its own without
    stored.save(tmp_path / "x", form, **options.get(form, {}), **compressed)
    # Pillow's own conversion, right for these modes, says what the palette or the smaller gamut can hold.
    expected = np.asarray(stored.convert("RGBA" if mode == "PA" else "RGB").convert("RGB")).astype(int)
    if mode in ("L", "LA"):
        assert (expected == grey(RAMP)).all()
    elif mode not in ("P", "1", "LAB", "PA"):
        assert abs(expected - COLOURS).max() <= 3  # YCbCr rounds
    assert abs(seen(tmp_path / "x").astype(int) - expected).max() <= (2 if mode == "YCbCr" else 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr"])
def test_lossy_jpegs_have_the_colours_that_were_saved(tmp_path: Path, mode: str) -> None:
    # Pillow writes Adobe's inverted inks, and reads them.
    colours = grey(RAMP) if mode == "L" else np.repeat(COLOURS, 4, axis=0)
    Image.fromarray(colours).convert(mode).save(tmp_path / "x.jpg", quality=95, subsampling=0)
    assert abs(seen(tmp_path / "x.jpg").astype(int) - colours).max() <= 8


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow cannot read AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.repeat(COLOURS, 4, axis=0)).save(tmp_path / "x.avif", quality=100, subsampling="4:4:4")
    assert abs(seen(tmp_path / "x.avif")[0].astype(int) - COLOURS[0]).max() <= 6


def test_transparency_is_ignored(tmp_path: Path) -> None:
    pixels = np.concatenate([COLOURS, 255 - RAMP[..., None]], axis=-1)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (seen(tmp_path / "x.png") == COLOURS).all()
    palette = Image.fromarray(COLOURS).convert("P")
    expected = np.asarray(palette.convert("RGB"))
    for transparency in (3, bytes(range(200))):
        palette.save(tmp_path / "x.png", transparency=transparency)
        assert (seen(tmp_path / "x.png") == expected).all()


@pytest.mark.parametrize(("form", "kind"), [("GIF", "RGB"), ("PNG", "RGB"), ("TIFF", "RGB"), ("WEBP", "RGB")])
def test_the_first_frame_of_several_is_read(tmp_path: Path, form: str, kind: str) -> None:
    frames = [Image.new(kind, (8, 6), colour) for colour in ("#336699", "#ffffff", "#000000")]
    frames[0].save(tmp_path / "x", form, save_all=True, append_images=frames[1:], lossless=True)
    assert abs(seen(tmp_path / "x").astype(int) - (0x33, 0x66, 0x99)).max() <= 1


# Bit depths -------------------------------------------------------------------------------------------------------


def png(colour: int, depth: int, rows: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG with these bytes as its rows [height, bytes]; `extra` are chunks in front of the pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    header = struct.pack(">IIBBBBB", rows.shape[1] * 8 // (depth * channels), len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b""))
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_small_depths_of_png_use_the_whole_range(tmp_path: Path, depth: int) -> None:
    values = np.arange(2**depth, dtype=np.uint8)
    bits = np.unpackbits(values[:, None], axis=1)[:, 8 - depth :].reshape(-1)
    row = np.packbits(bits)[None]
    (tmp_path / "x.png").write_bytes(png(0, depth, row))
    expected = np.rint(np.linspace(0, 255, 2**depth))
    assert (seen(tmp_path / "x.png")[0, : len(values), 0] == expected).all()


def deep_ramp(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A ramp [4, 256] over all of `bits` bits, and as it should be shown."""
    values = np.tile(np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16), (4, 1))
    return values, np.rint(values / (2**bits - 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "tiff", "big-endian tiff", "lzw tiff", "signed", "int32", "negative tiff"])
def test_grey_of_more_than_8_bits_is_shown_over_its_whole_range(tmp_path: Path, bits: int, kind: str) -> None:
    values, expected = deep_ramp(bits)
    path = tmp_path / ("x.png" if kind == "png" else "x.tif")
    options = {"compression": "tiff_lzw"} if kind == "lzw tiff" else {}
    if kind == "signed":
        values, expected = deep_ramp(min(bits, 14))
        Image.frombytes("I;16", values.shape[::-1], values.tobytes()).save(path, tiffinfo={339: 2})
    elif kind == "big-endian tiff":
        Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes()).save(path)
    elif kind == "int32":
        Image.fromarray(values.astype(np.int32)).save(path)
    elif kind == "negative tiff":
        Image.fromarray(values).save(path)
        content = path.read_bytes()
        at = content.index(struct.pack("<HHIH", 262, 3, 1, 1))  # photometric interpretation: black is 0
        path.write_bytes(content[:at] + struct.pack("<HHIH", 262, 3, 1, 0) + content[at + 10 :])
        expected = 255 - expected
    else:
        Image.fromarray(values).save(path, **options)
    assert abs(seen(path).astype(int) - grey(expected)).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colour_of_16_bits_is_shown_over_its_whole_range(tmp_path: Path, bits: int, colour: int) -> None:
    values, expected = deep_ramp(bits)
    channels = {2: [values, values[:, ::-1], values], 4: [values, values], 6: [values, values[:, ::-1], values, values]}
    rows = np.stack(channels[colour], axis=-1).reshape(4, -1).astype(">u2")
    (tmp_path / "x.png").write_bytes(png(colour, 16, rows.view(np.uint8)))
    pixels = seen(tmp_path / "x.png").astype(int)
    assert abs(pixels[..., 0] - expected).max() <= 1
    assert abs(pixels[..., 1] - (expected if colour == 4 else expected[:, ::-1])).max() <= 1


def tiff(values: np.ndarray, bits: int, sample_format: int, photometric: int) -> bytes:
    """An uncompressed little-endian TIFF of one strip, with `values` [H, W, channels] as its bytes."""
    height, width, channels = values.shape
    depths = struct.pack(f"<{channels}H", *[bits] * channels)
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, 8 if channels > 2 else bits), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, 200), (277, 3, 1, channels), (278, 3, 1, height),
        (279, 4, 1, values.nbytes), (339, 3, 1, sample_format),
    ]  # fmt: skip
    start = 8 + len(depths)
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return (b"II*\0" + struct.pack("<I", start) + depths + directory).ljust(200, b"\0") + values.tobytes()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_tiff_colour_of_16_bits_is_shown_over_its_whole_range(tmp_path: Path, bits: int) -> None:
    values, expected = deep_ramp(bits)
    (tmp_path / "x.tif").write_bytes(tiff(grey(values), 16, 1, 2))
    assert abs(seen(tmp_path / "x.tif").astype(int) - grey(expected)).max() <= 1


@pytest.mark.parametrize("maxval", [1, 3, 15, 100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("plain", [True, False])
def test_pgm_is_scaled_by_its_largest_value(tmp_path: Path, maxval: int, plain: bool) -> None:
    values = np.linspace(0, maxval / 2, 64).astype(int)  # not bright: the header counts, not the largest pixel
    kind = ">u2" if maxval > 255 else "u1"
    body = " ".join(map(str, values)).encode() if plain else values.astype(kind).tobytes()
    (tmp_path / "x.pgm").write_bytes(b"P%d\n64 1\n%d\n" % (2 if plain else 5, maxval) + body)
    assert abs(seen(tmp_path / "x.pgm")[0, :, 0].astype(int) - np.rint(values / maxval * 255)).max() <= 1


@pytest.mark.parametrize(("top", "white"), [(1.0, 1.0), (0.2, 1.0), (255.0, 255.0), (120.0, 255.0)])
@pytest.mark.parametrize("suffix", ["tif", "pfm"])
def test_floating_point_numbers_are_recognized_by_their_range(
    tmp_path: Path, top: float, white: float, suffix: str
) -> None:
    values = np.tile(np.linspace(0, top, 256, dtype=np.float32), (4, 1))
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    assert abs(seen(tmp_path / f"x.{suffix}").astype(int) - grey(np.rint(values / white * 255))).max() <= 1


@pytest.mark.parametrize(
    ("values", "range_"),
    [
        (np.float32([[0, 7.5]]), "from 0 to 7.5"),
        (np.float32([[-3, 1]]), "from -3 to 1"),
        (np.float32([[0, 40000]]), "from 0 to 40000"),
        (np.float32([[0, np.nan]]), "from nan to nan"),
        (np.float32([[0, np.inf]]), "from 0 to inf"),
        (np.int32([[0, 2**31 - 1]]), "from 0 to 2147483647"),
        (np.int32([[-5, 200]]), "from -5 to 200"),
    ],
)
def test_values_of_unknown_brightness_are_refused_with_their_range(
    tmp_path: Path, values: np.ndarray, range_: str
) -> None:
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=rf"x\.tif holds .* {range_}; 0…\d+ and|x\.tif holds .* {range_}; 0…\d+ can"):
        read_image(tmp_path / "x.tif")


def test_twelve_bits_of_tiff_are_scaled_by_their_depth(tmp_path: Path) -> None:
    packed = np.uint8([0x80, 0x04, 0x00] * 4)  # pairs of 0x800 and 0x400
    (tmp_path / "x.tif").write_bytes(tiff(packed.reshape(1, 12, 1), 12, 1, 1).replace(
        struct.pack("<HHII", 256, 3, 1, 12), struct.pack("<HHII", 256, 3, 1, 8)))  # fmt: skip
    assert seen(tmp_path / "x.tif")[0, :2, 0].tolist() == [128, 64]


# Orientation and size ---------------------------------------------------------------------------------------------


def turned(tmp_path: Path, form: str, orientation: int) -> Path:
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:5] = 255  # top of the stored image
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x", form, exif=exif)
    return tmp_path / "x"


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


def test_more_pixels_than_pillow_allows_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # COLOURS has 1024
    Image.fromarray(COLOURS).save(tmp_path / "x.png")
    assert (seen(tmp_path / "x.png") == COLOURS).all()
    (tmp_path / "big.png").write_bytes(png(0, 1, np.zeros((1, 1), np.uint8)).replace(
        struct.pack(">II", 8, 1), struct.pack(">II", 60000, 50000)))  # fmt: skip
    for read in (read_image, inspect_image):
        with pytest.raises(DataError, match=r"big\.png (is 60000×50000, at most 537 megapixels|cannot be decoded)"):
            read(tmp_path / "big.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="is 256×4, at most"):
        inspect_image(tmp_path / "x.png")


# Files that are wrong ---------------------------------------------------------------------------------------------


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


def test_warnings_are_quiet_in_threads_and_the_filters_are_as_before(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOURS).convert("P")
    palette.save(tmp_path / "x.png", transparency=bytes(200))
    Image.fromarray(COLOURS).save(tmp_path / "x.tif", tiffinfo={270: "a"})
    content = (tmp_path / "x.tif").read_bytes()
    at = content.index(struct.pack("<HHI", 256, 4, 1))
    (tmp_path / "x.tif").write_bytes(content[: at + 4] + struct.pack("<I", 2) + content[at + 8 :])  # two widths
    before, failures = list(warnings.filters), []

    def read_all() -> None:
        for _ in range(20):
            for name in ("x.png", "x.tif"):
                try:
                    inspect_image(tmp_path / name)
                except DataError:
                    pass
                except Exception as error:
                    failures.append(error)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=read_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        warnings.warn("of the caller", stacklevel=1)
    assert not failures and [str(entry.message) for entry in shown] == ["of the caller"]
    assert warnings.filters == before
