from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.test_costs import dataset_of
from tests.analysis.test_errors import CAT, DOG, FOX, entry, truth
from tests.analysis.tide_cases import case
from tsdlab.analysis.confusion import confuse
from tsdlab.analysis.errors import IGNORED, judge

# Pairs of (object, detection) from the detections of a cat at x = 0 and a dog at x = 100; None is the background.
NOTHING_FOUND = [("cat", None), ("dog", None)]


@pytest.mark.parametrize(
    ("detections", "pairs"),
    [
        ([], NOTHING_FOUND),
        ([(CAT, 0, 0.9), (DOG, 100, 0.9)], [("cat", "cat"), ("dog", "dog")]),
        ([(FOX, 0, 0.9)], [("cat", "fox"), ("dog", None)]),
        ([(FOX, 0, 0.49)], NOTHING_FOUND),  # its score is too low
        ([(FOX, 0, 0.5)], [("cat", "fox"), ("dog", None)]),
        ([(CAT, 25, 0.9)], [*NOTHING_FOUND, (None, "cat")]),  # IoU 0.23
        ([(CAT, 0, 0.8), (FOX, 1, 0.9)], [("cat", "fox"), ("dog", None), (None, "cat")]),  # the better score first
        ([(DOG, 100, 0.7), (DOG, 101, 0.6)], [("cat", None), ("dog", "dog"), (None, "dog")]),
        ([(CAT, 0, 0.9), (CAT, 165, 0.9)], [("cat", "cat"), ("dog", None)]),  # the second lies in a crowd of cats
    ],
)
def test_pairs(detections: list[tuple[int, float, float]], pairs: list[tuple[str | None, str | None]], tmp_path: Path):
    objects = truth(entry(CAT, 0), entry(DOG, 100), entry(CAT, 160, iscrowd=1))
    judged = judge(dataset_of(tmp_path, objects), [entry(c, x, score=score) for c, x, score in detections])
    found = json.loads(json.dumps(confuse(judged).as_dict()))
    assert found["score_thresh"] == 0.5
    assert sorted(((p["object"], p["detection"]) for p in found["counts"]), key=str) == sorted(pairs, key=str)
    assert {p["count"] for p in found["counts"]} == {1}


def test_a_detection_takes_the_object_that_it_overlaps_most(tmp_path: Path):
    objects = truth(entry(CAT, 0), entry(DOG, 10))  # their IoU is 0.6
    counts = confuse(judge(dataset_of(tmp_path, objects), [entry(FOX, 9)])).counts
    assert counts[2, 3] == 1 and counts[1, 0] == 1 and counts.sum() == 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("score_thresh", [0.0, 0.6])
def test_every_object_and_detection_counts_once(seed: int, score_thresh: float, tmp_path: Path):
    annotations, detections = case(seed)
    judged = judge(dataset_of(tmp_path, annotations), detections)
    counts = confuse(judged, score_thresh).counts
    classes = np.arange(1, 4)
    assert counts[1:].sum(axis=1).tolist() == [(judged.object_label == c).sum() for c in classes]
    seen = (judged.score >= score_thresh) & (judged.kind != IGNORED)
    assert counts[:, 1:].sum(axis=0).tolist() == [(judged.label[seen] == c).sum() for c in classes]
    assert counts[0, 0] == 0
