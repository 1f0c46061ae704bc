"""Detections as files that other tools read: COCO's results, and the images and categories that their ids mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from tsdlab.files import atomic_write
from tsdlab.structures import Category

RESULTS, COMPANION = "detections.json", "images.json"


class ResultFiles:
    """Writes `detections.json` and `images.json` of a folder, an entry a line; both are there when `open` ends.

    `detections.json` is a list of COCO results (image_id, category_id, bbox [x, y, width, height] in pixels, score).
    `images.json` is a COCO file without annotations that says what the ids are: `COCO("images.json").loadRes(…)` of
    pycocotools reads both. Memory does not grow with the number of images.
    """

    def __init__(self, results: IO[bytes], images: IO[bytes], categories: Sequence[Category]) -> None:
        self._results, self._images, self._categories = results, images, categories
        self.num_images = self.num_detections = 0

    @staticmethod
    @contextmanager
    def open(folder: Path, categories: Sequence[Category], info: Mapping[str, Any]) -> Iterator[ResultFiles]:
        """Inside the block, `add` images; an exception inside leaves both files as they were.

        Args:
            folder: where the files go; it exists.
            categories: of the labels 1, 2, …
            info: how the results were made; an entry of `images.json`.
        """
        with atomic_write(folder / RESULTS) as results, atomic_write(folder / COMPANION) as images:
            results.write(b"[")
            listed = [{"id": category.id, "name": category.name} for category in categories]
            images.write(
                b'{"info": %b,\n"categories": %b,\n"annotations": [],\n"images": [' % (_json(info), _json(listed))
            )
            yield ResultFiles(results, images, categories)
            results.write(b"\n]\n")
            images.write(b"\n]}\n")

    def add(self, image_id: int, name: str, found: Mapping[str, Tensor], size: tuple[int, int], **more: Any) -> None:
        """One image.

        Args:
            image_id: not used before.
            name: of its file.
            found: "boxes" [K, 4] xyxy in pixels, "labels" [K] in 1…C, "scores" [K].
            size: (width, height) in pixels.
            more: other entries of the image.
        """
        entry = {"id": image_id, "file_name": name, "width": size[0], "height": size[1], **more}
        self._images.write((b",\n" if self.num_images else b"\n") + _json(entry))
        self.num_images += 1
        boxes = found["boxes"].double().cpu()
        boxes[:, 2:] -= boxes[:, :2]  # xyxy → xywh
        for box, label, score in zip(boxes.tolist(), found["labels"].tolist(), found["scores"].tolist()):
            result = {
                "image_id": image_id,
                "category_id": self._categories[label - 1].id,
                "bbox": box,
                "score": score,
            }
            self._results.write((b",\n" if self.num_detections else b"\n") + _json(result))
            self.num_detections += 1


def _json(value: Any) -> bytes:
    # A file name that is not UTF-8 has characters of its own in Python; JSON's escapes for them are the same.
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
