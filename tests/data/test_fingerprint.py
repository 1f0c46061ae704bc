"""What training reads has a fingerprint: it tells what has changed, and does not depend on where the files are."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tsdlab.data.coco import CocoDataset
from tsdlab.data.fingerprint import Fingerprint, changes, fingerprint
from tsdlab.errors import InputError


@pytest.fixture
def folder(tiny_data: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    shutil.copy(root / "train/10.png", root / "train/more.png")
    return root


def of(folder: Path, split: str = "train") -> list[Fingerprint]:
    return [fingerprint(CocoDataset(folder, split))]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def objects_of(content: dict[str, Any], image_id: int) -> list[dict[str, Any]]:
    return [entry for entry in content["annotations"] if entry["image_id"] == image_id]


ANOTHER_IMAGE = {"id": "ü", "file_name": "more.png", "width": 64, "height": 64}


def move_boxes(content: dict[str, Any]) -> None:
    for image_id in (11, 14, 17):
        objects_of(content, image_id)[0]["bbox"][0] += 0.125


def rename_image(content: dict[str, Any]) -> None:
    content["images"][1]["file_name"], content["images"][2]["file_name"] = "12.png", "11.png"


def swap_boxes(content: dict[str, Any]) -> None:
    one, other = objects_of(content, 11)[:2]
    one["bbox"], other["bbox"] = other["bbox"], one["bbox"]
    one["area"], other["area"] = other["area"], one["area"]
    one["category_id"], other["category_id"] = other["category_id"], one["category_id"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (move_boxes, "the objects of 3 images of train changed (ids 11, 14, 17)"),
        (lambda c: objects_of(c, 12)[0].update(iscrowd=0), "the objects of 1 image of train changed (id 12)"),
        (lambda c: objects_of(c, 13)[1].update(area=7), "the objects of 1 image of train changed (id 13)"),
        (lambda c: objects_of(c, 13)[1].update(category_id=10 - objects_of(c, 13)[1]["category_id"]), "(id 13)"),
        (lambda c: c["annotations"].remove(objects_of(c, 15)[2]), "the objects of 1 image of train changed (id 15)"),
        (swap_boxes, "the objects of 1 image of train changed (id 11)"),  # another order of the objects
        (rename_image, "the files of 2 images of train changed (ids 11, 12)"),
        (lambda c: c["images"].pop(0), "1 image of train removed (id 10)"),
        (
            lambda c: c["images"].append({**c["images"][0], "id": "ü", "file_name": "more.png"}),
            "1 image of train added (id ü)",
        ),
        (lambda c: c["images"].reverse(), "the images of train are in another order"),
        (lambda c: c["categories"][0].update(name="navy"), "the categories of train changed: blue (id 7), navy (id 7)"),
        (lambda c: c["categories"].append({"id": 9, "name": "new"}), "the categories of train changed: new (id 9)"),
    ],
)
def test_a_change_is_said(change: Callable[[dict[str, Any]], object], said: str, folder: Path) -> None:
    before = of(folder)
    edit(folder, change)
    (found,) = changes(before, of(folder))
    assert said in found


def test_another_file_and_another_split_are_said(folder: Path) -> None:
    before = of(folder)
    with (folder / "train/14.png").open("ab") as file:
        file.write(b"\0")
    assert changes(before, of(folder)) == ["the files of 1 image of train changed (id 14)"]
    assert changes(before, of(folder, "val")) == ["the split was train, is val"]


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 8000, 8192, 20_000])
def test_other_bytes_at_the_beginning_or_the_end_are_said(size: int, folder: Path) -> None:
    digests = []
    for position in (None, 0, min(size, 4096) - 1, max(0, size - 4096), size - 1):
        content = bytearray(size)
        if position is not None:
            content[position] = 1
        (folder / "train/14.png").write_bytes(content)
        digests.append((position, of(folder)))
    for position, now in digests[1:]:
        assert changes(digests[0][1], now) == ["the files of 1 image of train changed (id 14)"], position


def test_images_of_equal_size_that_are_exchanged_are_said(folder: Path) -> None:
    for name in ("11.png", "12.png"):
        with Image.open(folder / "train" / name) as image:
            image.save(folder / "train" / name, format="BMP")
    before = of(folder)
    one, other = (folder / "train" / name for name in ("11.png", "12.png"))
    assert one.stat().st_size == other.stat().st_size
    one.rename(folder / "train/tmp"), other.rename(one), (folder / "train/tmp").rename(other)
    assert changes(before, of(folder)) == ["the files of 2 images of train changed (ids 11, 12)"]


def test_several_changes_are_all_said(folder: Path) -> None:
    before = of(folder)
    edit(folder, lambda c: (move_boxes(c), c["images"].pop(0), c["categories"].append({"id": 9, "name": "new"})))
    assert len(changes(before, of(folder))) == 3


def test_the_place_the_dates_and_what_nobody_reads_do_not_matter(folder: Path, tmp_path: Path) -> None:
    before = of(folder)

    def rewrite(content: dict[str, Any]) -> None:
        content["info"] = {"year": 2030}
        content["annotations"].sort(key=lambda entry: -entry["image_id"])  # the order within an image stays
        for entry in content["annotations"]:
            entry["segmentation"] = [[1, 2, 3, 4, 5, 6]]

    edit(folder, rewrite)
    for file in folder.rglob("*"):
        os.utime(file, (0, 0))
    folder.rename(tmp_path / "elsewhere")
    assert changes(before, of(tmp_path / "elsewhere")) == []


def test_it_comes_back_from_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    (before,) = of(folder)
    torch.save(before.as_dict(), tmp_path / "c.pt")
    back = Fingerprint.from_dict(torch.load(tmp_path / "c.pt", weights_only=True))
    assert changes([back], of(folder)) == []


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Fingerprint)])
@pytest.mark.parametrize("value", [None, 3, "text", "[[]]", torch.zeros(8, 8), torch.zeros(3, 8, dtype=torch.uint8)])
def test_something_else_is_refused(field: str, value: object, folder: Path) -> None:
    values = of(folder)[0].as_dict()
    if field == "split" and isinstance(value, str):
        return
    with pytest.raises(InputError, match=field):
        Fingerprint.from_dict({**values, field: value})
    del values[field]
    with pytest.raises(InputError, match=field):
        Fingerprint.from_dict(values)
