from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import WeightsEnum
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from tsdlab.config import HEADS, BackboneConfig, Config, HeadName, PublishedName
from tsdlab.errors import WeightsError
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.weights import (
    import_torchvision,
    load_detector,
    load_tensors,
    read_header,
    save_weights,
    start_from,
    torchvision_model,
)
from tsdlab.presets import PRESETS
from tsdlab.structures import Category

CATEGORIES = (Category(3, "red"), Category(7, "blaü"))


@pytest.fixture
def model(tiny_config: Config) -> Detector:
    torch.manual_seed(0)
    return build_detector(tiny_config)


def detections(model: Detector) -> dict[str, torch.Tensor]:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model.eval()([image])[0]


def test_full_precision_comes_back_bit_for_bit(model: Detector, tmp_path: Path) -> None:
    model = model.to(memory_format=torch.channels_last)  # as training leaves it
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES, half=False)
    back = load_detector(tmp_path / "w.safetensors")
    assert back.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in model.state_dict().items())
    assert not back.training
    assert back.categories == CATEGORIES
    ours, theirs = detections(model), detections(back)
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_detects_alike_after_saving_and_loading(head: str, tiny_config: Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = replace(tiny_config, head=head, roi=replace(tiny_config.roi, score_thresh=0.0))
    model = build_detector(config)
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES, half=False)
    ours, theirs = detections(model), detections(load_detector(tmp_path / "w.safetensors"))
    assert len(ours["scores"]) > 0 and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_half_precision_halves_kernels_and_keeps_vectors(model: Detector, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES)
    stored = load_file(tmp_path / "w.safetensors")
    own = model.state_dict()
    for name, tensor in stored.items():
        if own[name].is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.dim() > 1 else torch.float32), name
    back = load_detector(tmp_path / "w.safetensors")
    for name, tensor in back.state_dict().items():
        assert tensor.dtype == own[name].dtype
        torch.testing.assert_close(tensor, own[name], rtol=1e-3, atol=1e-7)


def test_a_value_that_float16_cannot_hold_is_kept(model: Detector, tmp_path: Path) -> None:
    model.rpn.head.cls_logits.weight.data[0, 0] = 1e6
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES)
    back = load_detector(tmp_path / "w.safetensors")
    assert back.rpn.head.cls_logits.weight[0, 0].item() == 1e6


def test_equal_weights_are_equal_files(model: Detector, tmp_path: Path) -> None:
    for name in "abcd":
        save_weights(tmp_path / name, model, CATEGORIES, origin={"step": 3})
    assert len({(tmp_path / name).read_bytes() for name in "abcd"}) == 1


def test_the_header_tells_what_the_file_is(model: Detector, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES, origin={"step": 3, "metrics": {"AP": None}})
    header = read_header(tmp_path / "w.safetensors")
    assert header.config == model.config
    assert header.categories == CATEGORIES
    assert header.origin == {"step": 3, "metrics": {"AP": None}}
    assert json.loads(json.dumps(header.as_dict()))["categories"][1] == {"id": 7, "name": "blaü"}


def test_score_threshold_is_set(model: Detector, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES, half=False)
    path = tmp_path / "w.safetensors"
    assert len(detections(load_detector(path, score_thresh=0.0))["scores"]) > 0
    assert len(detections(load_detector(path, score_thresh=0.999))["scores"]) == 0


# What is refused


def test_an_unknown_name_lists_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "badges-tsd.safetensors").touch()
    monkeypatch.setattr("tsdlab.shipped.WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'badges-tds' is neither .* badges-tsd"):
        load_detector("badges-tds")


