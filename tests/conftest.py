"""What several test modules share: a tiny data set, a tiny config, and the rule for tests that need a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tsdlab.config import Config
from tsdlab.presets import PRESETS

_COLORS = {3: (220, 60, 40), 7: (40, 90, 220)}  # by category id; ids are sparse on purpose


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO-format folder, 64 px: rectangles of two categories, an image without any, and a crowd."""
    root = tmp_path_factory.mktemp("tiny")
    for split, count, seed in (("train", 8, 0), ("val", 5, 1)):
        _write_split(root, split, count, seed)
    return root


@pytest.fixture(scope="session")
def write_split() -> Callable[[Path, str, int, int], None]:
    """`write_split(root, split, count, seed)` adds a split like those of `tiny_data`."""
    return _write_split


def _write_split(root: Path, split: str, count: int, seed: int) -> None:
    """`count` images into `root/<split>` and their annotation file; the first image is empty."""
    rng = np.random.default_rng(seed)
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for image_id in range(10, 10 + count):
        image = Image.fromarray(rng.integers(0, 60, (64, 64, 3), np.uint8))
        for _ in range(0 if image_id == 10 else 3):
            width, height = (int(side) for side in rng.integers(14, 40, 2))
            x, y = int(rng.integers(0, 64 - width)), int(rng.integers(0, 64 - height))
            category_id = int(rng.choice(list(_COLORS)))
            ImageDraw.Draw(image).rectangle((x, y, x + width - 1, y + height - 1), _COLORS[category_id])
            annotations.append(
                {
                    "id": len(annotations),  # from 0: COCOeval would take it for "unmatched"
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": int(image_id == 12 and not annotations[-1]["iscrowd"]),
                }
            )
        image.save(root / split / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 64, "height": 64})
    categories = [{"id": 7, "name": "blue"}, {"id": 3, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """badges-tiny, shrunken until a step takes a few hundredths of a second."""
    preset = PRESETS["badges-tiny"]
    return replace(
        preset,
        num_classes=2,
        image=replace(preset.image, min_size=64, max_size=64),
        backbone=replace(preset.backbone, stages=(2, 3), fpn_channels=16),
        rpn=replace(preset.rpn, anchor_sizes=(16, 24, 40), post_nms_train=20, post_nms_test=20),
        roi=replace(preset.roi, hidden=16, samples_per_image=16),
        tsd=replace(preset.tsd, offset_hidden=16),
        train=replace(
            preset.train,
            steps=12,
            batch_size=2,
            lr_batch_size=2,
            warmup_steps=4,
            eval_every=6,
            checkpoint_every=4,
            log_every=5,
            flip=0.5,
            scale_jitter=(0.8, 1.25),
        ),
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors are slower on many threads, and a test should not depend on how many there are."""
    torch.set_num_threads(1)
