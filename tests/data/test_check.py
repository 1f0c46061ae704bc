"""`tsdlab data check` reports every problem of every split."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from coco_folders import annotation, image_entry, write_split
from PIL import Image

from tsdlab.data.check import check_folder, require_trainable
from tsdlab.data.coco import CocoDataset
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


def two_splits(root: Path, **changes) -> Path:
    """Equal splits train and val."""
    for split in ("train", "val"):
        write_split(root, split=split, **changes)
    return root


def problems_and_notes(root: Path, **options) -> dict[str, tuple[str, str]]:
    reports = check_folder(root, progress=False, **options)
    return {report.split: ("\n".join(report.problems), "\n".join(report.notes)) for report in reports}


def test_every_split_is_checked_and_two_are_needed(tmp_path: Path) -> None:
    write_split(tmp_path, split="train2017")
    write_split(tmp_path, split="test", annotations=[annotation(bbox=[1, 2, 3])])
    found = problems_and_notes(tmp_path)
    assert [*found] == ["test", "train", "train2017", "val"]
    assert "bbox must be four numbers" in found["test"][1] and found["train2017"] == ("", "")
    for name in ("train", "val"):
        assert re.fullmatch(f"the file does not exist; splits with .*{tmp_path.name}: test, train2017", found[name][0])
    assert [*problems_and_notes(tmp_path, train_split="train2017", val_split="test")] == ["test", "train2017"]


def test_a_test_split_needs_no_annotations_but_training_does(tmp_path: Path) -> None:
    two_splits(tmp_path)
    write_split(tmp_path, split="test")
    for split in ("test", "val"):
        path = tmp_path / f"annotations/instances_{split}.json"
        path.write_text(path.read_text().replace('"annotations"', '"unknown"'))
    found = problems_and_notes(tmp_path)
    assert found["test"] == ("", found["val"][0]) and 'no list "annotations": a test split' in found["val"][0]
    assert found["train"] == ("", "")
    with pytest.raises(DataError, match="a test split"):
        CocoDataset(tmp_path, "test")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": []}, "the split has no objects"),
        ({"images": [], "annotations": []}, '"images" is empty'),
        ({"categories": [{"id": 7, "name": "cat"}]}, "the classes of a and train"),
        ({"categories": []}, '"categories" is empty'),
        ({"annotations": [annotation(category_id=5)]}, "category_id 5 is not among"),
        (None, "malformed JSON"),
    ],
)
def test_what_is_wrong_with_a_split_that_training_does_not_read_is_a_note(
    change: dict | None, said: str, tmp_path: Path
) -> None:
    root = two_splits(tmp_path)
    write_split(root, split="a", **(change or {}))  # the first in the alphabet
    if change is None:
        (root / "annotations/instances_a.json").write_text("{")
    found = problems_and_notes(root)
    assert found["a"][0] == "" and re.search(f"{said}.*; training does not read this split", found["a"][1])
    assert found["train"] == found["val"] == ("", "")
    # Whoever asks for the split, or trains on it, wants to know.
    assert re.search(said, problems_and_notes(root, splits=["train", "a"])["a"][0])
    assert re.search(said, problems_and_notes(root, val_split="a")["a"][0])


def test_a_split_that_training_does_not_read_is_no_standard_for_others(tmp_path: Path) -> None:
    root = two_splits(tmp_path)
    (root / "annotations/instances_train.json").write_text("{")
    write_split(root, split="a", categories=[{"id": 7, "name": "cat"}])
    found = problems_and_notes(root)
    assert found["val"] == ("", "") and "the classes of a and val differ" in found["a"][1]


@pytest.mark.parametrize(
    ("size", "problem", "note"),
    [((2, 60), False, False), ((61, 2), False, True), ((2, 199), False, True), ((200, 2), True, False),
     ((2, 200), True, False), ((1, 1), True, False), ((1, 50), True, True)],
)  # fmt: skip
def test_long_images_are_noted_and_those_that_vanish_refused(
    size: tuple[int, int], problem: bool, note: bool, tmp_path: Path
) -> None:
    root = two_splits(tmp_path, images=[image_entry(width=size[0], height=size[1])], annotations=[
        annotation(bbox=(0, 0, 2, 2), image_id=1)])  # fmt: skip
    problems, notes = problems_and_notes(root)["val"]
    assert ("pixels a side, and must be less than 100 times" in problems) == problem
    assert ("a.png is more than 30 times as long as it is wide" in notes) == note


def test_training_refuses_images_that_vanish_at_its_own_size(tmp_path: Path) -> None:
    root = two_splits(tmp_path, images=[image_entry(width=2, height=130)], annotations=[annotation(bbox=(0, 0, 2, 9))])
    train, val = (CocoDataset(root, split) for split in ("train", "val"))
    require_trainable(train, val, max_size=66)
    with pytest.raises(DataError, match=r"a\.png vanishes when it is resized to image\.max_size, 64"):
        require_trainable(train, val, max_size=64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("size", "agrees"), [((40, 30), True), ((30, 40), None), ((40, 31), False), ((20, 15), False), ((41, 30), False)]
)
def test_images_of_another_size_are_found_before_training_whatever_their_rotation(
    size: tuple[int, int], agrees: bool | None, orientation: int, tmp_path: Path
) -> None:
    root = two_splits(tmp_path)  # whose entries say 40×30
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(root / "val/a.png", exif=exif)
    if agrees is None:  # as it is stored, unless it is shown on its side
        agrees = orientation >= 5
    problems, _ = problems_and_notes(root)["val"]
    assert bool(problems) != agrees and ("its entry says 40×30" in problems) != agrees
    try:
        require_trainable(CocoDataset(root, "train"), CocoDataset(root, "val"), max_size=64, progress=False)
    except DataError as error:
        assert not agrees and "a.png is " in str(error)
    else:
        assert agrees


@pytest.mark.parametrize("name", ["café", "ångström", "한국", "e\u0301tude"])
def test_names_that_differ_in_their_unicode_form_alone_are_told_apart(name: str, tmp_path: Path) -> None:
    forms = {split: unicodedata.normalize(form, name) for split, form in (("train", "NFC"), ("val", "NFD"))}
    for split, form in forms.items():
        categories = [{"id": 7, "name": form}, {"id": 8, "name": f"only {split}"}]
        write_split(tmp_path, split=split, categories=categories)
    problem, _ = problems_and_notes(tmp_path)["val"]
    said = f"{forms['val']!a} in val, {forms['train']!a} in train"
    assert problem.count("has the same look, other Unicode form: ") == 1 and said in problem


def test_a_sound_split_is_not_blamed_for_a_broken_one(tmp_path: Path) -> None:
    write_split(tmp_path, split="train", categories=[{"id": 7, "name": "cat"}, {"id": 3}])
    write_split(tmp_path, split="val")
    found = problems_and_notes(tmp_path)
    assert '"name" is missing' in found["train"][0] and found["val"] == ("", "")


def test_classes_are_compared_by_name(tmp_path: Path) -> None:
    write_split(tmp_path, split="train")
    write_split(
        tmp_path,
        split="val",
        categories=[{"id": "a", "name": "ant"}, {"id": 3, "name": "cat"}],
        annotations=[annotation(category_id="a")],
    )
    found = problems_and_notes(tmp_path)
    assert found["train"] == ("", "")
    assert found["val"] == ("", "the ids of 'ant', 'cat' differ from those of train; names count, not ids")


def test_more_objects_than_detections_and_boxes_beyond_the_image_are_noted(tmp_path: Path) -> None:
    objects = [annotation(i, bbox=(1, 1, 5, 5)) for i in range(101)]
    two_splits(tmp_path, annotations=[*objects, annotation("wide", image_id=2, bbox=(30, 3, 12, 5))],
               images=[image_entry(1), image_entry(2, "b.png")])  # fmt: skip
    problems, notes = problems_and_notes(tmp_path)["train"]
    assert problems == ""
    assert "image 1 has 101 objects; AP counts at most 100 detections" in notes
    assert "the box of annotation 'wide' extends beyond its image and is clipped" in notes


@pytest.mark.parametrize(
    ("leaving", "problem", "note"),
    [(5, "", ""), (6, "", "30% of the boxes leave their images; are they"),
     (10, "50% of the boxes leave their images; are they [x, y, width, height] in pixels?", "")],
)  # fmt: skip
def test_many_boxes_that_leave_their_images_raise_a_question(
    leaving: int, problem: str, note: str, tmp_path: Path
) -> None:
    boxes = [(2, 3, 10, 8)] * (20 - leaving) + [(30, -9, 10, 12)] * leaving
    root = two_splits(tmp_path, annotations=[annotation(i, bbox=box) for i, box in enumerate(boxes)])
    problems, notes = problems_and_notes(root)["train"]
    assert problems.startswith(problem) and bool(problems) == bool(problem)
    assert note in notes and ("leave" in notes) == bool(note)


def test_objects_that_no_detection_can_match_are_noted(tmp_path: Path) -> None:
    found = [(2, 3, 10, 8), (-2, -2, 44, 34), (35, 0, 10, 5), (0, 0, 40, 60)]
    lost = [(50, 3, 10, 8), (10, 3, -5, 8), (-20, 3, -5, -8), (3, 3, 0, 9), (34, 0, 13, 5), (0, 0, 1e200, 1e200)]
    two_splits(
        tmp_path, annotations=[annotation(i, bbox=box) for i, box in enumerate([*found, *lost] + found[:1] * 20)]
    )
    problems, notes = problems_and_notes(tmp_path)["val"]
    assert problems == ""
    assert (
        "6 objects have no area, or more than half of it outside their images (annotations 4, 5, 6, 7, 8 and 1" in notes
    )
    assert "these objects still count in AP as objects that cannot be found" in notes
    two_splits(tmp_path, annotations=[annotation(i, bbox=box) for i, box in enumerate(found)])
    assert "cannot be found" not in problems_and_notes(tmp_path)["val"][1]


def test_an_area_that_ap_does_not_count_is_a_problem(tmp_path: Path) -> None:
    two_splits(tmp_path, annotations=[annotation("big", area=2e10)])
    problems, _ = problems_and_notes(tmp_path)["val"]
    assert problems.startswith("annotation 'big': area must be a number of pixels² from 0 to 10,000,000,000")


def test_pixels_are_read_on_request(tmp_path: Path) -> None:
    root = two_splits(tmp_path)
    path = root / "train" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    assert problems_and_notes(root) == {"train": ("", ""), "val": ("", "")}
    assert "a.png cannot be decoded" in problems_and_notes(root, decode=True)["train"][0]


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, state in (("file", "is a file"), ("nothing", "does not exist")):
        with pytest.raises(DataError, match=f"{name} {state}; give the folder that holds annotations/"):
            CocoDataset(tmp_path / name, "val")
