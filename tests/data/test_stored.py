"""Images travel as bytes, and become exactly what they would have been as floating-point numbers."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_folders import annotation, image_entry, write_split
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from tsdlab.data.coco import CocoDataset, Target
from tsdlab.data.images import read_image
from tsdlab.data.items import Items
from tsdlab.data.loading import batch_loader
from tsdlab.data.stored import StoredImage
from tsdlab.data.transforms import train_transforms

FILL = (0.485, 0.456, 0.406)
SIZES = [(40, 30), (161, 97), (24, 53)]  # (width, height)


class Zoom(v2.Transform):
    """The zoom as torchvision's transforms do it: to image and boxes at once."""

    def __init__(self, factors: tuple[float, float]) -> None:
        super().__init__()
        self.factors = factors

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        low, high = torch.tensor(self.factors).log().tolist()
        draw = torch.rand(3).tolist()
        factor = torch.tensor(low + (high - low) * draw[0]).exp().item()
        size = [max(1, round(height * factor)), max(1, round(width * factor))]
        corner = [round((new - old) * part) for new, old, part in zip(size, (height, width), draw[1:])]
        return {"new": size, "old": [height, width], "corner": corner}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        (new_height, new_width), (height, width), (top, left) = params["new"], params["old"], params["corner"]
        inpt = self._call_kernel(F.resize, inpt, params["new"], antialias=True)
        if new_height >= height and new_width >= width:
            return self._call_kernel(F.crop, inpt, top, left, height, width)
        padding = [-left, -top, width - new_width + left, height - new_height + top]
        return self._call_kernel(F.pad, inpt, padding, fill=list(FILL))


