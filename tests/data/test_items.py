"""The data sets of the ecosystem as they come: the same images and objects, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ecosystem import KINDS, dataset_of, knows, write_folder
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, VOCDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from tsdlab.data.coco import CocoDataset
from tsdlab.data.items import Items
from tsdlab.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_data_set_gives_the_same_images_and_objects(folder: Path, kind: str) -> None:
    items, own = Items(dataset_of(kind, folder)), CocoDataset(folder, "train")
    assert len(items) == 3 and not items.is_one_image
    for i in range(3):
        (image, target), (expected, truth) = items[i], own[i]
        torch.testing.assert_close(image, expected)
        for found in (target, items.target(i)):
            torch.testing.assert_close(found["boxes"], truth["boxes"])
            assert torch.equal(found["labels"], truth["labels"])
    assert items.names == (("cat", "dog") if kind.startswith(("C", "sub", "con")) else ())
    has_ids = kind.startswith(("C", "sub")) or kind == "concatenation"
    assert items.image_ids == ([1, 2, 3] if has_ids else [0, 1, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_images_have_the_names_of_their_files_where_they_are_known(folder: Path, kind: str) -> None:
    items, own = Items(dataset_of(kind, folder)), CocoDataset(folder, "train")
    files = [image.path.name for image in own.content.images]
    knows_files = kind.startswith(("C", "sub", "con"))
    assert [items.file_name(i) for i in range(3)] == (files if knows_files else [None] * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_for_evaluation(folder: Path, kind: str) -> None:
    items = Items(dataset_of(kind, folder)).named_by(knows(2))
    found = items.annotations
    rows = list(
        zip(found.images.tolist(), found.labels.tolist(), found.boxes.tolist(), found.area.tolist(), found.crowd)
    )
    expected = [(0, 1, [1, 2, 10, 12], 120, 0), (0, 2, [5, 5, 20, 20], 400, 0), (2, 2, [0, 0, 9, 9], 81, 0)]
    has_crowds = not kind.endswith("wrapped") and bool(items.names[0] == "cat")
    assert rows == expected + [(2, 1, [0, 0, 30, 30], 900, 1)] * has_crowds
    assert [category.name for category in items.categories] == (
        ["cat", "dog"] if items.names[0] == "cat" else ["1", "2"]
    )


def mirrored(image: Image.Image, annotations: list[dict]) -> tuple[Image.Image, list[dict]]:
    moved = [{**a, "bbox": [image.width - a["bbox"][0] - a["bbox"][2], *a["bbox"][1:]]} for a in annotations]
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), moved


def only_first(annotations: list[dict]) -> list[dict]:
    return annotations[:1]


def mirrored_pair(image: torch.Tensor, target: dict) -> tuple[torch.Tensor, dict]:
    image, boxes = v2.RandomHorizontalFlip(1)(tv_tensors.Image(image), boxes_of(target["boxes"], image.shape[1:]))
    return image, {**target, "boxes": boxes.as_subclass(torch.Tensor)}


def boxes_of(boxes: torch.Tensor, size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(size))


def transformed(kind: str, folder: Path) -> object:
    if kind == "CocoDataset":
        return CocoDataset(folder, "train", mirrored_pair)
    pytest.importorskip("pycocotools")
    files = folder / "train", folder / "annotations" / "instances_train.json"
    return {
        "transforms": lambda: CocoDetection(*files, transforms=mirrored),
        "target_transform": lambda: CocoDetection(*files, target_transform=only_first),
        "wrapped": lambda: wrap_dataset_for_transforms_v2(CocoDetection(*files, transforms=v2.RandomHorizontalFlip(1))),
    }[kind]()


@pytest.mark.parametrize("kind", ["CocoDataset", "transforms", "target_transform", "wrapped"])
def test_targets_are_those_of_the_transformed_items(folder: Path, kind: str) -> None:
    items = Items(transformed(kind, folder))
    expected = [[41 - 11, 2, 41 - 1, 14], [41 - 25, 5, 41 - 5, 25]] if kind != "target_transform" else [[1, 2, 11, 14]]
    assert items[0][1]["boxes"].tolist() == items.target(0)["boxes"].tolist() == expected
    found = items.annotations
    assert [[x, y, x + w, y + h] for x, y, w, h in found.boxes[found.images == 0].tolist()] == expected


def test_annotations_are_those_that_were_read_with_the_images(folder: Path) -> None:
    """Random transforms would give others the next time."""
    read = {0: {"boxes": torch.tensor([[1.0, 2, 3, 4]]), "labels": torch.tensor([2])}}
    items = Items(transformed("CocoDataset", folder)).with_targets(read)
    assert items.annotations.boxes[items.annotations.images == 0].tolist() == [[1, 2, 2, 2]]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_transform_that_resizes_the_image_alone_is_refused(folder: Path, wrapped: bool) -> None:
    pytest.importorskip("pycocotools")
    files = folder / "train", folder / "annotations" / "instances_train.json"
    dataset = CocoDetection(*files, transform=v2.Resize(64))
    with pytest.raises(InputError, match=r"item 0 of dataset: image is 87×64 pixels, but its boxes are for 41×30"):
        Items(wrap_dataset_for_transforms_v2(dataset) if wrapped else dataset)[0]


def test_images_alone(folder: Path) -> None:
    paths = [folder / "train" / f"{i}.png" for i in (1, 2)]
    for images in (paths, [str(path) for path in paths], [Image.open(path) for path in paths]):
        items = Items(images)
        assert len(items) == 2 and items[1][0][0].unique().tolist() == pytest.approx([40 / 255])
        assert items[1][1]["boxes"].shape == (0, 4)
    for one in (paths[0], str(paths[0]), Image.open(paths[0]), items[0][0], (paths[0], {}), items[0]):
        assert len(Items(one)) == 1 and Items(one).is_one_image


def test_the_same_image_twice_has_two_ids(folder: Path) -> None:
    own = CocoDataset(folder, "train")
    for twice in (Subset(own, [0, 0, 2]), ConcatDataset([own, CocoDataset(folder, "train")])):
        items = Items(twice)
        assert items.image_ids == list(range(len(items))) and items.names == ("cat", "dog")
        assert items.annotations.images.max() == len(items) - 1


IMAGE = torch.zeros(3, 8, 8)


class Endless(Dataset):
    def __getitem__(self, index: int) -> tuple:
        return IMAGE, {}


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (3, "dataset must be a data set .* got int"),
        (None, "got NoneType"),
        ({"image": IMAGE}, "got dict"),
        (Endless(), "got Endless"),
        ([], "dataset has no image"),
        ([(IMAGE, {"boxes": 1, "labels": [1]})], r'item 0 of dataset: target\["boxes"\] must be .*, got 1'),
        ([(IMAGE, {"boxes": [[1, 2, 3, 4]]})], 'has "boxes" but no "labels"'),
        ([(IMAGE, {"boxes": [[1, 2, 3, 4]], "labels": [1, 2]})], '1 boxes, but 2 entries in "labels"'),
        ([(IMAGE, {"boxes": [[1, 2, 3, 4]], "labels": ["cat"]})], "must be whole numbers, got"),
        ([(IMAGE, {"boxes": [[1, 2, 3, 4]], "labels": [1.5]})], "must be whole numbers"),
        ([(IMAGE, {"boxes": [[1, 2, 3, 4]], "labels": [0]})], r"labels must be 1 or more \(0 is background\), got 0"),
        ([(IMAGE, {"boxes": [[1, 2, 3, float("nan")]], "labels": [1]})], "must be finite"),
        ([(IMAGE, {"boxes": [[5, 2, 3, 4]], "labels": [1]})], r"x1 ≤ x2 and y1 ≤ y2, got \[5.0, 2.0, 3.0, 4.0\]"),
        ([(torch.zeros(3, 32, 32), {"boxes": [[0, 0.1, 0.5, 1]], "labels": [1]})], "boxes must be in pixels, got"),
        ([(IMAGE, {"boxes": [[1, 2, 3, 4]], "labels": [True]})], "must be whole numbers"),
        ([(IMAGE, {"boxes": [[1, 2, 3]], "labels": [1]})], r"must be \[K, 4\] xyxy, got \(1, 3\)"),
        ([(IMAGE, [{"bbox": [1, 2, 3, 4], "category_id": 1}])], 'must be a dict with "boxes" and "labels", got list'),
        ([(IMAGE, {"annotation": {}})], "it has annotation. .*wrap_dataset_for_transforms_v2"),
        ([{"image": IMAGE, "objects": {"bbox": []}}], "it has objects"),
        ([(IMAGE * 300 + 300, {})], "item 0 of dataset: image must hold"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_data_set_is_refused_in_one_line(dataset: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        Items(dataset)[0]
    assert str(raised.value).isprintable() and len(str(raised.value)) < 400


def test_a_label_beyond_the_classes_is_refused() -> None:
    items = Items([(IMAGE, {"boxes": [[1, 2, 3, 4]], "labels": [3]})])
    with pytest.raises(InputError, match=r"labels must be 1…2 .* got 3"):
        items.for_model(knows(2))[0]


def test_data_sets_of_other_categories_are_not_joined(folder: Path) -> None:
    file = folder / "annotations" / "instances_train.json"
    one = CocoDataset(folder, "train")
    file.write_text(file.read_text().replace('"cat"', '"cow"'))
    with pytest.raises(InputError, match="different categories"):
        Items(ConcatDataset([one, CocoDataset(folder, "train")]))


def test_voc_as_it_comes_is_told_how_to_be_wrapped(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "JPEGImages" / "a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>"
    (root / "Annotations" / "a.xml").write_text(f"<annotation><object><name>cat</name>{box}</object></annotation>")
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    dataset = VOCDetection(tmp_path, image_set="train")
    with pytest.raises(InputError, match="wrap_dataset_for_transforms_v2"):
        Items(dataset)[0]
    target = Items(wrap_dataset_for_transforms_v2(dataset))[0][1]
    assert target["boxes"].tolist() == [[1, 2, 5, 6]] and target["labels"].tolist() == [8]
