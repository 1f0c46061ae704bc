"""The memory that a data set takes grows by its columns of numbers, and by no text, no entries and no images."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsdlab.data import columns
from tsdlab.data.check import check_folder, require_trainable
from tsdlab.data.coco import CocoDataset
from tsdlab.data.fingerprint import fingerprint

OBJECTS = 10  # per image
FEW, MANY = 300, 1200  # images


def write_folder(root: Path, count: int) -> None:
    """A data set whose images are links to one file."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    Image.new("L", (640, 480)).save(root / "image.png")
    for split, number in (("train", count * 3 // 4), ("val", count // 4)):
        (root / split).mkdir()
        images, annotations = [], []
        for id in range(number):
            os.link(root / "image.png", root / split / f"{id}.png")
            images.append({"id": id, "file_name": f"{id}.png", "width": 640, "height": 480, "license": "x" * 300})
            for box in rng.uniform((0, 0, 20, 20), (400, 300, 200, 150), (OBJECTS, 4)).tolist():
                place = {"id": len(annotations), "image_id": id, "category_id": 1, "bbox": box, "area": box[2] * box[3]}
                annotations.append({**place, "iscrowd": 0, "segmentation": [box * 3]})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def check(root: Path) -> None:
    assert not any(report.problems for report in check_folder(root, progress=False))


def open_for_training(root: Path) -> None:
    train, val = CocoDataset(root, "train"), CocoDataset(root, "val")
    require_trainable(train, val, max_size=640, progress=False)
    assert len(fingerprint(train).images) + len(fingerprint(val).images) == len(train) + len(val)


def peak_bytes(run: Callable[[Path], None], root: Path) -> int:
    tracemalloc.start()
    try:
        run(root)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    for count in (8, FEW, MANY):
        write_folder(root / str(count), count)
    return root


# An object takes about 60 bytes: 32 for its box, 8 for its area, the rest for its ids. The name, the id and the size of
# an image take 80. A data set that is open also has lists of all ids and sizes: about 160 bytes an image.
@pytest.mark.slow
@pytest.mark.parametrize(("use", "bytes_per_image"), [(check, 900), (open_for_training, 1000)])
def test_peak_memory_grows_by_the_columns_alone(
    use: Callable[[Path], None], bytes_per_image: int, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "_BLOCK", 256)  # many blocks already for few images
    use(folders / "8")  # what is taken once
    growth = peak_bytes(use, folders / str(MANY)) - peak_bytes(use, folders / str(FEW))
    assert growth < bytes_per_image * (MANY - FEW)