def on_floats(flip: float, factors: tuple[float, float]) -> Any:
    """Everything at once on floating-point numbers, in torchvision's classes: a plain function of image and target."""
    steps: list[nn.Module] = [v2.RandomHorizontalFlip(flip)] if flip else []
    steps += [Zoom(factors)] if factors != (1, 1) else []
    compose = v2.Compose([*steps, v2.SanitizeBoundingBoxes(), v2.ToPureTensor()])

    def transform(image: Tensor, target: Target) -> tuple[Tensor, Target]:
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[-2:])
        kept = {"boxes": boxes, "labels": target["labels"], "image_id": target["image_id"]}
        return compose(tv_tensors.Image(image), kept)

    return transform


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of every value, and objects in the middle and at the borders."""
    entries = [image_entry(i, f"{i}.png", width=w, height=h) for i, (w, h) in enumerate(SIZES, 1)]
    boxes = [(2, 3, 9, 8), (0, 0, 20, 20), (14, 9, 10, 20)]
    annotations = [
        annotation(10 * i + k, image_id=i, bbox=box)
        for i in range(1, 3)  # the last image has none
        for k, box in enumerate(boxes)
    ]
    root = write_split(tmp_path_factory.mktemp("photographs"), entries, annotations)
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(SIZES, 1):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / f"train/{i}.png")
    return root


def assert_same(one: tuple[list[Tensor], list[Target]], other: tuple[list[Tensor], list[Target]]) -> None:
    for a, b in zip(one[0], other[0], strict=True):
        assert type(a) is Tensor and a.dtype == torch.float32 and torch.equal(a, b)
    for t, u in zip(one[1], other[1], strict=True):
        assert t.keys() == u.keys() and t["image_id"] == u["image_id"]
        assert torch.equal(t["boxes"], u["boxes"]) and torch.equal(t["labels"], u["labels"])
        assert (type(t["boxes"]), t["boxes"].dtype, t["labels"].dtype) == (Tensor, torch.float32, torch.int64)


@settings(max_examples=60, deadline=None)
@given(
    flip=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    factors=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.8, 1.25), (0.02, 0.4), (2.0, 4.0), (0.98, 1.02)]),
    seeds=st.lists(st.integers(0, 2**63 - 1), min_size=3, max_size=3),
)
def test_batches_are_bit_for_bit_those_of_floating_point_numbers(
    flip: float, factors: tuple[float, float], seeds: list[int], photographs: Path
) -> None:
    keys = [[*enumerate(seeds)]]
    new = CocoDataset(photographs, "train", train_transforms(flip, factors, FILL))
    old = CocoDataset(photographs, "train", on_floats(flip, factors))
    (batch,), (expected,) = batch_loader(new, keys), batch_loader(old, keys)
    assert_same(batch, expected)
    image, target = new[keys[0][1]]
    assert_same(([image], [target]), ([expected[0][1]], [expected[1][1]]))


def test_workers_send_bytes_and_change_no_bit(photographs: Path) -> None:
    dataset = CocoDataset(photographs, "train", train_transforms(0.5, (0.5, 2.0), FILL))
    keys = [[(i, seed) for i in range(3)] for seed in range(12)]
    expected = CocoDataset(photographs, "train", on_floats(0.5, (0.5, 2.0)))
    for batch, other in zip(batch_loader(dataset, keys, workers=1), batch_loader(expected, keys), strict=True):
        assert_same(batch, other)
    for key in (key for batch in keys for key in batch):
        stored, _ = dataset.stored(key)
        assert stored.pixels.dtype == torch.uint8
        assert len(pickle.dumps(stored.change)) < 500


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 1])
def test_a_gpu_makes_the_same_batches_but_for_rounding(workers: int, photographs: Path) -> None:
    dataset = CocoDataset(photographs, "train", train_transforms(0.5, (0.5, 2.0), FILL))
    keys = [[(i, seed) for i in range(3)] for seed in range(12)]
    for (images, _), (expected, _) in zip(
        batch_loader(dataset, keys, workers, "cuda"), batch_loader(dataset, keys), strict=True
    ):
        assert all(image.device.type == "cuda" for image in images)
        torch.testing.assert_close([image.cpu() for image in images], expected, atol=1e-5, rtol=0)


def test_the_global_generator_draws_the_same(photographs: Path) -> None:
    results = []
    for transforms in (train_transforms(0.5, (0.5, 2.0), FILL), on_floats(0.5, (0.5, 2.0))):
        torch.manual_seed(7)
        items = [CocoDataset(photographs, "train", transforms)[i] for i in (0, 1, 2, 0)]
        results.append((*zip(*items), torch.get_rng_state()))
    assert_same(results[0][:2], results[1][:2])
    assert torch.equal(results[0][2], results[1][2])


@pytest.mark.parametrize("values", [np.uint8, np.uint16, np.float32])
def test_images_of_any_depth_have_the_values_of_read_image(values: type, tmp_path: Path) -> None:
    root = write_split(tmp_path, [image_entry(1, "a.tif")])
    pixels = np.random.default_rng(0).random((30, 40)) * {np.uint8: 255, np.uint16: 4000, np.float32: 1}[values]
    Image.fromarray(pixels.astype(values)).save(root / "train/a.tif")
    dataset = CocoDataset(root, "train")
    expected = read_image(root / "train/a.tif")
    assert dataset.stored(0)[0].pixels.dtype == torch.uint8
    assert torch.equal(dataset[0][0], expected) and 0.9 < expected.max() <= 1
    ((images, _),) = batch_loader(dataset, [[0]])
    assert torch.equal(images[0], expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_floating_point_numbers_in_memory_lose_nothing(workers: int) -> None:
    image = torch.rand(3, 20, 30)
    ((images, _),) = batch_loader(Items([image]), [[0]], workers)
    assert torch.equal(images[0], image)


def test_a_data_set_that_reads_in_its_own_way_is_asked(photographs: Path) -> None:
    class Inverted(CocoDataset):
        def __getitem__(self, key: Any) -> tuple[Tensor, Target]:
            image, target = super().__getitem__(key)
            return 1 - image, target

    dataset = Inverted(photographs, "train")
    ((images, _),) = batch_loader(dataset, [[0]])
    assert torch.equal(images[0], 1 - CocoDataset(photographs, "train")[0][0])


def test_a_change_is_made_after_the_conversion() -> None:
    stored = StoredImage(torch.full((3, 2, 2), 51, dtype=torch.uint8), lambda image: image + 0.5)
    torch.testing.assert_close(stored.image(), torch.full((3, 2, 2), 0.7))
