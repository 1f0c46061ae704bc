"""COCO-format folders: what is read, what is forgiven, and how the rest is reported."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tsdlab.data.coco import Category, CocoDataset, DataError, check, collate, read_image

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "ant", "supercategory": "insect"}]


def image_entry(id: int = 1, name: str = "a.png", width: int = 40, height: int = 30) -> dict:
    return {"id": id, "file_name": name, "width": width, "height": height, "license": 4}


def annotation(id: int = 1, image_id: int = 1, category_id: int = 7, bbox: object = (2, 3, 10, 8), **extra) -> dict:
    bbox = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"id": id, "image_id": image_id, "category_id": category_id, "bbox": bbox, **extra}


def write_split(root: Path, images=None, annotations=None, categories=None, split: str = "train") -> Path:
    images = [image_entry()] if images is None else images
    content = {
        "images": images,
        "annotations": [annotation()] if annotations is None else annotations,
        "categories": CATEGORIES if categories is None else categories,
        "info": {"anything": True},
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for entry in images:
        path = root / split / str(entry.get("file_name", "unnamed.png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (entry.get("width", 8), entry.get("height", 8)), (255, 128, 0)).save(path)
    return root


def test_image_and_target(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path), "train")
    image, target = dataset[0]
    assert len(dataset) == 1 and dataset.image_ids == [1] and dataset.num_dropped == 0
    assert image.dtype == torch.float32 and image.shape == (3, 30, 40)
    torch.testing.assert_close(image[:, 5, 5], torch.tensor([1.0, 128 / 255, 0.0]))
    assert target["boxes"].tolist() == [[2, 3, 12, 11]] and target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64
    assert target["area"].tolist() == [80] and target["iscrowd"].tolist() == [0]
    assert target["image_id"] == 1 and "salient_boxes" not in target


def test_sparse_category_ids_become_contiguous_labels_in_id_order(tmp_path: Path) -> None:
    objects = [annotation(1, category_id=7), annotation(2, category_id=3)]
    dataset = CocoDataset(write_split(tmp_path, annotations=objects), "train")
    assert dataset.categories == (Category(3, "ant"), Category(7, "cat"))
    assert dataset[0][1]["labels"].tolist() == [2, 1]


def test_objects_reach_their_own_image_whatever_the_order(tmp_path: Path) -> None:
    images = [image_entry(5, "b.png"), image_entry(2, "sub/a.png"), image_entry(9, "c.png")]
    objects = [annotation(id, image, bbox=(id, 0, 5, 5)) for id, image in ((1, 9), (2, 5), (3, 9))]
    dataset = CocoDataset(write_split(tmp_path, images, objects), "train")
    found = {target["image_id"]: target["boxes"][:, 0].tolist() for _, target in dataset}
    assert found == {5: [2], 2: [], 9: [1, 3]}


def test_image_without_objects(tmp_path: Path) -> None:
    _, target = CocoDataset(write_split(tmp_path, annotations=[]), "train")[0]
    assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32
    assert target["labels"].shape == (0,) and target["labels"].dtype == torch.int64


def test_crowds_and_rle_are_fine_and_crowds_are_no_targets(tmp_path: Path) -> None:
    rle = {"counts": [0, 5, 1195], "size": [30, 40]}
    objects = [
        annotation(1, iscrowd=1, segmentation=rle),
        annotation(2, iscrowd=0, area=17.5, keypoints=[1, 2]),
    ]
    root = write_split(tmp_path, annotations=objects)
    _, target = CocoDataset(root, "train")[0]
    assert len(target["boxes"]) == 1 and target["area"].tolist() == [17.5]
    assert check(root, progress=False)[0].crowds == 1


def test_boxes_are_clipped_to_the_image(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path, annotations=[annotation(bbox=(-5, 20, 100, 30))]), "train")
    assert dataset[0][1]["boxes"].tolist() == [[0, 20, 40, 30]]


def test_degenerate_boxes_are_dropped_and_counted_in_one_warning(tmp_path: Path) -> None:
    boxes = [(1, 1, 0, 5), (1, 1, 5, -2), (50, 1, 5, 5), (1, -9, 5, 9), (1, 1, float("nan"), 5), (1, 1, 5, 5)]
    objects = [annotation(10 + i, bbox=box) for i, box in enumerate(boxes)]
    root = write_split(tmp_path, annotations=objects)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = CocoDataset(root, "train")
    assert len(caught) == 1
    assert re.search(r"instances_train\.json: left out 5 box.*10, 11, 12, 13, 14", str(caught[0].message))
    assert dataset.num_dropped == 5 and dataset[0][1]["boxes"].tolist() == [[1, 1, 6, 6]]
    report = check(root, progress=False)[0]
    assert len(report.dropped) == 5
    assert f"left out as unusable: the boxes of annotations {report.dropped[0]}, " in str(report)


def test_salient_boxes_come_along_only_if_every_annotation_has_one(tmp_path: Path) -> None:
    objects = [annotation(1, salient_bbox=[30, 20, 15, 15]), annotation(2, salient_bbox=[1, 2, 3, 4])]
    _, target = CocoDataset(write_split(tmp_path / "all", annotations=objects), "train")[0]
    assert target["salient_boxes"].tolist() == [
        [30, 20, 45, 35],
        [1, 2, 4, 6],
    ]  # not clipped: it is no target
    _, target = CocoDataset(write_split(tmp_path / "one", annotations=[objects[0], annotation(2)]), "train")[0]
    assert "salient_boxes" not in target


def test_an_area_of_null_is_the_boxs(tmp_path: Path) -> None:
    objects = [annotation(1, area=None), annotation(2, area=7.5), annotation(3, iscrowd=None)]
    _, target = CocoDataset(write_split(tmp_path, annotations=objects), "train")[0]
    assert target["area"].tolist() == [80, 7.5, 80]


def test_targets_are_copies(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path), "train")
    dataset[0][1]["boxes"].zero_()
    assert dataset[0][1]["boxes"].tolist() == [[2, 3, 12, 11]]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_image_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((6, 9), 65535, np.uint16)).save(path)
    else:
        Image.new("RGB", (9, 6), "white").convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 6, 9) and image.min() > 0.98


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "x.png")
    torch.testing.assert_close(read_image(tmp_path / "x.png")[0, 0], torch.tensor([0, 128 / 255, 1]))


def test_exif_orientation_follows_the_announced_size(tmp_path: Path) -> None:
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:5] = 255  # top of the stored image
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    assert read_image(tmp_path / "x.png", (20, 10))[0, 5, -1] == 1
    assert read_image(tmp_path / "x.png", (10, 20))[0, 0, 5] == 1  # boxes were drawn on the stored pixels
    with pytest.raises(DataError, match=r"x\.png is 20×10, its entry says 11×20"):
        read_image(tmp_path / "x.png", (11, 20))


def test_a_missing_annotation_file_lists_the_splits_there_are(tmp_path: Path) -> None:
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
        ({"annotations": [annotation(8, bbox=[1, 2, "3", 4])]}, r"annotation 8: bbox must be four numbers"),
        ({"annotations": [annotation(8, salient_bbox=[1])]}, r"annotation 8: salient_bbox must be four"),
        (
            {"annotations": [{"id": 8, "image_id": 1}]},
            r'annotations\[0\] \(id 8\) needs "category_id".*missing',
        ),
        ({"annotations": ["x"]}, r"annotations\[0\] must be an object, got 'x'"),
        ({"images": [image_entry(4, "a.png"), image_entry(4, "b.png")]}, r"image id 4 is given twice"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 40}]}, r'images\[0\] \(id 1\) needs "height"'),
        ({"images": [{**image_entry(), "id": "1"}]}, r"needs \"id\", an integer; got '1'"),
        ({"categories": [{"id": 7}]}, r'categories\[0\] \(id 7\) needs "name", text; it is missing'),
        ({"categories": [*CATEGORIES, CATEGORIES[0]]}, r"category id 7 is given twice"),
        ({"categories": [*CATEGORIES, {"id": 9, "name": "cat"}]}, r"category name 'cat' is given twice; rename one"),
        ({"categories": [], "annotations": []}, r'"categories" is empty'),
    ],
)
def test_errors_name_the_culprit(tmp_path: Path, changes: dict, message: str) -> None:
    root = write_split(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as error:
        CocoDataset(root, "train")
    assert "instances_train.json" in str(error.value)
    assert any(re.search(message, problem) for problem in check(root, progress=False)[0].problems)


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


def test_many_problems_are_summarized(tmp_path: Path) -> None:
    root = write_split(tmp_path, annotations=[annotation(i, category_id=99) for i in range(30)])
    with pytest.raises(DataError, match=r"30 problems(.|\n)*and 25 more; `tsdlab data check"):
        CocoDataset(root, "train")


def test_a_truncated_image_is_named_when_read(tmp_path: Path) -> None:
    root = write_split(tmp_path)
    path = root / "train" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    dataset = CocoDataset(root, "train")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        dataset[0]


def test_check_collects_every_problem_of_every_split(tmp_path: Path) -> None:
    write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png"), image_entry(3, "c.png")])
    (tmp_path / "train" / "b.png").write_bytes(b"not an image")
    (tmp_path / "train" / "c.png").unlink()
    write_split(tmp_path, split="val", categories=[{"id": 7, "name": "dog"}], annotations=[annotation(1, 5)])
    train, val = check(tmp_path, progress=False)
    assert (train.split, train.images, train.objects, train.images_without_objects) == ("train", 3, 1, 2)
    assert train.class_counts == {"ant": 0, "cat": 1}
    assert ["b.png" in p or "c.png" in p for p in train.problems] == [True, True]
    assert len(val.problems) == 2 and "image_id 5" in val.problems[0]
    assert "differ from those of train: 3 'ant', 7 'cat', 7 'dog'" in val.problems[1]
    assert "train: 3 images, 1 objects" in str(train) and str(val).count("PROBLEM") == 2


def test_check_of_a_sound_folder_finds_nothing(tmp_path: Path) -> None:
    (report,) = check(write_split(tmp_path), progress=False)
    assert report.problems == [] and "no problems" in str(report)
    with pytest.raises(DataError, match="is this the folder"):
        check(tmp_path / "elsewhere")


def test_a_seeded_key_repeats_and_leaves_the_global_stream_alone(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path), "train", transforms=lambda image, target: (torch.rand(3), target))
    state = torch.get_rng_state()
    first, again, other = dataset[0, 5][0], dataset[0, 5][0], dataset[0, 6][0]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_collate_keeps_images_of_any_size(tmp_path: Path) -> None:
    root = write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png", width=12)])
    dataset = CocoDataset(root, "train")
    assert dataset.image_sizes == [(40, 30), (12, 30)]
    images, targets = collate([dataset[0], dataset[1]])
    assert [image.shape[-1] for image in images] == [40, 12] and [t["image_id"] for t in targets] == [1, 2]
