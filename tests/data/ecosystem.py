"""The same three images with their objects, as every kind of data set of the ecosystem."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2

from tsdlab.data.coco import CocoDataset
from tsdlab.structures import Category

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def write_folder(root: Path) -> Path:
    """Three images; the second has no object, the third a crowd too. Label 1 is cat, 2 is dog."""
    (root / "train").mkdir()
    (root / "annotations").mkdir()
    for index in (1, 2, 3):
        Image.new("RGB", (40 + index, 30), (20 * index, 0, 0)).save(root / "train" / f"{index}.png")
    images = [{"id": i, "file_name": f"{i}.png", "width": 40 + i, "height": 30} for i in (1, 2, 3)]
    objects = [(1, 3, [1, 2, 10, 12], 0), (1, 7, [5, 5, 20, 20], 0), (3, 7, [0, 0, 9, 9], 0), (3, 3, [0, 0, 30, 30], 1)]
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd, "area": box[2] * box[3],
         "segmentation": []}
        for i, (image, category, box, crowd) in enumerate(objects, 1)
    ]  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


def dataset_of(kind: str, folder: Path) -> object:
    own = CocoDataset(folder, "train")
    if kind.startswith("CocoDetection"):
        pytest.importorskip("pycocotools")
        theirs = CocoDetection(folder / "train", folder / "annotations" / "instances_train.json")
        return wrap_dataset_for_transforms_v2(theirs) if kind.endswith("wrapped") else theirs
    pairs = [own[i] for i in range(3)]
    return {
        "CocoDataset": own,
        "subset": Subset(own, range(3)),
        "subset of subset": Subset(Subset(own, [2, 1, 0]), [2, 1, 0]),
        "concatenation": ConcatDataset([Subset(own, [0, 1]), Subset(own, [2])]),
        "list": pairs,
        "arrays": [(i.numpy(), {k: np.asarray(t[k]) for k in ("boxes", "labels")}) for i, t in pairs],
        "lists": [(i, {"boxes": t["boxes"].tolist(), "labels": t["labels"].tolist()}) for i, t in pairs],
        "bytes": [((i * 255).round().byte(), t) for i, t in pairs],
        "rows": [{"image": i, **t} for i, t in pairs],
        "odd empty": [(i, {**t, "boxes": t["boxes"] if len(t["boxes"]) else torch.zeros(0)}) for i, t in pairs],
        "none": [(i, t if len(t["boxes"]) else None) for i, t in pairs],
    }[kind]


KINDS = (
    "CocoDataset", "CocoDetection", "CocoDetection wrapped", "subset", "subset of subset", "concatenation", "list",
    "arrays", "lists", "bytes", "rows", "odd empty", "none",
)  # fmt: skip


def knows(classes: int, *names: str) -> SimpleNamespace:
    categories = tuple(Category(i, name) for i, name in enumerate(names))
    return SimpleNamespace(config=SimpleNamespace(num_classes=classes), categories=categories)
