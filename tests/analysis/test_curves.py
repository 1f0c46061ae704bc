from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.test_costs import dataset_of
from tests.analysis.tide_cases import case
from tsdlab.analysis.curves import SHOWN_THRESHOLDS, precision_recall
from tsdlab.analysis.errors import judge
from tsdlab.evaluation import measure


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_a_curve_is_the_ap_of_coco(seed: int, tmp_path: Path):
    annotations, detections = case(seed)
    crowd = {"id": 999, "image_id": 2, "category_id": 3, "bbox": [0, 0, 200, 200], "area": 9, "iscrowd": 1}
    dataset = dataset_of(tmp_path, [*annotations, crowd])
    curves, metrics = precision_recall(judge(dataset, detections)), measure(dataset, detections)
    assert {t: 100 * curves.mean(t).mean() for t in curves.precision} == pytest.approx(metrics.per_iou)
    for threshold, number in (("0.50", "AP50"), ("0.75", "AP75")):
        expected = [values[number] for values in metrics.per_class.values()]
        np.testing.assert_allclose(100 * curves.precision[threshold].mean(axis=1), expected)


def test_a_class_without_objects_has_no_curve_and_no_part_in_the_mean(tmp_path: Path):
    cats = [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0}]
    fox = {"image_id": 1, "category_id": 7, "bbox": [0, 0, 50, 50], "score": 0.9}
    curves = precision_recall(judge(dataset_of(tmp_path, cats), [fox, {**fox, "category_id": 3}]))
    assert np.isnan(curves.precision["0.50"]).all(axis=1).tolist() == [False, True, True]
    values = json.loads(json.dumps(curves.as_dict(), allow_nan=False))
    assert list(values["precision"]) == list(SHOWN_THRESHOLDS) and len(values["recall"]) == 101
    assert set(values["precision"]["0.90"]) == {1.0}


def test_without_objects_there_is_no_curve(tmp_path: Path):
    curves = precision_recall(judge(dataset_of(tmp_path, []), []))
    assert set(curves.as_dict()["precision"]["0.50"]) == {None}
