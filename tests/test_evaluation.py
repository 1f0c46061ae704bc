from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from tsdlab.config import Config
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import InputError
from tsdlab.evaluation import Metrics, collect_detections, evaluate, measure
from tsdlab.models.build import build_detector
from tsdlab.structures import Category


class Oracle(nn.Module):
    """Answers with the ground truth of the images it is shown, in any order of asking."""

    def __init__(self, dataset: CocoDataset, relabel: Callable[[Tensor], Tensor] = lambda labels: labels) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_classes=len(dataset.categories))
        self.categories: tuple[Category, ...] = ()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.truth = [dataset[i] for i in range(len(dataset))]
        self.relabel = relabel

    def detect(self, images: list[Tensor], postprocessing: None = None) -> list[dict[str, Tensor]]:
        assert not self.training and not torch.is_grad_enabled()
        return [self._answer(image) for image in images]

    def _answer(self, image: Tensor) -> dict[str, Tensor]:
        target = next(t for i, t in self.truth if torch.equal(i, image))
        labels = target["labels"]
        return {"boxes": target["boxes"], "labels": self.relabel(labels), "scores": torch.ones(len(labels))}


def noisy_detections(dataset: CocoDataset, seed: int = 0) -> list[dict[str, Any]]:
    """Jittered truth, wrong classes, duplicates and pure inventions."""
    rng = np.random.default_rng(seed)
    results = []
    for index, image_id in enumerate(dataset.image_ids):
        target = dataset[index][1]
        for box, label in zip(target["boxes"].tolist(), target["labels"].tolist()):
            for _ in range(int(rng.integers(0, 4))):
                x1, y1, x2, y2 = (v + float(d) for v, d in zip(box, rng.normal(0, 2.0, 4)))
                wrong = rng.random() < 0.2
                category = dataset.categories[(label - 1 + wrong) % len(dataset.categories)]
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": category.id,
                        "bbox": [x1, y1, max(x2 - x1, 1), max(y2 - y1, 1)],
                        "score": float(rng.random()),
                    }
                )
        for _ in range(int(rng.integers(0, 3))):
            x, y, w, h = (float(v) for v in rng.uniform(1, 30, 4))
            results.append({"image_id": image_id, "category_id": 3, "bbox": [x, y, w, h], "score": float(rng.random())})
    return results


