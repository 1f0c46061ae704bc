"""Two detectors on the same images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.analysis.test_costs import dataset_of
from tests.analysis.test_errors import CAT, DOG, entry, truth
from tsdlab.analysis.comparison import Comparison, compare_errors
from tsdlab.analysis.costs import compare_costs
from tsdlab.analysis.find_errors import errors_of, find_errors
from tsdlab.config import Config
from tsdlab.data import CocoDataset
from tsdlab.errors import InputError
from tsdlab.evaluation import Detections
from tsdlab.models.build import build_detector


def compared(root: Path, objects: list[dict[str, Any]], *results: list[dict[str, Any]]) -> Comparison:
    dataset = dataset_of(root, objects)
    first, second = (errors_of(Detections(dataset, found, 100), replicates=20) for found in results)
    return Comparison(first, second, compare_costs(first.gains, second.gains))


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """The second detector repairs images 2 and 4, breaks 3, and does the same in 1."""
    objects = truth(*(entry(CAT, 0, image_id=number) for number in (1, 2, 3, 4)))
    first = [
        entry(CAT, 0, image_id=1), entry(DOG, 0, image_id=2), entry(CAT, 0, image_id=3), entry(CAT, 8, image_id=4),
    ]  # fmt: skip
    second = [entry(CAT, 0, image_id=1), entry(CAT, 0, image_id=2), entry(CAT, 0, image_id=4)]
    return compared(tmp_path, objects, first, second)


def test_images_come_by_how_much_they_change(comparison: Comparison):
    assert comparison.changes().tolist() == [0, -2, 1, -1.2, 0, 0, 0, 0]  # the box at 8 misses six of ten thresholds
    repaired, broken = comparison.repaired(9), comparison.broken(9)
    assert [(first.image, second.image) for first, second in repaired] == [(1, 1), (3, 3)]
    assert [first.image for first, _ in comparison.repaired(1)] == [1]
    assert [first.image for first, _ in broken] == [2]
    before, after = repaired[0]
    assert before.kinds == ["classification"] and after.kinds == ["found"]
    assert (before.errors, after.errors) == (2, 0)


def test_as_plain_values(comparison: Comparison):
    values = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert values["images"] == [
        {"image_id": 2, "file": "2.png", "errors": [2.0, 0.0]},
        {"image_id": 3, "file": "3.png", "errors": [0.0, 1.0]},
        {"image_id": 4, "file": "4.png", "errors": [1.2, 0.0]},
    ]
    gain = values["difference"]["overall"]["AP"]["value"]
    assert gain == pytest.approx(values["second"]["metrics"]["AP"] - values["first"]["metrics"]["AP"])


def test_from_two_models(tiny_config: Config, tiny_data: Path):
    torch.manual_seed(0)
    first, second = build_detector(tiny_config), build_detector(tiny_config)
    dataset = CocoDataset(tiny_data, "val")
    found = compare_errors(first, second, dataset, images=3, replicates=5, progress=False)
    for errors, model in ((found.first, first), (found.second, second)):
        assert errors.as_dict() == find_errors(model, dataset, 3, 5, progress=False).as_dict()
    assert found.difference == compare_costs(found.first.gains, found.second.gains)
    assert found.first.metrics != found.second.metrics


def test_objects_that_change_are_refused(tiny_config: Config, tiny_data: Path):
    inner, reads = CocoDataset(tiny_data, "val"), iter(range(1, 99))

    class Moving(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            image, target = inner[index]
            return image, {"boxes": target["boxes"] / next(reads), "labels": target["labels"]}

    model = build_detector(tiny_config)
    with pytest.raises(InputError, match="gives other objects each time"):
        compare_errors(model, model, Moving(), replicates=2, progress=False)
