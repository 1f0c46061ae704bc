"""Random detections and what `tidecv` says of them; run it to record `tide_cases.json`.

    pip install tidecv && python tests/analysis/tide_cases.py

It is no dependency of the tests, because it brings OpenCV.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = Path(__file__).with_suffix(".json")
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 7, "name": "fox"}]
SIDE = 200  # of the images, in pixels


def case(seed: int, images: int = 8) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Annotations and detections in COCO's formats. Objects overlap; detections are moved, renamed, doubled, invented.

    Every class has an object: without one, tidecv counts a class as AP 0 and COCO leaves it out.
    """
    rng = np.random.default_rng(seed)
    ids = [category["id"] for category in CATEGORIES]
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []

    def detect(image: int, category: int, box: np.ndarray) -> None:
        x, y, w, h = box.tolist()
        detections.append(
            {
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, max(w, 1.0), max(h, 1.0)],
                "score": rng.random(),
            }
        )

    for image in range(1, images + 1):
        for number in range(int(rng.integers(0, 6)) if image > 1 else 3):
            box = np.concatenate([rng.uniform(0, 120, 2), rng.uniform(15, 120, 2)])
            category = ids[number] if image == 1 else int(rng.choice(ids))
            annotations.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": box.tolist(),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
            for _ in range(int(rng.integers(0, 4))):
                wrong = rng.random() < 0.3
                noise = rng.choice([1.0, 8.0, 30.0])
                detect(image, int(rng.choice(ids)) if wrong else category, box + rng.normal(0, noise, 4))
        for _ in range(int(rng.integers(0, 3))):
            detect(image, int(rng.choice(ids)), np.concatenate([rng.uniform(0, 150, 2), rng.uniform(5, 50, 2)]))
    return [{"id": number, **each} for number, each in enumerate(annotations, 1)], detections


def by_tidecv(annotations: list[dict[str, Any]], detections: list[dict[str, Any]]) -> dict[str, Any]:
    """AP50, the cost of every kind of error in percent, and how many errors there are."""
    from tidecv import TIDE, Data

    truth, found = Data("truth"), Data("found")
    for category in CATEGORIES:
        truth.add_class(category["id"], category["name"])
    for image in sorted({each["image_id"] for each in annotations + detections}):
        truth.add_image(image, str(image))
    for each in annotations:
        truth.add_ground_truth(each["image_id"], each["category_id"], each["bbox"])
    for each in detections:
        found.add_detection(each["image_id"], each["category_id"], each["score"], each["bbox"])
    tide = TIDE()
    tide.evaluate(truth, found, mode=TIDE.BOX)
    (run,) = tide.runs.values()
    names = {
        "ClassError": "classification",
        "BoxError": "localization",
        "OtherError": "both",
        "DuplicateError": "duplicate",
        "BackgroundError": "background",
        "MissedError": "missed",
    }
    special = {kind.__name__: cost for kind, cost in run.fix_special_errors().items()}
    return {
        "AP50": run.ap,
        "costs": {names[kind.__name__]: cost for kind, cost in run.fix_main_errors().items()},
        "counts": {names[kind.__name__]: len(errors) for kind, errors in run.error_dict.items()},
        "wrong_detections": special["FalsePositiveError"],
        "objects_not_found": special["FalseNegativeError"],
    }


if __name__ == "__main__":
    cases = {str(seed): by_tidecv(*case(seed)) for seed in range(20)}
    RECORDED.write_text(json.dumps({"tidecv": version("tidecv"), "cases": cases}, indent=1) + "\n")