def reference(dataset: CocoDataset, detections: list[dict[str, Any]]) -> list[float]:
    """pycocotools' twelve numbers in percent."""
    truth = COCO()
    truth.dataset = json.loads(dataset.annotation_file.read_text())
    for i, annotation in enumerate(truth.dataset["annotations"], 1):
        annotation["id"] = i
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes([dict(d) for d in detections]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [math.nan if v < 0 else 100 * v for v in evaluation.stats]


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_are_those_of_pycocotools(seed: int, tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    detections = noisy_detections(dataset, seed)
    ours = list(measure(dataset, detections).numbers().values())
    np.testing.assert_allclose(ours, reference(dataset, detections), rtol=0, atol=1e-9)
    assert 0 < ours[0] < 100


def test_the_truth_itself_scores_a_hundred(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    metrics = evaluate(Oracle(dataset), dataset, batch_size=3, progress=False)
    assert metrics.AP == metrics.AP50 == metrics.AP75 == metrics.AR_100 == pytest.approx(100)
    assert metrics.per_class.keys() == {"red", "blue"}
    assert all(v == pytest.approx(100) for values in metrics.per_class.values() for v in values.values())
    assert math.isnan(metrics.AP_large)  # there are none
    assert metrics.images == 8


@pytest.mark.parametrize(("objects", "ap"), [(30, 100), (100, 100), (120, 100 * 84 / 101)])
def test_as_in_coco_the_best_hundred_detections_of_an_image_count(objects: int, ap: float, tmp_path: Path) -> None:
    """All objects of one image are found. Of 120, recall ends at 100/120: above 84 of the 101 recalls of AP."""
    boxes = [[20.0 * (i % 12), 20.0 * (i // 12), 15.0, 15.0] for i in range(objects)]
    one = [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes]
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 240, "height": 200}],
        "annotations": [{"id": i, "area": 225, "iscrowd": 0, **truth} for i, truth in enumerate(one, 1)],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(content))
    (tmp_path / "val").mkdir()
    Image.new("RGB", (240, 200)).save(tmp_path / "val/1.png")
    found = [{**d, "score": 1 - i / 1000} for i, d in enumerate(one)]
    metrics = measure(CocoDataset(tmp_path, "val"), found)
    assert [metrics.AP, metrics.AP50, metrics.per_class["a"]["AP"]] == pytest.approx([ap] * 3)
    for most in (1, 10, 100):
        assert metrics.numbers()[f"AR_{most}"] == pytest.approx(100 * min(most, objects) / objects)


def test_the_size_of_an_object_is_its_area_in_the_file(tiny_data: Path, tmp_path: Path) -> None:
    """In COCO that is the area of its mask: here a large box around something small."""
    content = json.loads((tiny_data / "annotations/instances_val.json").read_text())
    content["annotations"] = [
        {"id": 1, "image_id": 11, "category_id": 3, "bbox": [2, 3, 60, 50], "area": 500, "iscrowd": 0},
        {"id": 2, "image_id": 12, "category_id": 3, "bbox": [4, 5, 40, 50], "area": 1100, "iscrowd": 0},
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(content))
    (tmp_path / "val").symlink_to(tiny_data / "val")
    found = [{"image_id": 11, "category_id": 3, "bbox": [2, 3, 60, 50], "score": 0.9}]
    metrics = measure(CocoDataset(tmp_path, "val"), found)
    assert (metrics.AR_small, metrics.AR_medium) == pytest.approx((100, 0)) and math.isnan(metrics.AR_large)


class Anywhere:
    """Images with one object each, at another random place whenever they are read; the pixels say where."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        if not 0 <= index < 4:
            raise IndexError
        box = torch.cat([torch.randint(0, 20, (2,)), torch.randint(40, 60, (2,))]).float()
        image = torch.zeros(3, 64, 64)
        image[0, 0, :4] = box / 64
        return image, {"boxes": box[None], "labels": [1]}


class ReadsPlace(Oracle):
    def _answer(self, image: Tensor) -> dict[str, Tensor]:
        return {"boxes": image[None, 0, 0, :4] * 64, "labels": torch.tensor([1]), "scores": torch.ones(1)}


@pytest.mark.parametrize("workers", [0, 1])
def test_random_transforms_are_applied_once(workers: int, tiny_data: Path) -> None:
    """The detections of an image are compared with the boxes that were read together with it."""
    model = ReadsPlace(CocoDataset(tiny_data, "val"))
    metrics = evaluate(model, Anywhere(), progress=False, workers=workers)
    assert metrics.AP == metrics.AR_100 == pytest.approx(100)


def test_per_class_numbers_average_to_the_whole(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    metrics = measure(dataset, noisy_detections(dataset))
    for name in ("AP", "AP50", "AP75"):
        mean = np.mean([values[name] for values in metrics.per_class.values()])
        assert getattr(metrics, name) == pytest.approx(mean)


def test_ap_is_the_mean_over_iou_thresholds(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    metrics = measure(dataset, noisy_detections(dataset))
    assert list(metrics.per_iou) == [f"{t:.2f}" for t in np.arange(0.5, 1, 0.05)]
    assert np.mean(list(metrics.per_iou.values())) == pytest.approx(metrics.AP)
    assert (metrics.per_iou["0.50"], metrics.per_iou["0.75"]) == pytest.approx((metrics.AP50, metrics.AP75))
    assert Metrics.from_dict(json.loads(json.dumps(metrics.as_dict()))).per_iou == metrics.per_iou


def test_unnamed_classes_of_another_number_are_refused(tiny_data: Path, tiny_config: Config) -> None:
    """By position they would silently mean other things: torchvision's COCO labels have gaps."""
    model = build_detector(replace(tiny_config, num_classes=90))
    with pytest.raises(ValueError, match=r"90 classes without names.* has 2; set model.categories"):
        evaluate(model, CocoDataset(tiny_data, "val"), progress=False)


def test_detections_are_in_the_files_category_ids(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "val")
    found = collect_detections(Oracle(dataset), dataset, progress=False)
    assert {d["category_id"] for d in found} == {3, 7}
    truth = json.loads(dataset.annotation_file.read_text())["annotations"]
    expected = sorted((a["image_id"], a["category_id"], a["bbox"]) for a in truth if not a["iscrowd"])
    assert sorted((d["image_id"], d["category_id"], d["bbox"]) for d in found) == expected


def test_labels_of_the_model_are_matched_by_name(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "val")  # 1 is red, 2 is blue
    model = Oracle(dataset, relabel=lambda labels: 3 - labels)
    model.categories = (Category(1, "blue"), Category(2, "red"), Category(3, "unheard of"))
    assert pytest.approx(100) == evaluate(model, dataset, progress=False).AP
    model.categories = (Category(1, "blue"),)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="does not know the categories red"):
        evaluate(model, dataset, progress=False)
    model.categories = ()  # type: ignore[assignment]
    model.relabel = lambda labels: labels
    assert pytest.approx(100) == evaluate(model, dataset, progress=False).AP  # by position


def test_nothing_found_is_zero(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "val")
    metrics = measure(dataset, [])
    assert (metrics.AP, metrics.AR_100, metrics.detections) == (0, 0, 0)


def test_a_part_of_the_dataset(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "val")
    model = Oracle(dataset)
    whole = collect_detections(model, dataset, progress=False)
    parts = [collect_detections(model, dataset, progress=False, indices=range(rank, 5, 2)) for rank in (0, 1)]
    assert sorted(map(str, parts[0] + parts[1])) == sorted(map(str, whole))


def test_batch_size_changes_nothing_and_modes_and_generators_are_left_alone(
    tiny_config: Config, tiny_data: Path
) -> None:
    torch.manual_seed(0)
    model = build_detector(tiny_config).train()
    dataset = CocoDataset(tiny_data, "val")
    state = torch.get_rng_state()
    one = evaluate(model, dataset, batch_size=1, score_thresh=0.0, progress=False)
    many = evaluate(model, dataset, batch_size=4, score_thresh=0.0, progress=False, workers=1)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert one.detections == many.detections > 0
    assert pytest.approx(many.AR_100, abs=1.0) == one.AR_100


def test_batch_size_changes_nothing_where_sizes_differ(tiny_config: Config, tmp_path: Path) -> None:
    """An image padded to its neighbour's size would be seen differently: so none is."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (64, 32), (64, 64), (32, 64), (64, 32), (64, 64)]  # padding goes up to multiples of 32
    (tmp_path / "val").mkdir()
    (tmp_path / "annotations").mkdir()
    for i, (width, height) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / f"val/{i}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in enumerate(sizes)],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(content))
    dataset = CocoDataset(tmp_path, "val")
    torch.manual_seed(0)
    model = build_detector(tiny_config)
    for module in model.modules():  # with its initial statistics padding would stay zero, and go unnoticed
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)

    def found(batch_size: int) -> list[dict[str, Any]]:
        return collect_detections(model, dataset, batch_size, score_thresh=0.0, progress=False)

    one, four = found(1), found(4)
    assert {d["image_id"] for d in one} == set(range(6))
    assert [(d["image_id"], d["category_id"]) for d in four] == [(d["image_id"], d["category_id"]) for d in one]
    for key in ("bbox", "score"):
        np.testing.assert_allclose([d[key] for d in four], [d[key] for d in one], rtol=1e-3, atol=1e-3)


def test_the_score_threshold_is_that_of_one_evaluation(tiny_config: Config, tiny_data: Path) -> None:
    torch.manual_seed(0)
    model = build_detector(tiny_config)
    dataset = CocoDataset(tiny_data, "val")
    before = model.roi_heads.config.score_thresh
    assert evaluate(model, dataset, score_thresh=0.9999, progress=False).detections == 0
    assert evaluate(model, dataset, score_thresh=0.0, progress=False).detections > 0
    assert model.roi_heads.config.score_thresh == before


@pytest.mark.parametrize("null", [False, True])
def test_annotations_without_area_or_crowd_flag_are_fine(null: bool, tiny_data: Path, tmp_path: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    detections = noisy_detections(dataset)
    content = json.loads(dataset.annotation_file.read_text())
    for annotation in content["annotations"]:
        for key in ("area",) if annotation["iscrowd"] else ("area", "iscrowd"):
            if null:
                annotation[key] = None
            else:
                del annotation[key]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
    (tmp_path / "train").symlink_to(tiny_data / "train")
    bare = CocoDataset(tmp_path, "train")
    assert str(measure(bare, detections)) == str(measure(dataset, detections))


def test_metrics_survive_json_and_print_as_a_table(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    metrics = measure(dataset, noisy_detections(dataset))
    values = json.loads(json.dumps(metrics.as_dict(), allow_nan=False))
    assert values["AP_large"] is None
    assert str(Metrics.from_dict(values)) == str(metrics)
    assert f"{metrics.AP:.1f}" in str(metrics) and "–" in str(metrics) and "blue" in str(metrics)


def test_arguments_that_cannot_be_are_named(tiny_config: Config, tiny_data: Path) -> None:
    model, dataset = build_detector(tiny_config), CocoDataset(tiny_data, "val")
    for wrong in (0, -1, 1.5):  # a negative batch size would be an evaluation without images
        with pytest.raises(InputError, match=f"batch_size must be a whole number from 1 to 65,536, got {wrong}"):
            evaluate(model, dataset, batch_size=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="workers must be a whole number from 0 to 256, got -1"):
        evaluate(model, dataset, workers=-1)
    with pytest.raises(InputError, match="dataset must be a CocoDataset, got PosixPath"):
        evaluate(model, tiny_data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="model must be a detector of tsdlab, got str"):
        evaluate("badges-tsd", dataset)  # type: ignore[arg-type]


IDS = {
    "of many digits": lambda id: 12345678901234567 + id,
    "beyond 64 bits": lambda id: 2**64 + id,
    "texts": lambda id: f"№{id}",
    "negative": lambda id: -id,
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_size_and_type_change_no_number(kind: str, tiny_data: Path, tmp_path: Path) -> None:
    plain, rename = CocoDataset(tiny_data, "train"), IDS[kind]
    content = json.loads(plain.annotation_file.read_text())
    for entry in content["images"]:
        entry["id"] = rename(entry["id"])
    for entry in content["categories"]:
        entry["id"] = rename(entry["id"])
    for number, entry in enumerate(content["annotations"]):
        entry["id"] = rename(number)
        entry["image_id"], entry["category_id"] = rename(entry["image_id"]), rename(entry["category_id"])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
    (tmp_path / "train").symlink_to(tiny_data / "train")
    renamed = CocoDataset(tmp_path, "train")
    assert renamed.image_ids == [rename(id) for id in plain.image_ids]
    assert [target["image_id"] for _, target in renamed] == renamed.image_ids
    detections = [{**d, "score": i / 1000} for i, d in enumerate(noisy_detections(plain))]  # no two are equally sure
    same = [{**d, "image_id": rename(d["image_id"]), "category_id": rename(d["category_id"])} for d in detections]
    assert measure(renamed, same).numbers() == pytest.approx(measure(plain, detections).numbers(), nan_ok=True)
    found = collect_detections(Oracle(renamed), renamed, progress=False)
    assert {d["image_id"] for d in found} <= set(renamed.image_ids)
    assert pytest.approx(100) == measure(renamed, found).AP


def test_ids_of_results_are_matched_or_named(tiny_data: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    detections = noisy_detections(dataset)
    as_text = [{**d, "image_id": str(d["image_id"]), "category_id": str(d["category_id"])} for d in detections]
    assert str(measure(dataset, as_text)) == str(measure(dataset, detections))
    with pytest.raises(InputError, match=r"a detection has the image_id 'x', which is not an id of .*train\.json"):
        measure(dataset, [{**detections[0], "image_id": "x"}])


def test_a_cap_of_ap_is_said_where_ap_is_printed(tiny_data: Path, tmp_path: Path) -> None:
    dataset = CocoDataset(tiny_data, "train")
    metrics = measure(dataset, noisy_detections(dataset))
    assert metrics.crowded_images == 0 and "capped" not in f"{metrics}{metrics.line()}"
    capped = measure(dataset, noisy_detections(dataset), detections_per_image=2)
    assert capped.numbers() == pytest.approx(metrics.numbers(), nan_ok=True)
    assert capped.crowded_images == 6
    for text in (str(capped), capped.line()):
        assert "AP is capped: 6 of 8 images have more than 2 objects" in text
    assert str(Metrics.from_dict(json.loads(json.dumps(capped.as_dict())))) == str(capped)
