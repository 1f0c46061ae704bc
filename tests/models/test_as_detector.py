"""Models as training leaves them: wrapped, in any mode, of any precision, frozen. The answers are the same."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

import tsdlab
from tsdlab.analysis.analyze import analyze
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import InputError
from tsdlab.models.build import as_detector, build_detector
from tsdlab.presets import PRESETS
from tsdlab.structures import Category, DetectionTrace


def ours() -> nn.Module:
    torch.manual_seed(0)
    return build_detector(PRESETS["badges-tiny"]).eval()


def theirs() -> nn.Module:
    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=7, min_size=96, max_size=160, box_score_thresh=0.0
    )
    return model.eval()


IMAGE = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))


@cache
def answer_alone(make) -> DetectionTrace:
    return tsdlab.trace(make(), IMAGE)


WRAPPINGS = {
    "itself": lambda model: model,
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled DataParallel": lambda model: torch.compile(nn.DataParallel(model)),
    "averaged": AveragedModel,
    "frozen": lambda model: model.requires_grad_(False),
    "training": lambda model: model.train(),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("make", [ours, theirs])
def test_a_wrapped_model_answers_as_it_does_alone(make, wrapping: str) -> None:
    expected = answer_alone(make)
    found = tsdlab.trace(WRAPPINGS[wrapping](make()), IMAGE)
    torch.testing.assert_close(found.proposals, expected.proposals)
    torch.testing.assert_close(found.detection.scores, expected.detection.scores)


@pytest.mark.parametrize("make", [ours, theirs])
def test_fabric_and_other_precisions(make) -> None:
    fabric = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu")
    expected = answer_alone(make).proposals
    torch.testing.assert_close(tsdlab.trace(fabric.setup_module(make()), IMAGE).proposals, expected)
    for dtype in (torch.bfloat16, torch.float64):
        found = tsdlab.trace(make().to(dtype), (IMAGE * 255).byte().numpy())
        assert found.detection.scores.isfinite().all() and len(found.proposals) > 10


def test_every_module_gets_its_mode_back() -> None:
    model = ours().train()
    model.backbone.eval()  # as fine-tuning does
    before = {name: module.training for name, module in model.named_modules()}
    tsdlab.trace(model, IMAGE)
    assert before == {name: module.training for name, module in model.named_modules()}


def test_names_of_the_classes_are_kept() -> None:
    model = theirs()
    model.categories = tuple(Category(i, name) for i, name in enumerate("abcdef"))
    assert as_detector(nn.DataParallel(model)).categories == model.categories


@pytest.mark.parametrize("model", ["badges-tsd", None, 3, nn.Linear(1, 1), nn.DataParallel(nn.Linear(1, 1))], ids=repr)
def test_what_is_no_detector_is_named(model: object) -> None:
    dataset = CocoDataset(SAMPLE, "val")
    kind = type(getattr(model, "module", model)).__name__
    for ask in (
        lambda: tsdlab.trace(model, IMAGE),
        lambda: analyze(model, dataset, progress=False),
        lambda: tsdlab.evaluate(model, dataset, progress=False),
        lambda: tsdlab.explore_levels(model, dataset),
    ):
        with pytest.raises(InputError, match=f"model must be .*got (a )?{kind}"):
            ask()


def test_evaluate_takes_what_people_have() -> None:
    own = CocoDataset(SAMPLE, "val")
    model = tsdlab.load_detector("badges-sibling")
    first = [own[i] for i in range(3)]
    subset = tsdlab.evaluate(model, torch.utils.data.Subset(own, range(3)), progress=False)
    assert subset.images == 3 and subset.AP > 20
    # Without names, labels are the model's, which has the same order.
    listed = tsdlab.evaluate(nn.DataParallel(model), first, progress=False, workers=1)
    assert listed.numbers() == pytest.approx(subset.numbers(), nan_ok=True)
    raw = theirs()
    with pytest.raises(InputError, match="dataset must be a CocoDataset, got PosixPath"):
        tsdlab.evaluate(raw, SAMPLE)
    assert tsdlab.evaluate(raw, own, progress=False).images == 12


def test_explore_shows_every_class_under_its_own_name() -> None:
    own, model = CocoDataset(SAMPLE, "val"), tsdlab.load_detector("badges-sibling")
    items = [(image, {**target, "labels": 7 - target["labels"]}) for image, target in (own[0], own[1])]

    class Reversed(list):
        categories = own.categories[::-1]

    expected, found = tsdlab.explore(model, own), tsdlab.explore(model, Reversed(items))
    assert found.names == expected.names
    assert found.truth.labels.tolist() == expected.truth.labels.tolist()
    assert [each["name"] for each in found._image["objects"]] == [each["name"] for each in expected._image["objects"]]
    few = replace(model.config, num_classes=3)
    with pytest.raises(InputError, match="3 classes without names"):
        tsdlab.explore(build_detector(few), own)


def test_detect_takes_images_of_every_form() -> None:
    model = ours()
    pixels = (IMAGE * 255).round().byte()
    with torch.no_grad():
        expected = model.detect([pixels.float() / 255])[0]["boxes"]
        for form in (pixels, pixels.permute(1, 2, 0).numpy(), Image.fromarray(pixels.permute(1, 2, 0).numpy())):
            torch.testing.assert_close(model([form])[0]["boxes"], expected)
        for wrong in (IMAGE, "photo.png"):
            with pytest.raises(InputError, match=r"images must be a list of images, got one .*; give \[image\]"):
                model.detect(wrong)