def test_a_shipped_name_is_found_from_anywhere(
    model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("tsdlab.shipped.WEIGHTS", tmp_path / "shipped")
    save_weights(tmp_path / "shipped/mine.safetensors", model, CATEGORIES)
    monkeypatch.chdir(tmp_path)
    assert load_detector("mine").categories == CATEGORIES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [{"id": 3, "name": "red"}]}, "there are 1 categories for 2 classes"),
        ({"categories": [{"id": "3", "name": "red"}] * 2}, "categories: id must be a whole number, got '3'"),
        ({"origin": None}, "origin must be a dict, got None"),
        ({"version": 3}, "version must be a text, got 3"),
    ],
)
def test_a_header_is_checked_when_it_is_read(
    change: dict[str, object], message: str, model: Detector, tmp_path: Path
) -> None:
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES)
    values = read_header(tmp_path / "w.safetensors").as_dict()
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors", {"tsdlab": json.dumps({**values, **change})})
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_header(tmp_path / "w.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(ValueError, match=r"text\.safetensors is not a readable safetensors file"):
        load_detector(tmp_path / "text.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"foreign\.safetensors has no readable tsdlab header"):
        load_detector(tmp_path / "foreign.safetensors")
    torch.save({"w": torch.zeros(2)}, tmp_path / "pickle.pth")
    with pytest.raises(ValueError, match=r"pickle\.pth"):
        load_detector(tmp_path / "pickle.pth")


def test_a_torn_file_is_refused(model: Detector, tmp_path: Path) -> None:
    path = tmp_path / "torn.safetensors"
    save_weights(path, model, CATEGORIES)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"torn\.safetensors"):
        load_detector(path)


def test_tensors_that_do_not_fit_are_named(model: Detector, tiny_config: Config, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    state = model.state_dict()
    state["surplus"] = torch.zeros(1)
    del state["rpn.head.cls_logits.bias"]
    state["rpn.head.bbox_pred.bias"] = torch.zeros(5)
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    with pytest.raises(ValueError, match=r"rpn\.head\.cls_logits\.bias is missing") as caught:
        load_tensors(model, path)
    assert "rpn.head.bbox_pred.bias is (5,), not (12,)" in str(caught.value)
    assert "surplus is unknown" in str(caught.value)
    left = load_tensors(model, path, partly=True)
    assert left == ["rpn.head.cls_logits.bias", "rpn.head.bbox_pred.bias"]


def test_weights_of_which_nothing_fits_are_refused(model: Detector, tmp_path: Path) -> None:
    count = "backbone.body.bn1.num_batches_tracked"
    save_file({"theirs": torch.zeros(3), count: torch.zeros((), dtype=torch.int64)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w\.safetensors has \d+ of the \d+ tensors of the model's backbone"):
        load_tensors(model, tmp_path / "w.safetensors", partly=True)


# torchvision


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = published_model("fasterrcnn_resnet50_fpn", 90, BackboneConfig())
    path = tmp_path_factory.mktemp("torchvision") / "frcnn.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("head", ["sibling", "tsd", "d_head"])
def test_a_local_torchvision_file_is_imported(head: HeadName, torchvision_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "coco.safetensors"
    import_torchvision(out, torchvision_file, head)
    model = load_detector(out)
    state, own = torch.load(torchvision_file, weights_only=True), model.state_dict()
    assert torch.equal(own["rpn.head.cls_logits.weight"], state["rpn.head.cls_logits.weight"])
    assert torch.equal(own["backbone.fpn.inner_blocks.0.0.weight"], state["backbone.fpn.inner_blocks.0.0.weight"])
    if head == "sibling":
        predictor = "box_predictor.cls_score.weight"
        assert torch.equal(own[f"roi_heads.head.{predictor}"], state[f"roi_heads.{predictor}"])
    assert model.config.head == head and not model.config.roi.aligned
    assert model.config.backbone == BackboneConfig(name="torchvision:fasterrcnn_resnet50_fpn")
    assert model.categories[0] == Category(1, "person")
    assert model.categories[89] == Category(90, "toothbrush")  # the index is COCO's id


MOBILENET: PublishedName = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_another_detector_of_other_classes_is_imported(norm: Literal["frozen", "batch"], tmp_path: Path) -> None:
    theirs = published_model(MOBILENET, 3, BackboneConfig(norm=norm))
    torch.save(theirs.state_dict(), tmp_path / "mine.pth")
    import_torchvision(tmp_path / "mine.safetensors", tmp_path / "mine.pth", builder=MOBILENET)
    model = load_detector(tmp_path / "mine.safetensors")
    assert (model.config.backbone.name, model.config.backbone.norm) == (f"torchvision:{MOBILENET}", norm)
    assert model.categories == tuple(Category(i, f"class {i}") for i in (1, 2, 3))
    image = torch.rand(3, 320, 320)
    torch.testing.assert_close(model.backbone(image[None])["0"], theirs.eval().backbone(image[None])["0"])


def test_torchvisions_own_weights_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the way to the network, and back with what torchvision would have loaded."""
    asked = []

    def without_network(weights: object, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:
        asked.append(weights)
        return published_model(MOBILENET, 90, BackboneConfig()).state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", without_network)
    model = import_torchvision(tmp_path / "coco.safetensors", head="tsd", builder=MOBILENET)
    assert asked == [FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1]
    assert (model.config.backbone.norm, model.config.backbone.trainable_stages) == ("frozen", 3)
    assert model.categories[0].name == "person"


def test_the_published_files_norms_have_no_epsilon(torchvision_file: Path, tmp_path: Path) -> None:
    """Under its own name the file is what torchvision loads with `overwrite_eps(model, 0.0)`."""
    state = torch.load(torchvision_file, weights_only=True)
    name = "backbone.body.layer2.0.bn1"
    variance = torch.logspace(-7, 1, 128)  # from where ε matters to where it does not
    state[f"{name}.running_var"] = variance
    published = tmp_path / Path(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url).name
    torch.save(state, published)
    norm = import_torchvision(tmp_path / "coco.safetensors", published).get_submodule(name)
    assert norm.eps == 1e-5
    ones = torch.ones(1, 128, 1, 1)  # the mean is 0
    torch.testing.assert_close(norm(ones).flatten(), variance.rsqrt())


def test_a_file_under_old_names_is_read(torchvision_file: Path, tmp_path: Path) -> None:
    """Those published before torchvision 0.13 name RPN's and FPN's convolutions without the block around them."""
    state = torch.load(torchvision_file, weights_only=True)
    old = {
        k.replace("rpn.head.conv.0.0.", "rpn.head.conv.").replace("_blocks.0.0.", "_blocks.0."): v
        for k, v in state.items()
    }
    assert "rpn.head.conv.weight" in old and "backbone.fpn.layer_blocks.0.weight" in old
    torch.save(old, tmp_path / "old.pth")
    model = torchvision_model(tmp_path / "old.pth", "fasterrcnn_resnet50_fpn")
    assert torch.equal(model.rpn.head.conv[0][0].weight, state["rpn.head.conv.0.0.weight"])


def test_a_state_dict_may_lie_beside_the_optimizers(torchvision_file: Path, tmp_path: Path) -> None:
    state = torch.load(torchvision_file, weights_only=True)
    torch.save({"model": state, "epoch": 3}, tmp_path / "checkpoint.pth")
    model = torchvision_model(tmp_path / "checkpoint.pth", "fasterrcnn_resnet50_fpn")
    assert torch.equal(model.rpn.head.conv[0][0].weight, state["rpn.head.conv.0.0.weight"])


def test_nms_may_be_another_than_the_weights_own(tiny_config: Config, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", build_detector(replace(tiny_config, head="iou")), CATEGORIES)
    model = load_detector(tmp_path / "w.safetensors", nms="gaussian")
    assert (model.roi_heads.config.nms, model.roi_heads.head.config.guided_nms) == ("gaussian", False)
    assert load_detector(tmp_path / "w.safetensors").roi_heads.head.config.guided_nms


def test_another_state_dict_is_refused(torchvision_file: Path, tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is not the state dict of a torchvision Faster R-CNN"):
        import_torchvision(tmp_path / "out.safetensors", tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"broken\.pth is not a readable state dict"):
        import_torchvision(tmp_path / "out.safetensors", tmp_path / "broken.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        import_torchvision(tmp_path / "out.safetensors", tmp_path / "none.pth")
    with pytest.raises(ValueError, match=rf"frcnn\.pth does not fit torchvision's {MOBILENET}: .*Missing key"):
        import_torchvision(tmp_path / "out.safetensors", torchvision_file, builder=MOBILENET)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_state_dict_never_runs_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Bomb(), 2))
    torch.save({"roi_heads.box_predictor.cls_score.weight": Bomb()}, tmp_path / "zip.pth")
    for name in ("raw.pth", "zip.pth"):
        with pytest.raises(ValueError, match=rf"{name} is not a readable state dict"):
            torchvision_model(tmp_path / name, "fasterrcnn_resnet50_fpn")
    assert not (tmp_path / "exploded").exists()


def test_weights_to_start_from(torchvision_file: Path, tmp_path: Path) -> None:
    """A preset's own ResNet-50 takes torchvision's tensors by name; the outputs are for other classes."""
    preset = PRESETS["finetune"]
    model = build_detector(replace(preset, head="sibling", num_classes=2))
    state, own = torch.load(torchvision_file, weights_only=True), model.state_dict()
    left = start_from(model, torchvision_file)
    outputs = [f"roi_heads.head.box_predictor.{layer}" for layer in ("bbox_pred", "cls_score")]
    assert left == [f"{layer}.{kind}" for layer in outputs for kind in ("bias", "weight")]
    for name in ("backbone.body.layer4.2.bn3.weight", "rpn.head.bbox_pred.weight"):
        assert torch.equal(own[name], state[name])
    assert torch.equal(own["roi_heads.head.box_head.fc6.weight"], state["roi_heads.box_head.fc6.weight"])
    with pytest.raises(
        ValueError, match=r"these torchvision weights do not fit the model: backbone\.body\.layer1.* is unknown"
    ):
        start_from(build_detector(replace(PRESETS["badges-tiny"], num_classes=2)), torchvision_file)

    torch.save(published_model(MOBILENET, 2, BackboneConfig()).state_dict(), tmp_path / "mine.pth")
    backbone = BackboneConfig(name=f"torchvision:{MOBILENET}", stages=(4,))
    assert start_from(build_detector(replace(preset, num_classes=2, backbone=backbone)), tmp_path / "mine.pth") == []


def test_weights_of_one_config_do_not_pass_for_another(model: Detector, tiny_config: Config, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES)
    wider = build_detector(replace(tiny_config, roi=replace(tiny_config.roi, hidden=32)))
    with pytest.raises(ValueError, match="does not fit the model"):
        load_tensors(wider, tmp_path / "w.safetensors")
