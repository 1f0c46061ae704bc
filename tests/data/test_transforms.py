"""Augmentation changes boxes and pixels in the same way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tsdlab.data.transforms import train_transforms

GREY = (0.4, 0.4, 0.4)
STILL = (1.0, 1.0)  # no zoom


def sample(box: list[int], height: int = 40, width: int = 60) -> tuple[Tensor, dict]:
    """A black image with a white rectangle, which is the object."""
    image = torch.zeros(3, height, width)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = 1
    return image, {
        "boxes": torch.tensor([box], dtype=torch.float32),
        "labels": torch.tensor([3]),
        "image_id": 12,
        "iscrowd": torch.tensor([0]),
        "area": torch.tensor([1.0]),
        "salient_boxes": torch.tensor([box], dtype=torch.float32),
    }


def bright_box(image: Tensor) -> Tensor:
    ys, xs = torch.where(image.amin(0) > 0.75)
    return torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], dtype=torch.float32)


def test_flip_mirrors_image_and_boxes() -> None:
    image, target = train_transforms(1.0, STILL, GREY)(*sample([5, 10, 15, 30]))
    assert target["boxes"].tolist() == [[45, 10, 55, 30]]
    assert torch.equal(bright_box(image), target["boxes"][0])
    assert set(target) == {"boxes", "labels", "image_id"} and target["image_id"] == 12
    assert type(image) is Tensor and type(target["boxes"]) is Tensor


def test_no_augmentation_changes_nothing() -> None:
    image, target = train_transforms(0.0, STILL, GREY)(*sample([5, 10, 15, 30]))
    assert torch.equal(image, sample([5, 10, 15, 30])[0]) and target["boxes"].tolist() == [[5, 10, 15, 30]]


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
def test_zoom_keeps_the_size_and_moves_the_box_with_the_pixels(factor: float) -> None:
    transform = train_transforms(0.0, (factor, factor), GREY)
    seen = 0
    for seed in range(12):
        torch.manual_seed(seed)
        image, target = transform(*sample([22, 12, 38, 28]))
        assert image.shape == (3, 40, 60)
        if len(target["boxes"]):
            seen += 1
            torch.testing.assert_close(bright_box(image), target["boxes"][0], atol=1.01, rtol=0)
            assert target["labels"].tolist() == [3]
    assert seen >= 6
    if factor < 1:
        assert (image == 0.4).all(0).float().mean() > 0.9 * (1 - factor**2)  # grey where nothing is


def test_zooming_in_shows_no_padding() -> None:
    image, target = sample([0, 0, 60, 40])  # white all over
    for seed in range(12):
        torch.manual_seed(seed)
        assert train_transforms(0.0, (1.5, 3.0), (0.0, 0.0, 0.0))(image, target)[0].min() > 0.99


def test_objects_outside_the_image_are_dropped_with_their_labels() -> None:
    transform = train_transforms(0.0, (4.0, 4.0), GREY)
    counts = set()
    for seed in range(20):
        torch.manual_seed(seed)
        _, target = transform(*sample([26, 16, 34, 24]))
        assert target["boxes"].shape == (len(target["labels"]), 4)
        counts.add(len(target["labels"]))
    assert counts == {0, 1}


def test_equal_seeds_give_equal_results() -> None:
    transform = train_transforms(0.5, (0.5, 2.0), GREY)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(transform(*sample([5, 10, 15, 30]))[0])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_images_without_objects() -> None:
    image, target = sample([5, 10, 15, 30])
    target |= {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    torch.manual_seed(0)
    _, result = train_transforms(1.0, (0.5, 2.0), GREY)(image, target)
    assert result["boxes"].shape == (0, 4) and result["boxes"].dtype == torch.float32


@pytest.mark.parametrize(("flip", "jitter"), [(1.5, (1, 1)), (0.5, (0, 1)), (0.5, (2, 1))])
def test_impossible_settings_are_refused(flip: float, jitter: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"flip|scale_jitter"):
        train_transforms(flip, jitter, GREY)
