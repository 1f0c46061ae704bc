"""Multi-scale and flip testing, by hand and with the tiny real detector."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsdlab.config import HEADS, Config, RoIConfig
from tsdlab.models.augmented import AugmentedDetector
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector

Detections = dict[str, Tensor]


@pytest.fixture
def model(tiny_config: Config) -> Detector:
    """Random weights that see differences: their scores spread over the range, and every candidate counts."""
    torch.manual_seed(0)
    model = build_detector(replace(tiny_config, head="sibling", roi=replace(tiny_config.roi, score_thresh=0.2))).eval()
    nn.init.normal_(model.roi_heads.head.box_predictor.cls_score.weight, std=2.0)
    nn.init.normal_(model.roi_heads.head.box_predictor.bbox_pred.weight, std=0.2)
    return model


def make_images() -> list[Tensor]:
    return [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]


@torch.inference_mode()  # as in evaluation
def detect(model: nn.Module, images: list[Tensor]) -> list[Detections]:
    return model(images)


def assert_same(found: list[Detections], expected: list[Detections], **tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert len(b["boxes"]) > 2
        for name in ("labels", "scores", "boxes"):
            torch.testing.assert_close(a[name], b[name], **tolerance)


def test_without_sizes_and_flip_it_is_the_model(model: Detector) -> None:
    images = make_images()
    assert_same(detect(AugmentedDetector(model), images), detect(model, images), rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"nms": "hard"},
        {"nms": "linear"},
        {"nms": "gaussian"},
        {"nms_thresh": 0.98},  # almost everything is kept
        {"nms_thresh": 0.05, "detections_per_image": 3, "score_thresh": 0.0},  # the best candidates are near each other
    ],
)
def test_one_pass_at_the_models_own_size_is_the_model(model: Detector, changes: dict[str, Any]) -> None:
    """Candidates are not suppressed before they meet, and nothing is suppressed twice."""
    model.roi_heads.config = replace(model.roi_heads.config, **changes)
    images = make_images()
    before = model.roi_heads.config
    found = detect(AugmentedDetector(model, min_sizes=[64]), images)
    assert_same(found, detect(model, images), rtol=0, atol=1e-5)
    assert model.roi_heads.config == before


def test_a_mirrored_image_gives_the_mirrored_detections(model: Detector) -> None:
    """With both passes, an image and its mirror image are the same set of candidates."""
    images = make_images()
    augmented = AugmentedDetector(model, flip=True)
    expected = detect(augmented, images)
    mirrored = detect(augmented, [image.flip(-1) for image in images])
    for found in mirrored:
        x1, y1, x2, y2 = found["boxes"].unbind(1)
        found["boxes"] = torch.stack([64 - x2, y1, 64 - x1, y2], dim=1)
    assert_same(mirrored, expected, rtol=1e-4, atol=1e-3)
    assert any(len(a["scores"]) != len(b["scores"]) for a, b in zip(expected, detect(model, images)))


def test_sizes_replace_the_models_own(model: Detector) -> None:
    images = make_images()
    found = detect(AugmentedDetector(model, min_sizes=[96]), images)
    transform = model.transform
    assert (transform.min_size, transform.max_size) == ((64,), 64), "untouched"
    transform.min_size, transform.max_size = (96,), 96
    assert_same(found, detect(model, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_seen_several_times(head: str, tiny_config: Config) -> None:
    torch.manual_seed(0)
    config = replace(tiny_config, head=head, roi=replace(tiny_config.roi, score_thresh=0.0, detections_per_image=7))
    augmented = AugmentedDetector(build_detector(config).eval(), min_sizes=[48, 64], flip=True)
    for found, image in zip(detect(augmented, make_images()), make_images()):
        assert len(found["boxes"]) == len(found["labels"]) == len(found["scores"]) == 7
        assert (found["scores"].diff() <= 0).all()
        x1, y1, x2, y2 = found["boxes"].unbind(1)
        assert (x1 >= 0).all() and (y1 >= 0).all() and (x1 < x2).all() and (y1 < y2).all()
        assert (x2 <= image.shape[2] + 1e-4).all() and (y2 <= image.shape[1] + 1e-4).all()


class Scripted(nn.Module):
    """Finds what it was told to, one answer a pass, and notes how it was asked."""

    def __init__(self, answers: list[Detections], config: RoIConfig) -> None:
        super().__init__()
        self.answers = answers
        self.roi_heads = SimpleNamespace(config=config, head=None)
        self.transform = SimpleNamespace(fixed_size=None, _skip_resize=False)
        self.asked: list[tuple[int | None, float]] = []

    def detect(
        self, images: list[Tensor], postprocessing: RoIConfig | None = None, min_size: int | None = None
    ) -> list[Detections]:
        self.asked.append((min_size, float(images[0][0, 0, 0])))
        return [self.answers[len(self.asked) - 1]]


def detections(*rows: tuple[float, ...]) -> Detections:
    """Rows of x1, y1, x2, y2, label, score."""
    table = torch.tensor(rows).reshape(-1, 6)
    return {"boxes": table[:, :4], "labels": table[:, 4].long(), "scores": table[:, 5]}


def test_a_hand_example() -> None:
    """An image 100 wide, seen at two sizes, each mirrored."""
    image = torch.zeros(3, 80, 100)
    image[:, :, -1] = 1  # the right edge, which the mirrored image has at the left
    stub = Scripted(
        [
            detections((10, 10, 30, 30, 1, 0.6), (60, 20, 80, 40, 2, 0.5)),
            detections((70, 10, 90, 30, 1, 0.9)),  # (10, 10, 30, 30) when mirrored back: beats the 0.6
            detections((10, 10, 30, 30, 2, 0.7)),  # another class: not suppressed
            detections((0, 0, 10, 50, 1, 0.4)),  # at the right edge when mirrored back
        ],
        RoIConfig(detections_per_image=100),
    )
    (found,) = AugmentedDetector(stub, min_sizes=[50, 75], flip=True)([image])  # type: ignore[arg-type]
    assert stub.asked == [(50, 0.0), (50, 1.0), (75, 0.0), (75, 1.0)]
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.5, 0.4])
    assert found["labels"].tolist() == [1, 2, 2, 1]
    assert found["boxes"].tolist() == [[10, 10, 30, 30], [10, 10, 30, 30], [60, 20, 80, 40], [90, 0, 100, 50]]


def test_the_best_of_all_passes_remain() -> None:
    stub = Scripted(
        [detections((0, 0, 9, 9, 1, 0.5), (20, 0, 29, 9, 1, 0.3)), detections((0, 50, 9, 59, 1, 0.4))],
        RoIConfig(detections_per_image=2),
    )
    (found,) = AugmentedDetector(stub, flip=True)([torch.zeros(3, 80, 100)])  # type: ignore[arg-type]
    assert found["boxes"].tolist() == [[0, 0, 9, 9], [91, 50, 100, 59]]


def test_what_belongs_to_the_model_is_the_models(model: Detector) -> None:
    augmented = AugmentedDetector(model, flip=True)
    assert (augmented.config, augmented.categories, augmented.roi_heads) == (model.config, (), model.roi_heads)
    assert not augmented.training
    assert augmented.train().model.training and AugmentedDetector(model).training


def test_post_processing_can_be_replaced(model: Detector) -> None:
    images, augmented = make_images(), AugmentedDetector(model, min_sizes=[48, 64], flip=True)
    strict = replace(model.roi_heads.config, score_thresh=0.5, detections_per_image=3)
    expected = detect(AugmentedDetector(model, min_sizes=[48, 64], flip=True), images)
    for found, full in zip(augmented.detect(images, strict), expected):
        assert torch.equal(found["scores"], full["scores"][full["scores"] > 0.5][:3])


@pytest.mark.parametrize("size", [0, -5, 64.5])
def test_a_size_that_no_model_could_be_made_for_is_refused(size: int, model: Detector) -> None:
    with pytest.raises(ValueError, match=rf"min_sizes\[1\] must be a whole number from 32 to 65,536, got {size}"):
        AugmentedDetector(model, [32, size])


def test_sizes_need_a_model_that_resizes(model: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.transform, "fixed_size", (64, 64))
    with pytest.raises(ValueError, match="resizes images by their shorter side"):
        AugmentedDetector(model, min_sizes=[32])
    AugmentedDetector(model, flip=True)
