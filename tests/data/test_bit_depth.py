"""Every mode and bit depth that Pillow reads is shown over its whole range, or refused with its values."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from stored_images import COLOURS, RAMP, grey, png, seen

from tsdlab.data.images import read_image
from tsdlab.errors import DataError

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
