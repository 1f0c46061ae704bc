"""Small COCO-format folders for the tests of data."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "ant", "supercategory": "insect"}]


def image_entry(id: int = 1, name: str = "a.png", width: int = 40, height: int = 30) -> dict:
    return {"id": id, "file_name": name, "width": width, "height": height, "license": 4}


def annotation(id: int = 1, image_id: int = 1, category_id: int = 7, bbox: object = (2, 3, 10, 8), **extra) -> dict:
    bbox = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"id": id, "image_id": image_id, "category_id": category_id, "bbox": bbox, **extra}


def write_split(root: Path, images=None, annotations=None, categories=None, split: str = "train") -> Path:
    images = [image_entry()] if images is None else images
    content = {
        "images": images,
        "annotations": [annotation()] if annotations is None else annotations,
        "categories": CATEGORIES if categories is None else categories,
        "info": {"anything": True},
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for entry in images:
        path = root / split / str(entry.get("file_name", "unnamed.png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (int(entry.get("width", 8)), int(entry.get("height", 8)))
        Image.new("RGB", size, (255, 128, 0)).save(path)
    return root
