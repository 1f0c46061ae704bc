from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.analysis.tide_cases import CATEGORIES, RECORDED, SIDE, case
from tsdlab.analysis import precision
from tsdlab.analysis.costs import compare_costs, error_costs, gains_of
from tsdlab.analysis.errors import KINDS, Judged, judge
from tsdlab.data.coco import CocoDataset
from tsdlab.evaluation import measure

TIDE = json.loads(RECORDED.read_text())["cases"]


def dataset_of(root: Path, annotations: list[dict[str, Any]], images: int = 8) -> CocoDataset:
    """A data set with these annotations; the images are ids 1, 2, …"""
    (root / "val").mkdir()
    (root / "annotations").mkdir()
    entries = []
    for number in range(1, images + 1):
        Image.new("L", (SIDE, SIDE)).save(root / "val" / f"{number}.png")
        entries.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
    content = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return CocoDataset(root, "val")


@pytest.mark.parametrize("seed", TIDE)
def test_the_costs_are_those_of_tidecv(seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # tidecv's recalls are k / 100. COCO's differ by rounding, so a recall such as 7 of 20 reaches only one of them.
    monkeypatch.setattr(precision, "RECALLS", np.arange(101) / 100)
    annotations, detections = case(int(seed))
    found = error_costs(gains_of(judge(dataset_of(tmp_path, annotations), detections), 1))
    costs = {kind: cost.value for kind, cost in found.overall.kinds.items()}
    assert costs == pytest.approx(TIDE[seed]["costs"], abs=1e-9)
    assert {kind: cost.count for kind, cost in found.overall.kinds.items()} == TIDE[seed]["counts"]
    assert found.overall.AP50.value == pytest.approx(TIDE[seed]["AP50"])
    for name in ("wrong_detections", "objects_not_found"):
        assert getattr(found, name).value == pytest.approx(TIDE[seed][name], abs=1e-9)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    annotations, detections = case(0)
    return judge(dataset_of(tmp_path_factory.mktemp("judged"), annotations), detections)


@pytest.mark.parametrize("seed", range(3, 8))
def test_ap_is_that_of_coco(seed: int, tmp_path: Path):
    annotations, detections = case(seed)
    # A crowd with a detection of which 70% lie in it: it counts only where an object has to be found better than that.
    annotations.append({"id": 999, "image_id": 2, "category_id": 3, "bbox": [0, 0, 100, 200], "area": 9, "iscrowd": 1})
    detections.append({"image_id": 2, "category_id": 3, "bbox": [30, 0, 100, 150], "score": 0.999})
    dataset = dataset_of(tmp_path, annotations)
    found = error_costs(gains_of(judge(dataset, detections), 1))
    metrics = measure(dataset, detections)
    for number in ("AP", "AP50"):
        assert getattr(found.overall, number).value == pytest.approx(getattr(metrics, number))
        assert {name: getattr(costs, number).value for name, costs in found.per_class.items()} == pytest.approx(
            {name: values[number] for name, values in metrics.per_class.items()}
        )
    assert found.overall.loose.value == pytest.approx(metrics.AP50 - metrics.AP)
    localization, classification = (found.overall.kinds[kind].value for kind in ("localization", "classification"))
    expected = metrics.AP50 - metrics.AP + localization - classification
    assert found.localization_minus_classification.value == pytest.approx(expected)


def test_classes_and_sizes_add_up(judged: Judged):
    found = error_costs(gains_of(judged, 5))
    for kind in KINDS:
        whole = found.overall.kinds[kind]
        assert sum(costs.kinds[kind].count for costs in found.per_class.values()) == whole.count
        assert sum(costs[kind].count for costs in found.per_size.values()) == whole.count
        mean = np.mean([costs.kinds[kind].value for costs in found.per_class.values()])
        assert mean == pytest.approx(whole.value)


def test_intervals_come_from_the_images(judged: Judged):
    found = error_costs(gains_of(judged, 300))
    for estimate in (found.overall.AP50, *found.overall.kinds.values()):
        assert estimate.low <= estimate.high
    assert found.overall.AP.low < found.overall.AP.value < found.overall.AP.high
    assert found.overall.AP50.low < found.overall.AP50.value < found.overall.AP50.high
    assert found == error_costs(gains_of(judged, 300))  # the draws depend on the images alone


def test_a_model_differs_from_itself_by_nothing(judged: Judged):
    same = compare_costs(gains_of(judged, 20), gains_of(judged, 20))
    assert {(e.value, e.low, e.high) for e in same.overall.kinds.values()} == {(0.0, 0.0, 0.0)}


def test_two_models_are_compared_on_the_same_images(tmp_path: Path):
    annotations, detections = case(1)
    dataset = dataset_of(tmp_path, annotations)
    right = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in annotations
    ]
    before, after = (gains_of(judge(dataset, found), 50) for found in (detections, right))
    gain, costs = compare_costs(before, after).overall, error_costs(before).overall
    assert gain.AP50.value == pytest.approx(100 - costs.AP50.value)
    assert gain.kinds["localization"].value == pytest.approx(-costs.kinds["localization"].value)
    assert gain.kinds["localization"].high <= 0


def test_without_detections_every_object_is_missed(tmp_path: Path):
    annotations, _ = case(2)
    found = error_costs(gains_of(judge(dataset_of(tmp_path, annotations), []), 10))
    assert found.overall.AP50.value == 0
    assert found.overall.kinds["missed"].count == len(annotations)
    assert found.objects_not_found.count == len(annotations)


def test_without_objects_there_is_no_ap(tmp_path: Path):
    found = error_costs(gains_of(judge(dataset_of(tmp_path, []), case(2)[1]), 10))
    assert found.overall.AP50.value is None
    assert found.overall.kinds["background"].count == len(case(2)[1])
