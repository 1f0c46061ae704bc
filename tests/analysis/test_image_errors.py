from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.test_costs import dataset_of
from tests.analysis.test_errors import CAT, DOG, entry, truth
from tests.analysis.tide_cases import case
from tsdlab.analysis.errors import CORRECT, judge
from tsdlab.analysis.image_errors import errors_by_image, image_errors, worst_images


def test_the_errors_of_an_image_are_wrong_detections_and_objects_not_found(tmp_path: Path):
    # Every box fits exactly or has an IoU below 0.5, so all thresholds agree.
    objects = truth(
        entry(CAT, 0), entry(DOG, 100), entry(CAT, 0, image_id=3), entry(CAT, 150, iscrowd=1), entry(DOG, 0, image_id=5)
    )
    found = [
        entry(CAT, 0, score=0.9),
        entry(CAT, 0, score=0.8),  # a duplicate
        entry(DOG, 125, score=0.7),  # localization, and its object is not found
        entry(CAT, 150, score=0.95),  # in a crowd
        entry(CAT, 0, image_id=3, score=0.49),  # too low to be seen: not found
        entry(DOG, 0, image_id=4, score=0.49),
        entry(DOG, 0, image_id=5),
    ]
    dataset = dataset_of(tmp_path, objects)
    judged = judge(dataset, found)
    assert errors_by_image(judged).tolist() == [3, 0, 1, 0, 0, 0, 0, 0]
    assert errors_by_image(judged, 0.0).tolist() == [3, 0, 0, 1, 0, 0, 0, 0]
    assert worst_images(judged, 5) == [0, 2] and worst_images(judged, 1) == [0]
    first, third = image_errors(judged, dataset, [0, 2])
    assert first.kinds == ["found", "duplicate", "localization"] and first.scores == [0.9, 0.8, 0.7]
    assert first.names == ["cat", "cat", "dog"] and first.objects == [0, -1, 1]
    assert first.boxes[2].tolist() == [125, 0, 165, 40]
    assert first.object_names == ["cat", "dog"] and first.objects_found == [True, False]
    assert first.object_boxes[1].tolist() == [100, 0, 140, 40]
    assert first.counts == {"localization": 1, "duplicate": 1, "not found": 1} and first.errors == 3
    assert first.ious[0] == 1 and math.isnan(first.ious[1]) and first.ious[2] == pytest.approx(15 / 65)
    assert (third.image, third.image_id, third.file, third.kinds) == (2, 3, "3.png", [])
    expected = {"image": 2, "image_id": 3, "file": "3.png", "errors": 1.0, "counts": {"not found": 1}}
    assert third.as_dict() == expected
    assert tuple(third.pixels.shape) == (3, 200, 200)


def test_a_wrong_class_knows_its_object(tmp_path: Path):
    dataset = dataset_of(tmp_path, truth(entry(DOG, 0), entry(CAT, 0, image_id=2), entry(CAT, 100, image_id=2)))
    (image,) = image_errors(judge(dataset, [entry(DOG, 100, image_id=2)]), dataset, [1])
    assert (image.kinds, image.names, image.objects) == (["classification"], ["dog"], [1])


# A cat of width 40, found by a box that is moved: its IoU, and at how many of ten thresholds it is too low.
@pytest.mark.parametrize(
    ("moved", "iou", "errors", "kind"), [(0, 1.0, 0, "found"), (4, 36 / 44, 3, "found"), (8, 32 / 48, 6, "loose")]
)
def test_a_loose_box_is_an_error_at_the_thresholds_that_it_misses(
    moved: int, iou: float, errors: int, kind: str, tmp_path: Path
):
    dataset = dataset_of(tmp_path, truth(entry(CAT, 0)), images=1)
    judged = judge(dataset, [entry(CAT, moved)])
    (image,) = image_errors(judged, dataset, [0])
    # The box is wrong, and the object is not found.
    assert errors_by_image(judged).tolist() == [image.errors] == [2 * errors / 10]
    assert (image.kinds, image.objects_found) == ([kind], [True]) and image.ious == pytest.approx([iou])
    assert image.counts == ({"loose": 1} if kind == "loose" else {})
    assert worst_images(judged, 3) == ([0] if errors else [])


@pytest.mark.parametrize("score_thresh", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_errors_add_up_over_images(seed: int, score_thresh: float, tmp_path: Path):
    annotations, detections = case(seed)
    dataset = dataset_of(tmp_path, annotations)
    judged = judge(dataset, detections)
    counts = errors_by_image(judged, score_thresh)
    shown = image_errors(judged, dataset, range(8), score_thresh)
    assert [image.errors for image in shown] == counts.tolist()
    worst = worst_images(judged, 8, score_thresh)
    assert sorted(counts, reverse=True)[: len(worst)] == counts[worst].tolist() and counts[worst].all()
    # Of a threshold: what is seen, minus what is right, plus the objects that are left.
    seen, objects = (judged.score >= score_thresh).sum(), len(judged.found)
    right = ((judged.outcome == CORRECT) & (judged.score >= score_thresh)).sum(axis=1)
    assert counts.sum() == pytest.approx(np.mean(seen + objects - 2 * right))
