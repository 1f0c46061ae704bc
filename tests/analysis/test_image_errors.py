from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.test_costs import dataset_of
from tests.analysis.test_errors import CAT, DOG, entry, truth
from tests.analysis.tide_cases import case
from tsdlab.analysis.errors import judge
from tsdlab.analysis.image_errors import errors_by_image, image_errors, worst_images


def test_the_errors_of_an_image_are_wrong_detections_and_objects_not_found(tmp_path: Path):
    objects = truth(
        entry(CAT, 0), entry(DOG, 100), entry(CAT, 0, image_id=3), entry(CAT, 150, iscrowd=1), entry(DOG, 0, image_id=5)
    )
    found = [
        entry(CAT, 0, score=0.9),
        entry(CAT, 2, score=0.8),  # a duplicate
        entry(DOG, 125, score=0.7),  # localization, and its object is not found
        entry(CAT, 155, score=0.95),  # in a crowd
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
    assert (third.image, third.image_id, third.file, third.kinds) == (2, 3, "3.png", [])
    assert third.as_dict() == {"image": 2, "image_id": 3, "file": "3.png", "errors": {"not found": 1}}
    assert tuple(third.pixels.shape) == (3, 200, 200)


def test_a_wrong_class_knows_its_object(tmp_path: Path):
    dataset = dataset_of(tmp_path, truth(entry(DOG, 0), entry(CAT, 0, image_id=2), entry(CAT, 100, image_id=2)))
    (image,) = image_errors(judge(dataset, [entry(DOG, 100, image_id=2)]), dataset, [1])
    assert (image.kinds, image.names, image.objects) == (["classification"], ["dog"], [1])


@pytest.mark.parametrize("seed", range(3))
def test_what_is_shown_of_an_image_is_what_is_counted(seed: int, tmp_path: Path):
    annotations, detections = case(seed)
    dataset = dataset_of(tmp_path, annotations)
    judged = judge(dataset, detections)
    for score_thresh in (0.0, 0.5):
        counts = errors_by_image(judged, score_thresh)
        shown = image_errors(judged, dataset, range(8), score_thresh)
        assert [image.errors for image in shown] == counts.tolist()
        worst = worst_images(judged, 8, score_thresh)
        assert sorted(counts, reverse=True)[: len(worst)] == counts[worst].tolist() and counts[worst].all()
    assert errors_by_image(judged, 0.0).sum() == (judged.kind >= 0).sum() + (~judged.found).sum()
