"""Which anchors cover the boxes of a data set: measured as torchvision lays anchors out, and suggested if others do
better."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_folders import annotation, image_entry, write_split
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert, box_iou

from tsdlab.cli.parsing import parse
from tsdlab.config import Config, ImageConfig
from tsdlab.data.anchors import AnchorFit, best_iou, fit_anchors
from tsdlab.data.check import anchor_fit, check_folder
from tsdlab.data.coco import CocoDataset
from tsdlab.presets import PRESETS

PHOTOS = PRESETS["photos"]
STRIDES = (4, 8, 16, 32, 64)


def random_boxes(seed: int, count: int, width: int, height: int, least: float = 6, most: float = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(least), np.log(most), (count, 2)))
    sides = np.minimum(sides, (width - 1, height - 1))
    return np.concatenate([rng.uniform(0, 1, (count, 2)) * ((width, height) - sides), sides], 1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 5).map(lambda n: 64 * n),
    height=st.integers(1, 5).map(lambda n: 64 * n),
    sizes=st.lists(st.integers(8, 256), min_size=5, max_size=5),
    ratios=st.lists(st.sampled_from([0.25, 0.5, 0.8, 1.0, 2.0, 3.0]), min_size=1, max_size=3),
)
def test_coverage_is_that_of_torchvisions_anchors(
    seed: int, width: int, height: int, sizes: list[int], ratios: list[float]
) -> None:
    boxes = random_boxes(seed, 7, width, height)
    anchors = AnchorGenerator(tuple((float(s),) for s in sizes), (tuple(ratios),) * 5)
    # The generator rounds half a side to whole pixels; without that the comparison is exact.
    anchors.cell_anchors = [
        torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in ((s * r**-0.5, s * r**0.5) for r in ratios)])
        for s in sizes
    ]
    image = torch.zeros(1, 3, height, width)
    maps = [torch.zeros(1, 1, height // stride, width // stride) for stride in STRIDES]
    anchors.set_cell_anchors = lambda dtype, device: None
    (all_of_them,) = anchors(ImageList(image, [(height, width)]), maps)
    theirs = box_iou(box_convert(torch.tensor(boxes).float(), "xywh", "xyxy"), all_of_them).amax(1)
    mine = best_iou(boxes, np.full((7, 2), (width, height), float), sizes, ratios, STRIDES)
    np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("image", "box", "side"),
    [
        ((400, 400), (50, 50), 25),  # halved
        ((400, 800), (50, 50), 25),
        ((100, 500), (20, 5), 8),  # the longer side limits: 400 / 500
        ((100, 100), (10, 40), 40),  # enlarged
    ],
)
def test_boxes_are_measured_after_resizing(image: tuple[int, int], box: tuple[int, int], side: float) -> None:
    config = replace(PHOTOS, image=ImageConfig(min_size=200, max_size=400))
    fit = fit_anchors(np.array([[3.0, 4.0, *box]]), np.array([image]), config)
    assert fit is not None
    assert fit.sides == dict.fromkeys(("least", "5%", "median", "95%", "largest"), pytest.approx(side))
    assert fit.ratios["median"] == pytest.approx(box[1] / box[0])
    assert f"image.min_size {200} and image.max_size {400}" in str(fit)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    least=st.floats(4, 100),
    factor=st.floats(1, 10),
    preset=st.sampled_from(["photos", "badges-tiny", "bccd"]),
)
def test_a_suggestion_covers_more_and_is_allowed(
    seed: int, count: int, least: float, factor: float, preset: str
) -> None:
    config = PRESETS[preset]
    fit = fit_anchors(
        random_boxes(seed, count, 500, 400, least, least * factor), np.full((count, 2), (500, 400)), config
    )
    assert fit is not None
    assert fit.own.sizes == tuple(map(float, config.rpn.anchor_sizes)) and fit.own.ratios == config.rpn.aspect_ratios
    if fit.suggested is None:
        assert "no other anchors were found" in str(fit)
        return
    assert fit.suggested.mean_iou > fit.own.mean_iou + 0.02
    assert fit.suggested.above_half >= fit.own.above_half - 0.0101  # not more than 0.5% less at each of two choices
    replace(config, rpn=replace(config.rpn, anchor_sizes=fit.suggested.sizes, aspect_ratios=fit.suggested.ratios))


def fit_of(sides: list[float], ratio: float = 1.0, config: Config = PHOTOS) -> AnchorFit:
    """Of boxes in the middle of images that are not resized."""
    image = np.array([config.image.min_size, config.image.min_size], float)
    shapes = np.array([[side * ratio**-0.5, side * ratio**0.5] for side in sides])
    boxes = np.concatenate([(image - shapes) / 2, shapes], 1)
    fit = fit_anchors(boxes, np.tile(image, (len(sides), 1)), config)
    assert fit is not None
    return fit


def test_the_levels_are_those_of_the_backbone_and_the_pooled_one() -> None:
    boxes, images = random_boxes(3, 40, 640, 384, 150, 380), np.full((40, 2), (640, 384))
    fit = fit_anchors(boxes, images, PHOTOS)
    sizes, ratios = PHOTOS.rpn.anchor_sizes, PHOTOS.rpn.aspect_ratios
    assert fit is not None
    assert fit.own.mean_iou == pytest.approx(best_iou(boxes, images, sizes, ratios, STRIDES).mean(), abs=1e-9)


@pytest.mark.parametrize("preset", ["photos", "badges-tiny"])
def test_a_suggestion_can_be_pasted(preset: str) -> None:
    config = replace(PRESETS[preset], image=replace(PRESETS[preset].image, min_size=200, max_size=300))
    fit = fit_of([40.0, 50.0, 60.0, 90.0], ratio=3.0, config=config)
    options = re.search(r"  better (.*)", str(fit))
    assert fit.suggested is not None and options is not None
    asked = parse(["train", preset, "--data", "d", "--out", "o", *shlex.split(options[1])]).config
    assert asked.rpn.anchor_sizes == fit.suggested.sizes and asked.rpn.aspect_ratios == fit.suggested.ratios
    assert asked.image == config.image


def test_anchors_that_fit_stay() -> None:
    assert fit_of([32.0, 64.0, 96.0, 160.0, 256.0] * 20).suggested is None


def test_a_rare_size_is_not_given_up() -> None:
    fit = fit_of([128.0] * 94 + [16.0] * 6)
    assert fit.own.above_half < 1 and fit.suggested is not None
    assert fit.suggested.above_half == 1 and min(fit.suggested.sizes) <= 24


def test_long_boxes_get_other_ratios() -> None:
    fit = fit_of([60.0, 90.0, 120.0] * 20, ratio=6.0)
    assert fit.suggested is not None and fit.suggested.ratios == (6.0,)
    assert fit.own.above_half < 0.5 < 0.9 < fit.suggested.above_half


def test_the_check_measures_the_training_split_without_crowds(tmp_path: Path) -> None:
    entries = [image_entry(1, "a.png")]
    width, height = entries[0]["width"], entries[0]["height"]
    crowd = {**annotation(1, 1, bbox=[0, 0, width, height]), "iscrowd": 1, "id": 2}
    boxes = [annotation(1, 1, bbox=[0, 0, width / 2, height / 2]), crowd]
    for split in ("train", "val"):
        write_split(tmp_path, entries, split=split, annotations=boxes)
    train, val = check_folder(tmp_path, progress=False, config=PHOTOS)
    assert val.anchors is None and train.anchors is not None and "anchors --rpn.anchor-sizes 32" in str(train)
    scale = min(384 / min(width, height), 640 / max(width, height))
    assert train.anchors.sides["largest"] == pytest.approx(scale * (width * height) ** 0.5 / 2)
    assert all(report.anchors is None for report in check_folder(tmp_path, progress=False))
    write_split(tmp_path, entries, split="train", annotations=[annotation(1, 5)])
    assert check_folder(tmp_path, progress=False, config=PHOTOS)[0].anchors is None  # it has problems


def test_boxes_without_an_area_tell_nothing() -> None:
    assert fit_anchors(np.array([[0.0, 0, 0, 5]]), np.array([[10, 10]]), PHOTOS) is None
    assert fit_anchors(np.zeros((0, 4)), np.zeros((0, 2)), PHOTOS) is None


@pytest.mark.parametrize("side", [90.0, 250.0])
def test_a_config_takes_the_anchors_that_are_suggested(side: float) -> None:
    fit = fit_of([side, 1.2 * side])
    better = fit.improve(PHOTOS)
    assert fit.suggested is not None and better.rpn.anchor_sizes == fit.suggested.sizes
    assert better.rpn.aspect_ratios == fit.suggested.ratios
    assert replace(better, rpn=PHOTOS.rpn) == PHOTOS and better.rpn.fg_iou == PHOTOS.rpn.fg_iou
    assert fit.boxes.tolist() == [pytest.approx([s, s]) for s in (side, 1.2 * side)]
    again = fit_of([side, 1.2 * side], config=better)
    assert again.suggested is None and again.improve(better) == better


def test_the_fit_of_a_split_is_the_one_that_is_reported(tiny_data: Path, tiny_config: Config) -> None:
    fit = anchor_fit(CocoDataset(tiny_data, "train"), tiny_config)
    (reported,) = [of for of in check_folder(tiny_data, config=tiny_config) if of.split == "train"]
    assert fit is not None and fit == reported.anchors
    assert fit.boxes.shape == (reported.objects, 2)
