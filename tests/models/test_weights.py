from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tsdlab.config import HEADS, Config
from tsdlab.errors import WeightsError
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.weights import load_detector, load_tensors, read_header, save_weights
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
        (
            {"categories": [{"id": 3, "name": "red"}]},
            "there are 1 categories for 2 classes; there must be",
        ),
        ({"categories": []}, "there are 0 categories for 2 classes"),
        ({"categories": [{"id": i, "name": str(i)} for i in range(3)]}, "there are 3 categories for 2 classes"),
        ({"categories": [{"id": i, "name": "red"} for i in range(2)]}, "two categories have the name 'red'"),
        ({"categories": [{"id": 1, "name": n} for n in "ab"]}, "two categories have the id 1"),
        ({"categories": {}}, "categories must be a list, got a dict"),
        ({"categories": ["red", "blue"]}, "every category must have an id and a name, got 'red'"),
        ({"categories": [{"id": 3, "name": "red", "color": "red"}] * 2}, "every category must have an id and a name"),
        ({"categories": [{"id": [], "name": "red"}] * 2}, "categories: id must be"),
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


@pytest.mark.parametrize(
    "field",
    [f.name for f in fields(Config)] + ["image.min_size", "roi.nms", "tsd.joint_sibling", "double.box_scale"],
)
def test_a_config_that_lacks_a_field_is_refused(field: str, model: Detector, tmp_path: Path) -> None:
    """The default could be another value than the weights were trained with."""
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES)
    values = json.loads(json.dumps(read_header(tmp_path / "w.safetensors").as_dict()))
    section, _, name = field.rpartition(".")
    del (values["config"][section] if section else values["config"])[name]
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors", {"tsdlab": json.dumps(values)})
    with pytest.raises(WeightsError, match=re.escape(f"its config lacks {field};")):
        read_header(tmp_path / "w.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(ValueError, match=r"text\.safetensors is not a readable safetensors file"):
        load_detector(tmp_path / "text.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"foreign\.safetensors has no tsdlab header"):
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


def test_nms_may_be_another_than_the_weights_own(tiny_config: Config, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", build_detector(replace(tiny_config, head="iou")), CATEGORIES)
    model = load_detector(tmp_path / "w.safetensors", nms="gaussian")
    assert (model.roi_heads.config.nms, model.roi_heads.head.config.guided_nms) == ("gaussian", False)
    assert load_detector(tmp_path / "w.safetensors").roi_heads.head.config.guided_nms


def test_weights_of_one_config_do_not_pass_for_another(model: Detector, tiny_config: Config, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model, CATEGORIES)
    wider = build_detector(replace(tiny_config, roi=replace(tiny_config.roi, hidden=32)))
    with pytest.raises(ValueError, match="does not fit the model"):
        load_tensors(wider, tmp_path / "w.safetensors")
