"""From a model to its errors, for everything that is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset
from torchvision.datasets import CocoDetection

import tsdlab
from tsdlab.analysis.errors import KINDS
from tsdlab.analysis.find_errors import Errors, find_errors
from tsdlab.data import CocoDataset
from tsdlab.data.items import Items
from tsdlab.errors import InputError
from tsdlab.models.build import build_detector


@pytest.fixture(scope="module")
def model(tiny_config):
    torch.manual_seed(0)
    return build_detector(tiny_config)


@pytest.fixture(scope="module")
def found(model, tiny_data: Path) -> Errors:
    return find_errors(model, CocoDataset(tiny_data, "val"), replicates=20, progress=False)


def data_sets(root: Path) -> dict[str, Any]:
    dataset = CocoDataset(root, "val")
    coco = CocoDetection(root / "val", root / "annotations" / "instances_val.json")
    return {"items": Items(dataset), "subset": Subset(dataset, range(5)), "coco": coco}


def test_the_numbers_are_those_of_evaluate(model, found: Errors, tiny_data: Path):
    dataset = CocoDataset(tiny_data, "val")
    metrics = tsdlab.evaluate(model, dataset, progress=False)
    assert found.metrics == metrics and metrics.detections > 10
    assert found.costs.overall.AP50.value == pytest.approx(metrics.AP50)
    assert found.judged.images == 5 and found.confusion.categories == ("red", "blue")


@pytest.mark.parametrize("kind", ["items", "subset", "coco"])
def test_every_data_set_has_the_same_errors(kind: str, model, found: Errors, tiny_data: Path):
    other = find_errors(model, data_sets(tiny_data)[kind], replicates=20, progress=False)
    assert other.as_dict() == found.as_dict()


@pytest.mark.parametrize("kind", ["items", "subset", "coco", "itself"])
def test_the_first_images_alone(kind: str, model, tiny_data: Path):
    dataset = CocoDataset(tiny_data, "val")
    some = find_errors(model, ({"itself": dataset} | data_sets(tiny_data))[kind], 3, replicates=20, progress=False)
    assert some.metrics == tsdlab.evaluate(model, Subset(dataset, range(3)), progress=False)
    assert some.judged.images == 3 and all(image.image < 3 for image in some.worst(9))
    with pytest.raises(InputError, match=r"images must be a whole number from 1 to .* got 0"):
        find_errors(model, dataset, 0)


def test_more_images_than_there_are_are_all(model, found: Errors, tiny_data: Path):
    every = find_errors(model, CocoDataset(tiny_data, "val"), 99, replicates=20, progress=False)
    assert every.as_dict() == found.as_dict()


def test_objects_are_those_that_were_read_with_the_images(model, tiny_data: Path):
    class Moving(torch.utils.data.Dataset):
        """Its objects move each time that an image is read."""

        def __init__(self) -> None:
            self.inner, self.reads = CocoDataset(tiny_data, "val"), 0

        def __len__(self) -> int:
            return len(self.inner)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            self.reads += 1
            image, target = self.inner[index]
            return image, {"boxes": target["boxes"] / self.reads + 1, "labels": target["labels"]}

    found = find_errors(model, Moving(), replicates=5, progress=False)
    first = CocoDataset(tiny_data, "val")[1][1]["boxes"][0]
    x, y, w, h = found.judged.object_boxes[0].tolist()
    assert [x, y, x + w, y + h] == pytest.approx((first / 2 + 1).tolist())  # the second image is the second read


def test_they_are_strict_json_and_a_table(found: Errors):
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    overall = values["costs"]["overall"]
    assert list(overall["kinds"]) == list(KINDS) and {"value", "low", "high", "count"} == overall["loose"].keys()
    assert values["metrics"] == found.metrics.as_dict()
    lines = str(found).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["AP", "AP50", "loose boxes", *KINDS]
    assert lines[4].endswith(str(found.costs.overall.kinds["classification"].count))


def test_a_model_for_other_classes_is_refused(tiny_data: Path):
    with pytest.raises(InputError, match="red"):
        find_errors(tsdlab.load_detector("badges-tsd"), CocoDataset(tiny_data, "val"), progress=False)
