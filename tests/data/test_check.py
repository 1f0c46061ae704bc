"""`tsdlab data check` reports every problem of every split."""

from __future__ import annotations

from pathlib import Path

import pytest
from coco_folders import annotation, image_entry, write_split

from tsdlab.data.check import check_folder
from tsdlab.errors import DataError


def test_check_collects_every_problem_of_every_split(tmp_path: Path) -> None:
    write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png"), image_entry(3, "c.png")])
    (tmp_path / "train" / "b.png").write_bytes(b"not an image")
    (tmp_path / "train" / "c.png").unlink()
    write_split(tmp_path, split="val", categories=[{"id": 7, "name": "dog"}], annotations=[annotation(1, 5)])
    train, val = check_folder(tmp_path, progress=False)
    assert (train.split, train.images, train.objects, train.images_without_objects) == ("train", 3, 1, 2)
    assert train.class_counts == {"ant": 0, "cat": 1}
    assert ["b.png" in p or "c.png" in p for p in train.problems] == [True, True]
    assert len(val.problems) == 2 and "image_id 5" in val.problems[0]
    assert "differ (only in val: 'dog'; only in train: 'ant', 'cat')" in val.problems[1]
    assert "train: 3 images, 1 objects" in str(train) and str(val).count("PROBLEM") == 2


def test_a_valid_folder_has_no_problems(tmp_path: Path) -> None:
    write_split(tmp_path, split="val")
    reports = check_folder(write_split(tmp_path), progress=False, decode=True)
    assert [report.split for report in reports] == ["train", "val"]
    assert all(report.problems == report.notes == [] and "no problems" in str(report) for report in reports)
    with pytest.raises(DataError, match="is this the folder"):
        check_folder(tmp_path / "elsewhere")
