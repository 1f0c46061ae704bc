from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.test_costs import dataset_of
from tsdlab.analysis.errors import CORRECT, IGNORED, KINDS, judge
from tsdlab.errors import InputError

CAT, DOG, FOX = 3, 5, 7


def entry(category: int, x: float, w: float = 40, score: float = 0.9, **more: Any) -> dict[str, Any]:
    """A box of height 40 at (x, 0)."""
    return {"image_id": 1, "category_id": category, "bbox": [x, 0, w, 40], "area": w * 40, "score": score, **more}


def truth(*objects: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": number, "iscrowd": 0, **each} for number, each in enumerate(objects, 1)]


# Detections of one object, a cat at x = 0 of width 40, by falling score; and what each of them is.
@pytest.mark.parametrize(
    ("detections", "kinds"),
    [
        ([(CAT, 0)], ["correct"]),
        ([(CAT, 0), (CAT, 2)], ["correct", "duplicate"]),
        ([(DOG, 0)], ["classification"]),
        ([(CAT, 25)], ["localization"]),  # IoU 0.23
        ([(DOG, 25)], ["both"]),
        ([(DOG, 39)], ["background"]),  # IoU 0.01
        ([(CAT, 150)], ["background"]),
        ([(CAT, 25), (CAT, 0)], ["localization", "correct"]),  # what does not find the object leaves it to others
        ([(CAT, 0), (CAT, 25), (DOG, 1)], ["correct", "localization", "classification"]),
    ],
)
def test_kinds(detections: list[tuple[int, float]], kinds: list[str], tmp_path: Path):
    found = [entry(category, x, score=0.9 - 0.1 * i) for i, (category, x) in enumerate(detections)]
    judged = judge(dataset_of(tmp_path, truth(entry(CAT, 0))), found)
    assert ["correct" if kind == CORRECT else KINDS[kind] for kind in judged.kind] == kinds


def test_only_the_best_detection_can_be_mended_to_find_an_object(tmp_path: Path):
    objects = truth(entry(CAT, 0), entry(FOX, 100))
    found = [entry(CAT, 25, score=0.5), entry(DOG, 0, score=0.8), entry(CAT, 24, score=0.6)]
    judged = judge(dataset_of(tmp_path, objects), found)
    assert judged.finds.tolist() == [True, False, False]  # by falling score: the dog
    assert judged.subject_label[0] == 1  # and it becomes a cat
    assert judged.missed.tolist() == [False, True]


def test_a_detection_in_a_crowd_of_its_class_counts_for_nothing(tmp_path: Path):
    objects = truth(entry(CAT, 0, 200, iscrowd=1), entry(DOG, 150))
    judged = judge(dataset_of(tmp_path, objects), [entry(CAT, 10), entry(FOX, 10), entry(DOG, 150)])
    assert judged.kind.tolist() == [IGNORED, KINDS.index("background"), CORRECT]
    assert judged.found.tolist() == [True]  # the crowd is no object


def test_the_best_hundred_of_an_image_count(tmp_path: Path):
    found = [entry(CAT, 0, score=0.001)] + [entry(DOG, 150, score=0.5) for _ in range(100)]
    judged = judge(dataset_of(tmp_path, truth(entry(CAT, 0))), found)
    assert len(judged.kind) == 100
    assert judged.missed.tolist() == [True]


def test_an_unknown_image_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="image_id 77, which is not an id"):
        judge(dataset_of(tmp_path, truth(entry(CAT, 0))), [entry(CAT, 0, image_id=77)])
