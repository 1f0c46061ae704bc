"""Calls of a detector: models of any type of numbers, images that cannot be, and what a call leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

import tsdlab
from tsdlab.analysis.analyze import analyze
from tsdlab.analysis.sensitivity import gradient_maps, sensitivity_maps
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.data.items import Items
from tsdlab.errors import InputError
from tsdlab.evaluation import evaluate
from tsdlab.models.build import as_detector
from tsdlab.models.detector import Detector
from tsdlab.models.export import export_detector

IMAGE = torch.rand(3, 96, 160, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, dict[str, Any]]:
    return CocoDataset(SAMPLE, "val")[0]


@pytest.fixture
def model() -> Detector:
    return tsdlab.load_detector("badges-tsd")


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def check_it_works(model: Detector, pair: tuple[torch.Tensor, dict[str, Any]]) -> None:
    with torch.no_grad():
        found = model([pair[0]])[0]
    assert {found[name].dtype for name in ("boxes", "scores")} == {torch.float32} and len(found["scores"]) > 0
    assert evaluate(model, [pair], progress=False).AP50 > 90
    assert tsdlab.trace(model, pair[0]).detection.scores.dtype == torch.float32
    analyze(model, [pair], 1, 50, progress=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_model_of_another_precision(dtype: torch.dtype, model: Detector, pair: Any) -> None:
    check_it_works(model.to(dtype), pair)


@pytest.mark.usefixtures("float64_by_default")
def test_another_default_precision(model: Detector, pair: Any) -> None:
    check_it_works(model.float(), pair)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradient_maps_where_gradients_are_off(context: Any, model: Detector, pair: Any) -> None:
    image, target = pair
    box, label = target["boxes"][0], int(target["labels"][0])
    expected = gradient_maps(model, image, box, label)
    with context():
        found = gradient_maps(model, image.clone(), box.clone(), label)
    for level, branches in expected.levels.items():
        for branch, maps in branches.items():
            torch.testing.assert_close(found.levels[level][branch].classification, maps.classification)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([], "images must be a list of images, got an empty list"),
        ([torch.zeros(2, 8, 8)], r"image must be \[3, H, W\], got \(2, 8, 8\)"),
        ([torch.zeros(2, 3, 8, 8)], r"got \(2, 3, 8, 8\)"),
        ([torch.zeros(8)], r"got \(8,\)"),
        ([torch.zeros(3, 8, 8, dtype=torch.complex64)], "got a Tensor of torch.complex64"),
        ([IMAGE * 255], "divide it by 255"),
        ([IMAGE * 5 - 2], "undo its normalization"),
        ([torch.full((3, 8, 8), torch.nan)], "replace what is not finite"),
        ([None], "got a NoneType"),
    ],
    ids=str,
)
def test_what_is_no_image_is_refused(images: list[Any], says: str, model: Detector) -> None:
    with pytest.raises(InputError, match=says) as raised:
        model(images)
    assert str(raised.value).isprintable()


@torch.no_grad()
def test_every_layout_of_an_image_gives_the_same(model: Detector, pair: Any) -> None:
    image = pair[0]
    expected = model([image])[0]["boxes"]
    rgba = torch.cat([image, torch.ones_like(image[:1])])
    for same in (image.permute(1, 2, 0), image[None], rgba, image.double()):
        torch.testing.assert_close(model([same])[0]["boxes"], expected)


def found_by_every_call(model: Detector, image: Any, target: dict[str, Any]) -> list[Any]:
    """What the calls of Python answer about one image."""
    box, label = target["boxes"][0], int(target["labels"][0])
    explorer = tsdlab.explore(model, (image, target), proposal=tuple(box.tolist()))
    levels = tsdlab.explore_levels(model, [(image, target)], explorer=explorer)
    maps = sensitivity_maps(model, image, box, label, cells=8)
    gradients = gradient_maps(model, image, box, label, cells=8)
    return [
        tsdlab.trace(model, image).proposals,
        explorer.answer.sibling.scores,
        levels.table.followed.regions["localization"].boxes,
        evaluate(model, [(image, target)], progress=False).AP,
        [each["tsd"].classification for each in (*maps.levels.values(), *gradients.levels.values())],
    ]


@pytest.fixture(scope="module")
def expected_of_every_call(pair: Any) -> list[Any]:
    return found_by_every_call(tsdlab.load_detector("badges-tsd"), *pair)


FORMS = {
    "HWC bytes": lambda pixels, path: pixels,
    "CHW bytes": lambda pixels, path: pixels.transpose(2, 0, 1),
    "HWC numbers": lambda pixels, path: pixels / 255,
    "CHW numbers": lambda pixels, path: (pixels.transpose(2, 0, 1) / 255).astype(np.float32),
    "PIL": lambda pixels, path: Image.fromarray(pixels),
    "lists": lambda pixels, path: pixels.tolist(),
    "path": lambda pixels, path: path,
    "text": lambda pixels, path: str(path),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_call_takes_every_form_of_an_image(
    form: str, model: Detector, pair: Any, expected_of_every_call: list[Any], tmp_path: Path
) -> None:
    pixels = (pair[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = found_by_every_call(model, FORMS[form](pixels, tmp_path / "x.png"), pair[1])
    for value, expected in zip(found, expected_of_every_call, strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("wrong", [IMAGE * 255, IMAGE * 5 - 2])
def test_no_call_shows_an_image_white(wrong: torch.Tensor, model: Detector, pair: Any) -> None:
    for call in (
        lambda: tsdlab.trace(model, wrong),
        lambda: tsdlab.explore(model, wrong),
        lambda: tsdlab.explore_levels(model, [(wrong, pair[1])]),
        lambda: evaluate(model, [(wrong, pair[1])], progress=False),
        lambda: sensitivity_maps(model, wrong, (1, 2, 30, 40), 1),
        lambda: gradient_maps(model, wrong, (1, 2, 30, 40), 1),
    ):
        with pytest.raises(InputError, match=r"image must hold floating-point numbers in 0…1, got .*; (divide|undo)"):
            call()


def test_the_gradient_of_an_image_is_kept(model: Detector, pair: Any) -> None:
    image = pair[0].clone().requires_grad_()
    model([image])[0]["scores"].sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["rpn.head.cls_logits.bias", "backbone.body.bn1.running_var"])
def test_a_model_that_is_not_finite_is_named(name: str, value: float, model: Detector, pair: Any) -> None:
    model.state_dict()[name].view(-1)[0] = value
    for call in (lambda: evaluate(model, [pair], progress=False), lambda: tsdlab.trace(model, pair[0])):
        with pytest.raises(InputError, match=f"the model's {name} has values that are NaN or infinite"):
            call()


def test_calls_leave_the_random_numbers_of_others_alone() -> None:
    published = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).eval()
    before = torch.get_rng_state()
    tsdlab.load_detector("badges-tsd")
    as_detector(published)
    tsdlab.trace(published, IMAGE)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_program_may_be_named_by_a_text(model: Detector, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in .pt2 or .onnx, got 'z.pt'"):
        export_detector(model, str(tmp_path / "z.pt"), 64, 64)
    with pytest.raises(InputError, match="out must be the path of a file, got 3"):
        export_detector(model, 3, 64, 64)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"float32 .* model.float\(\)"):
        export_detector(model.half(), tmp_path / "z.pt2", 64, 64)


@pytest.mark.parametrize("kind", ["Series", "DataFrame"])
def test_tables_of_pandas_are_no_data_set(kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InputError, match=f"dataset must not be a pandas {kind}; give a list"):
        Items(getattr(pandas, kind)({"a": [1, 2]}))
