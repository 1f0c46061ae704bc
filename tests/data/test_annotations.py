"""Problems of an annotation file: the dataset refuses what the check reports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from coco_folders import CATEGORIES, annotation, image_entry, write_split

from tsdlab.data.check import check_folder
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import DataError


def test_a_missing_annotation_file_lists_the_existing_splits(tmp_path: Path) -> None:
    write_split(write_split(tmp_path, split="train"), split="val2017")
    with pytest.raises(DataError, match=r"instances_test\.json.*does not exist.*train, val2017"):
        CocoDataset(tmp_path, "test")


def test_malformed_json_is_located(tmp_path: Path) -> None:
    write_split(tmp_path)
    (tmp_path / "annotations" / "instances_train.json").write_text('{"images": [],\n  "annotations": [}')
    with pytest.raises(DataError, match=r"instances_train\.json.*line 2, column 19"):
        CocoDataset(tmp_path, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [annotation(8, category_id=99)]}, r"annotation 8: category_id 99 is not among"),
        ({"annotations": [annotation(8, image_id=77)]}, r"annotation 8: image_id 77 is not among"),
        ({"annotations": [annotation(8), annotation(8)]}, r"annotation 8: its id is given twice"),
        (
            {"annotations": [annotation(8, bbox=[1, 2, 3])]},
            r"annotation 8: bbox must be four numbers.*\[1, 2, 3\]",
        ),
        ({"annotations": [annotation(8, bbox=None)]}, r"annotation 8: bbox must be four numbers.*None"),
        ({"annotations": [annotation(8, bbox=[1, 2, "3,5", 4])]}, r"annotation 8: bbox must be four numbers"),
        ({"annotations": [annotation(8, salient_bbox=[1])]}, r"annotation 8: salient_bbox must be four"),
        ({"annotations": [{"id": 8, "image_id": 1}]}, r'annotation 8: "category_id" is missing; it must be an integer'),
        ({"annotations": ["x"]}, r"annotations\[0\]: must be an object, got 'x'"),
        ({"images": [image_entry(4, "a.png"), image_entry(4, "b.png")]}, r"image 4: its id is given twice"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 40}]}, r'image 1: "height" is missing'),
        ({"images": [{**image_entry(), "id": [1]}]}, r"images\[0\]: id must be an integer or text, got \[1\]"),
        ({"images": []}, r'"images" is empty; a split needs at least one'),
        ({"categories": [{"id": 7}]}, r'category 7: "name" is missing; it must be text'),
        ({"categories": [*CATEGORIES, CATEGORIES[0]]}, r"category 7: its id is given twice"),
        ({"categories": [*CATEGORIES, {"id": 9, "name": "cat"}]}, r"category name 'cat' is given twice; rename one"),
        ({"categories": [], "annotations": []}, r'"categories" is empty'),
    ],
)
def test_errors_name_the_entry(tmp_path: Path, changes: dict, message: str) -> None:
    root = write_split(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as error:
        CocoDataset(root, "train")
    assert "instances_train.json" in str(error.value)
    assert any(re.search(message, problem) for problem in check_folder(root, progress=False)[0].problems)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    write_split(tmp_path)
    (tmp_path / "annotations" / "instances_train.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match=r'has no list "categories"'):
        CocoDataset(tmp_path, "train")


def test_a_missing_image_is_named_at_construction(tmp_path: Path) -> None:
    root = write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "sub/b.png")])
    (root / "train" / "sub" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png \(id 2\) does not exist"):
        CocoDataset(root, "train")


def test_a_fault_of_many_entries_is_one_line(tmp_path: Path) -> None:
    objects = [annotation(i, category_id=99) for i in range(3000)]
    root = write_split(
        tmp_path, [image_entry(i, f"{i}.png") | {"width": 40.5} for i in range(7)], [*objects, annotation("x", 8)]
    )
    with pytest.raises(DataError, match="3,008 problems") as error:
        CocoDataset(root, "train")
    assert "annotation 0: category_id 99 is not among" in str(error.value)
    assert "(the same in annotation 1, annotation 2, annotation 3, annotation 4, annotation 5 and 2,994 more)" in str(
        error.value
    )
    assert len(str(error.value).splitlines()) == 4 and len(str(error.value)) < 1500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: b"[" + text + b"]", r'holds no object with "images", "annotations", "categories"'),
        (lambda text: b"[" * 10**5 + b"]" * 10**5, "is nested too deeply"),
        (lambda text: text[:-1] + b', "info": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "is nested too deeply"),
        (lambda text: text[: len(text) // 2], "malformed JSON at line 1, column "),
        (lambda text: text + b"}", "malformed JSON at line 1, column .*: Extra data"),
        (lambda text: text + text, "malformed JSON at line 1, column .*: Extra data"),
        (lambda text: b"", "is empty; write it again"),
        (lambda text: text.decode().encode("utf-16")[:-1], "is not UTF-8 at byte "),
        (lambda text: text[:-1] + b', "images": []}', 'gives "images" twice; join the two lists, or remove one'),
        (lambda text: text.replace(b'"images": [', b'"images": 3, "pictures": ['), 'has no list "images"'),
    ],
)
def test_a_file_in_another_format_has_one_problem(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    """What was read before it is no problem of its own, though the entries have some."""
    root = write_split(tmp_path, annotations=[annotation(8, image_id=77, bbox=[1])], categories=[{"id": 7}])
    file = root / "annotations" / "instances_train.json"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=rf"instances_train\.json: {message}") as error:
        CocoDataset(root, "train")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("order", list(permutations(["images", "annotations", "categories"])))
def test_the_lists_may_have_any_order_in_any_encoding(tmp_path: Path, order: tuple[str, ...]) -> None:
    images = [image_entry("b", "b.png"), image_entry(10**30, "a.png"), image_entry(4, "c.png")]  # type: ignore[arg-type]
    objects = [annotation(f"{i}", image["id"], bbox=(i, 1, 9, 9)) for i, image in enumerate(images * 2)]  # type: ignore[arg-type]
    root = write_split(tmp_path, images, objects)
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: content[key] for key in order}), encoding="utf-16")
    dataset = CocoDataset(root, "train")
    assert dataset.image_ids == ["b", 10**30, 4]
    assert [dataset.target(i)["boxes"][:, 0].tolist() for i in range(3)] == [[0, 3], [1, 4], [2, 5]]


def test_problems_of_entries_come_in_the_order_of_what_depends_on_them(tmp_path: Path) -> None:
    objects = [annotation(8, bbox=[1]), annotation(9, category_id=99), annotation(9)]
    root = write_split(tmp_path, [image_entry() | {"width": 40.5}], objects, [*CATEGORIES, {"id": 1}])
    with pytest.raises(DataError) as error:
        CocoDataset(root, "train")
    _, *lines = str(error.value).splitlines()
    assert [line.split()[1] for line in lines] == ["category", "image", "annotation", "annotation", "annotation"]
