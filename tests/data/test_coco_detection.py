"""What torchvision's CocoDetection has as annotations is used, or named."""

from __future__ import annotations

from pathlib import Path

import pytest
from ecosystem import dataset_of, write_folder

from tsdlab.data.items import Items
from tsdlab.errors import InputError


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bbox": None}, 'annotation 1: "bbox" must be four finite numbers'),
        ({"bbox": [1, 2, 3]}, '"bbox" must be four'),
        ({"bbox": [1, 2, 3, float("nan")]}, '"bbox" must be four'),
        ({"bbox": ["1", 2, 3, 4]}, '"bbox" must be four'),
        ({"bbox": "1 2 3 4"}, '"bbox" must be four'),
        ({"category_id": 9}, '"category_id" 9 is no category'),
        ({"category_id": None}, '"category_id" None is no category'),
    ],
)
def test_annotations_of_coco_detection_that_cannot_be_are_named(tmp_path: Path, change: dict, says: str) -> None:
    dataset = dataset_of("CocoDetection", write_folder(tmp_path))
    dataset.coco.anns[1].update(change)
    for read in (lambda: Items(dataset)[0], lambda: Items(dataset).annotations):
        with pytest.raises(InputError, match=says):
            read()
