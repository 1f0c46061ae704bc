"""Every image that Pillow reads becomes RGB of the expected size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tsdlab.data.images import read_image
from tsdlab.errors import DataError


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_image_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((6, 9), 65535, np.uint16)).save(path)
    else:
        Image.new("RGB", (9, 6), "white").convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 6, 9) and image.min() > 0.98


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "x.png")
    torch.testing.assert_close(read_image(tmp_path / "x.png")[0, 0], torch.tensor([0, 128 / 255, 1]))


def test_exif_orientation_follows_the_expected_size(tmp_path: Path) -> None:
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:5] = 255  # top of the stored image
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    assert read_image(tmp_path / "x.png", (20, 10))[0, 5, -1] == 1
    assert read_image(tmp_path / "x.png", (10, 20))[0, 0, 5] == 1  # boxes were drawn on the stored pixels
    with pytest.raises(DataError, match=r"x\.png is 20×10, its entry says 11×20"):
        read_image(tmp_path / "x.png", (11, 20))
