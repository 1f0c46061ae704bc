"""Weights to start from: classes are matched by name, whatever their order and number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from tsdlab.config import HEADS, BackboneConfig, Config
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.start import Start, class_rows, start_from
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.weights import save_weights
from tsdlab.presets import PRESETS
from tsdlab.structures import Category

NAMES = ("cat", "dog", "horse", "наве́с", "a b")
MOBILENET = "fasterrcnn_mobilenet_v3_large_320_fpn"


def categories(*names: str) -> tuple[Category, ...]:
    return tuple(Category(10 * i, name) for i, name in enumerate(names, 1))


def detector(config: Config, head: str, count: int, seed: int) -> Detector:
    """With weights that no other seed has, in its output layers too."""
    torch.manual_seed(seed)
    model = build_detector(replace(config, head=head, num_classes=count))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1)
    return model


def rows_of_class(name: str, tensor: Tensor, label: int, count: int) -> Tensor:
    """The rows of an output layer, as the heads lay them out: logits, deltas, or predicted IoU."""
    each = {1 + count: 1, 4 * (1 + count): 4, count: 1}[len(tensor)]
    first = 0 if len(tensor) == count else each
    return tensor[first + label * each : first + (label + 1) * each]


OUTPUTS = {  # tensors of each head that have rows for each class; of layers with weight and bias
    "sibling": {"box_predictor.cls_score", "box_predictor.bbox_pred"},
    "d_head": {"classification.out", "localization.out"},
    "double": {"classification.out", "localization.out"},
    "iou": {"box_predictor.cls_score", "box_predictor.bbox_pred", "iou.out"},
    "tsd": {
        "classification.out",
        "localization.out",
        "sibling.box_predictor.cls_score",
        "sibling.box_predictor.bbox_pred",
    },
}


@pytest.mark.parametrize("head", HEADS)
def test_which_tensors_have_rows_for_each_class(head: str, tiny_config: Config) -> None:
    found = class_rows(replace(tiny_config, head=head))
    expected = {f"roi_heads.head.{layer}.{kind}" for layer in OUTPUTS[head] for kind in ("weight", "bias")}
    assert found.keys() == expected
    assert {(rows.background, rows.each) for rows in found.values()} <= {(1, 1), (4, 4), (0, 1)}


@pytest.mark.parametrize("head", HEADS)
@settings(max_examples=3, deadline=None)
@given(
    theirs=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    ours=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
)
def test_a_class_takes_the_rows_of_its_name(
    head: str, theirs: list[str], ours: list[str], tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = detector(tiny_config, head, len(theirs), seed=0)
    path = tmp_path_factory.mktemp("start") / "w.safetensors"
    save_weights(path, source, categories(*theirs), half=False)
    model = detector(tiny_config, head, len(ours), seed=1)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = start_from(model, path, categories(*ours))
    assert found.classes == tuple(n for n in ours if n in theirs) and found.kept == () and found.note == ""
    assert found.new == tuple(n for n in ours if n not in theirs)

    outputs = class_rows(model.config)
    for name, tensor in model.state_dict().items():
        if name not in outputs:
            assert torch.equal(tensor, source.state_dict()[name]), name
            continue
        background = outputs[name].background
        assert torch.equal(tensor[:background], source.state_dict()[name][:background])
        for label, category in enumerate(ours):
            known = category in theirs
            origin, index = (source.state_dict(), theirs.index(category)) if known else (fresh, label)
            expected = rows_of_class(name, origin[name], index, len(theirs) if known else len(ours))
            assert torch.equal(rows_of_class(name, tensor, label, len(ours)), expected), (name, category)


def test_another_head_takes_what_it_has_too(tiny_config: Config, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", detector(tiny_config, "sibling", 1, 0), categories("cat"))
    model = detector(tiny_config, "tsd", 1, 1)
    kept = start_from(model, tmp_path / "w.safetensors", categories("cat")).kept
    assert kept and all(name.startswith("roi_heads.head.") for name in kept)


@pytest.mark.parametrize(
    ("start", "lines"),
    [
        (Start(("cat", "dog"), ()), []),
        (
            Start(("cat", "dog"), ("bird", "fish")),
            ["classes cat, dog keep their output rows; bird, fish start from random"],
        ),
        (Start((), ("bird",)), ["the weights have none of the classes: output rows of bird start from random"]),
        (
            Start(tuple("abcdefghij"), ("x" * 99,), ("fc",), "no names"),
            [
                "no names",
                "classes a, b, c, d, e, f, g, h and 2 more keep their output rows; "
                f"{'x' * 30}…{'x' * 15} start from random",
                "fc do not fit these weights and start from random",
            ],
        ),
    ],
)
def test_what_is_said(start: Start, lines: list[str]) -> None:
    assert start.lines() == lines


def test_weights_that_expect_other_images_say_so(tiny_config: Config, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", detector(tiny_config, "sibling", 1, 0), categories("cat"))
    model = detector(tiny_config, "sibling", 1, 1)
    assert start_from(model, tmp_path / "w.safetensors", categories("cat")).lines() == []
    half = replace(tiny_config, image=replace(tiny_config.image, mean=(0.5, 0.5, 0.5)))
    found = start_from(detector(half, "sibling", 1, 1), tmp_path / "w.safetensors", categories("cat"))
    (line,) = found.lines()
    assert line.endswith("normalized in another way: give --image.mean 0.485 0.456 0.406")


def test_weights_of_another_backbone_are_refused(tiny_config: Config, tmp_path: Path) -> None:
    other = replace(tiny_config, backbone=replace(tiny_config.backbone, name="timm:convnext_atto"))
    save_weights(tmp_path / "w.safetensors", detector(other, "sibling", 1, 0), categories("cat"))
    with pytest.raises(ValueError, match=r"w\.safetensors has \d+ of the \d+ tensors of the model's backbone"):
        start_from(detector(tiny_config, "sibling", 1, 1), tmp_path / "w.safetensors", categories("cat"))


# torchvision's


def mobilenet(names: tuple[str, ...], seed: int = 1) -> Detector:
    torch.manual_seed(seed)
    backbone = BackboneConfig(name=f"torchvision:{MOBILENET}", stages=(4,))
    return build_detector(replace(PRESETS["finetune"], head="sibling", num_classes=len(names), backbone=backbone))


def test_the_published_classes_are_cocos(tmp_path: Path) -> None:
    """Label 17 of 90 is "cat"; label 12 is of no class, whatever a data set calls its own."""
    theirs = published_model(MOBILENET, 90, BackboneConfig()).state_dict()
    torch.save(theirs, tmp_path / "coco.pth")
    names = ("fish", "cat", "N/A", "person")
    model = mobilenet(names)
    fresh = model.state_dict()["roi_heads.head.box_predictor.cls_score.weight"].clone()
    found = start_from(model, tmp_path / "coco.pth", categories(*names))
    assert (found.classes, found.new) == (("cat", "person"), ("fish", "N/A"))
    assert found.note == "the weights have 90 classes without names, which are taken to be COCO's"
    weight = model.state_dict()["roi_heads.head.box_predictor.cls_score.weight"]
    coco = theirs["roi_heads.box_predictor.cls_score.weight"]
    for label, expected in enumerate((coco[0], fresh[1], coco[17], fresh[3], coco[1])):
        assert torch.equal(weight[label], expected)
    deltas = model.state_dict()["roi_heads.head.box_predictor.bbox_pred.bias"]
    assert torch.equal(deltas[8:12], theirs["roi_heads.box_predictor.bbox_pred.bias"][4 * 17 : 4 * 18])


@pytest.mark.parametrize(("count", "suffix"), [(2, "pth"), (3, "pth"), (2, "safetensors")])
def test_without_names_rows_are_taken_in_order_if_there_are_as_many(count: int, suffix: str, tmp_path: Path) -> None:
    theirs = published_model(MOBILENET, 2, BackboneConfig()).state_dict()
    write = torch.save if suffix == "pth" else save_file
    write(theirs, tmp_path / f"mine.{suffix}")
    names = NAMES[:count]
    model = mobilenet(names)
    found = start_from(model, tmp_path / f"mine.{suffix}", categories(*names))
    weight = model.state_dict()["roi_heads.head.box_predictor.cls_score.weight"]
    same = [torch.equal(a, b) for a, b in zip(weight, theirs["roi_heads.box_predictor.cls_score.weight"])]
    if count == 2:
        assert found.note == "the weights have no class names: output rows are taken in order"
        assert found.classes == names and same == [True] * 3
    else:
        assert found.note == "the weights have no class names, and 2 classes instead of 3"
        assert found.new == names and same == [True, False, False]


def test_a_presets_own_resnet_takes_torchvisions_tensors_by_name(tmp_path: Path) -> None:
    state = published_model("fasterrcnn_resnet50_fpn", 3, BackboneConfig()).state_dict()
    torch.save(state, tmp_path / "frcnn.pth")
    model = build_detector(replace(PRESETS["finetune"], head="sibling", num_classes=2))
    own = model.state_dict()
    assert start_from(model, tmp_path / "frcnn.pth", categories("a", "b")).kept == ()
    for name in ("backbone.body.layer4.2.bn3.weight", "rpn.head.bbox_pred.weight"):
        assert torch.equal(own[name], state[name])
    assert torch.equal(own["roi_heads.head.box_head.fc6.weight"], state["roi_heads.box_head.fc6.weight"])
    with pytest.raises(
        ValueError, match=r"these torchvision weights do not fit the model: backbone\.body\.layer1.* is unknown"
    ):
        start_from(
            build_detector(replace(PRESETS["badges-tiny"], num_classes=2)), tmp_path / "frcnn.pth", categories("a", "b")
        )
