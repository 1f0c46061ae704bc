"""Whatever people have as an image is shown right, or one line says what was given and what is expected."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stored_images import png
from torchvision import tv_tensors

from tsdlab.data import as_image, read_image
from tsdlab.errors import DataError, InputError

BYTES = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
EXPECTED = torch.from_numpy(BYTES.transpose(2, 0, 1).copy()).float() / 255
GREY = BYTES[..., 0]
FLOATS = (BYTES / 255).astype(np.float32)

COLOURED = {
    "CHW float": EXPECTED,
    "CHW float64": EXPECTED.double(),
    "CHW uint8": torch.from_numpy(BYTES).permute(2, 0, 1),
    "HWC tensor": torch.from_numpy(BYTES),
    "batch of one": EXPECTED[None],
    "tv_tensor": tv_tensors.Image(torch.from_numpy(BYTES).permute(2, 0, 1)),
    "requires grad": EXPECTED.clone().requires_grad_(),
    "RGBA tensor": torch.cat([EXPECTED, torch.rand(1, 6, 9)]),
    "int64": torch.from_numpy(BYTES.astype(np.int64)).permute(2, 0, 1),
    "HWC array": BYTES,
    "CHW array": np.ascontiguousarray(BYTES.transpose(2, 0, 1)),
    "HWC float array": FLOATS,
    "HWC float64 array": BYTES / 255,
    "RGBA array": np.dstack([BYTES, 255 - GREY]),
    "not contiguous": np.repeat(BYTES, 2, axis=1)[:, ::2],
    "negative strides": BYTES[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "big-endian": (BYTES / 255).astype(">f8"),
    "16 bits": BYTES.astype(np.uint16) * 257,
    "16 bits, 12 used": np.rint(BYTES * (4095 / 255)).astype(np.uint16),
    "lists": BYTES.tolist(),
    "tuples": tuple(tuple(tuple(pixel) for pixel in row) for row in FLOATS.tolist()),
    "PIL": Image.fromarray(BYTES),
    "PIL RGBA": Image.fromarray(BYTES).convert("RGBA"),
    "PIL RGBa": Image.fromarray(BYTES).convert("RGBA").convert("RGBa"),
    "PIL CMYK": Image.fromarray(BYTES).convert("CMYK"),
}
GREYS = {
    "HW array": GREY,
    "HW1 array": GREY[..., None],
    "HW tensor": torch.from_numpy(GREY.copy()),
    "1HW tensor": torch.from_numpy(GREY.copy())[None].float() / 255,
    "rows": GREY.tolist(),
    "PIL L": Image.fromarray(GREY),
    "PIL LA": Image.fromarray(GREY).convert("LA"),
    "PIL La": Image.fromarray(GREY).convert("LA").convert("La"),
    "PIL I": Image.fromarray(GREY.astype(np.int32)),
    "PIL F": Image.fromarray((GREY / np.float32(255)).astype(np.float32)),
    "PIL I;16": Image.fromarray(GREY.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("form", [*COLOURED, *GREYS])
def test_every_form_of_an_image_is_the_same_image(form: str) -> None:
    expected = EXPECTED if form in COLOURED else EXPECTED[:1].expand(3, -1, -1)
    image = as_image((COLOURED | GREYS)[form])
    assert type(image) is torch.Tensor and image.dtype == torch.float32 and not image.requires_grad
    torch.testing.assert_close(image, expected, rtol=0, atol=0.6 / 255)


@pytest.mark.parametrize("mode", ["1", "P", "PA", "LAB", "HSV", "YCbCr", "RGBX"])
def test_other_modes_of_pil_are_converted_as_pil_does(mode: str) -> None:
    image = Image.fromarray(BYTES).convert(mode)
    expected = np.asarray(image.convert("RGBA" if mode == "PA" else "RGB").convert("RGB"))
    assert (as_image(image).permute(1, 2, 0).mul(255).round().numpy() == expected).all()


def test_half_precision_inference_and_read_only() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        torch.testing.assert_close(as_image(EXPECTED.to(dtype)), EXPECTED, rtol=0, atol=4e-3)
    with torch.inference_mode():
        inferred = EXPECTED.clone()
    assert not as_image(inferred).is_inference()
    frozen = BYTES.copy()
    frozen.flags.writeable = False
    torch.testing.assert_close(as_image(frozen), EXPECTED)
    assert as_image(EXPECTED) is EXPECTED
    before = BYTES.copy()
    as_image(BYTES).zero_()
    assert (before == BYTES).all()


def test_paths_are_read(tmp_path: Path) -> None:
    Image.fromarray(BYTES).save(tmp_path / "x.png")
    for path in (tmp_path / "x.png", str(tmp_path / "x.png")):
        torch.testing.assert_close(as_image(path), read_image(path))
    with pytest.raises(DataError, match=r"y\.png does not exist"):
        as_image(tmp_path / "y.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:-30])
    with pytest.raises(InputError, match="image cannot be decoded"):
        as_image(Image.open(tmp_path / "x.png"))


@pytest.mark.parametrize(
    "name", ["12 of 16 bits.png", "12 of 16 bits.pgm", "16 bits.pgm", "negative.tiff", "8 bits.png"]
)
def test_an_open_image_is_what_its_file_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "12 of 16 bits.png":
        rows = (BYTES.astype(np.uint16) * 16).astype(">u2").reshape(6, -1)
        path.write_bytes(png(2, 16, rows.view(np.uint8)))
    elif name.endswith("pgm"):
        white, step = (4095, 16) if name.startswith("12") else (65535, 257)
        path.write_bytes(b"P5 9 6 %d " % white + (GREY.astype(np.uint16) // 4 * step).astype(">u2").tobytes())
    elif name.endswith("tiff"):
        Image.fromarray(65535 - GREY.astype(np.uint16) * 257).save(path, tiffinfo={262: 0})
    else:
        Image.fromarray(BYTES).save(path)
    expected = read_image(path)
    assert expected.max() > 0.2
    torch.testing.assert_close(as_image(Image.open(path)), expected, rtol=0, atol=0)
    torch.testing.assert_close(as_image(Image.open(io.BytesIO(path.read_bytes()))), expected, rtol=0, atol=0)


def test_black_is_an_image() -> None:
    assert as_image(np.zeros((8, 8, 3), np.uint8)).max() == 0
    assert as_image(np.eye(8, dtype=bool)).max() == 1


def test_a_shape_that_could_be_both_is_that_of_its_library() -> None:
    both = torch.arange(27, dtype=torch.uint8).view(3, 3, 3)
    torch.testing.assert_close(as_image(both), both.float() / 255)
    torch.testing.assert_close(as_image(both.numpy()), both.permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize(
    ("given_value", "says"),
    [
        (FLOATS * 255, "must hold floating-point numbers in 0…1, got .*; divide it by 255"),
        (EXPECTED * 255, "0…1, got .*; divide it by 255"),
        (EXPECTED * 5 - 2, "0…1, got -.* undo its normalization"),
        (torch.full((3, 4, 4), torch.nan), "0…1, got nan to nan; replace what is not finite"),
        (torch.full((3, 4, 4), torch.inf), "got inf to inf; replace what is not finite"),
        (torch.zeros(2, 8, 8), r"must be \[3, H, W\], got \(2, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"got \(2, 3, 8, 8\)"),
        (torch.zeros(3, 0, 8), r"got \(3, 0, 8\)"),
        (np.zeros(5), r"got \(5,\)"),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), "got a Tensor of torch.complex64"),
        (torch.zeros(3, 8, 8, device="meta"), "got a Tensor of torch.float32"),
        (torch.zeros(3, 8, 8).to_sparse(), "got a Tensor"),
        (np.zeros((8, 8, 3), dtype=object), "got a ndarray of object"),
        (np.int32([[[-1, 2, 3]]]), "holds whole numbers from -1 to 3"),
        (np.int64([[[1, 2, 70000]]]), "holds whole numbers from 1 to 70000"),
        (np.eye(8, dtype=np.uint8), "holds whole numbers from 0 to 1, .*multiply it by 255"),
        (torch.eye(8).long().expand(3, 8, 8), "holds whole numbers from 0 to 1"),
        (np.ones((8, 8, 3), np.uint16), "holds whole numbers from 0 to 1"),
        ([[1, 2], [3]], "got a list"),
        ({"image": 1}, "got a dict"),
        (None, "got a NoneType"),
        (7, "got"),
        (b"\x89PNG", "got a bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused_in_one_line(given_value: object, says: str) -> None:
    with pytest.raises(InputError, match=f"^image .*{says}") as raised:
        as_image(given_value)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 300


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 4]), st.booleans(), st.data())
def test_layout_and_channels_are_recognized(height: int, width: int, channels: int, is_first: bool, data) -> None:
    as_array = data.draw(st.booleans())
    shape = (channels, height, width) if is_first else (height, width, channels)
    values = torch.arange(height * width * channels).remainder(256).to(torch.uint8).reshape(shape)
    both = shape[0] in (1, 3, 4) and shape[2] in (1, 3, 4)
    read_first = (not as_array) if both else is_first
    image = as_image(values.numpy() if as_array else values)
    chw = values if read_first else values.permute(2, 0, 1)
    torch.testing.assert_close(image, chw[:3].float().div(255).expand(3, -1, -1))


def test_values_just_beyond_the_range_are_clipped() -> None:
    resized = torch.tensor([-0.05, 0.5, 1.05]).view(1, 1, 3).expand(3, 2, 3)
    assert as_image(resized)[0, 0].tolist() == [0, 0.5, 1]
