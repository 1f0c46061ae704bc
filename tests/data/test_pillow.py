"""Images are read whatever the global variables of Pillow are, and these stay as they were."""

from __future__ import annotations

import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stored_images import COLOURS, png, seen

from tsdlab.data import images
from tsdlab.data.images import inspect_image, read_image
from tsdlab.errors import DataError


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
