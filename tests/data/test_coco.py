"""Images and targets of COCO-format folders."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from coco_folders import annotation, image_entry, write_split

from tsdlab.data.check import check_folder
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import DataError
from tsdlab.structures import Category


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


def test_crowds_and_rle_are_accepted_and_crowds_are_not_targets(tmp_path: Path) -> None:
    rle = {"counts": [0, 5, 1195], "size": [30, 40]}
    objects = [
        annotation(1, iscrowd=1, segmentation=rle),
        annotation(2, iscrowd=0, area=17.5, keypoints=[1, 2]),
    ]
    root = write_split(tmp_path, annotations=objects)
    _, target = CocoDataset(root, "train")[0]
    assert len(target["boxes"]) == 1 and target["area"].tolist() == [17.5]
    assert check_folder(root, progress=False)[0].crowds == 1


def test_boxes_are_clipped_to_the_image(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path, annotations=[annotation(bbox=(-5, 20, 100, 30))]), "train")
    assert dataset[0][1]["boxes"].tolist() == [[0, 20, 40, 30]]


def test_degenerate_boxes_are_dropped_and_counted_in_one_warning(tmp_path: Path) -> None:
    boxes = [(1, 1, 0, 5), (1, 1, 5, -2), (50, 1, 5, 5), (1, -9, 5, 9), (1, 1, 0.9, 5), (1, 1, 5, 5)]
    objects = [annotation(10 + i, bbox=box) for i, box in enumerate(boxes)]
    root = write_split(tmp_path, annotations=objects)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = CocoDataset(root, "train")
    assert len(caught) == 1
    assert re.search(r"instances_train\.json: left out 5 box.*10, 11, 12, 13, 14", str(caught[0].message))
    assert dataset.num_dropped == 5 and dataset[0][1]["boxes"].tolist() == [[1, 1, 6, 6]]
    report = check_folder(root, progress=False)[0]
    assert len(report.dropped) == 5
    assert f"left out as unusable: the boxes of annotations {report.dropped[0]}, " in str(report)


def test_salient_boxes_are_given_only_if_every_annotation_has_one(tmp_path: Path) -> None:
    objects = [annotation(1, salient_bbox=[30, 20, 15, 15]), annotation(2, salient_bbox=[1, 2, 3, 4])]
    _, target = CocoDataset(write_split(tmp_path / "all", annotations=objects), "train")[0]
    assert target["salient_boxes"].tolist() == [
        [30, 20, 45, 35],
        [1, 2, 4, 6],
    ]  # not clipped: it is no target
    _, target = CocoDataset(write_split(tmp_path / "one", annotations=[objects[0], annotation(2)]), "train")[0]
    assert "salient_boxes" not in target


def test_a_null_area_becomes_the_area_of_the_box(tmp_path: Path) -> None:
    objects = [annotation(1, area=None), annotation(2, area=7.5), annotation(3, iscrowd=None)]
    _, target = CocoDataset(write_split(tmp_path, annotations=objects), "train")[0]
    assert target["area"].tolist() == [80, 7.5, 80]


def test_targets_are_copies(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path), "train")
    dataset[0][1]["boxes"].zero_()
    assert dataset[0][1]["boxes"].tolist() == [[2, 3, 12, 11]]


def test_a_truncated_image_is_named_when_read(tmp_path: Path) -> None:
    root = write_split(tmp_path)
    path = root / "train" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    dataset = CocoDataset(root, "train")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        dataset[0]


def test_a_seeded_key_repeats_and_leaves_the_global_stream_alone(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path), "train", transforms=lambda image, target: (torch.rand(3), target))
    state = torch.get_rng_state()
    first, again, other = dataset[0, 5][0], dataset[0, 5][0], dataset[0, 6][0]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)
