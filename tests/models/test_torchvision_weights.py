"""torchvision's detectors as files: imported, taken over, or refused."""

from __future__ import annotations

import math
import os
import pickle
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import WeightsEnum
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from tsdlab.config import BackboneConfig, Config, HeadName, PublishedName
from tsdlab.errors import WeightsError
from tsdlab.models.build import build_detector
from tsdlab.models.start import start_from
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.torchvision_weights import import_torchvision, read_state_dict, torchvision_model
from tsdlab.models.weights import load_detector
from tsdlab.structures import Category

RESNET: PublishedName = "fasterrcnn_resnet50_fpn"
MOBILENET: PublishedName = "fasterrcnn_mobilenet_v3_large_320_fpn"


def saved_state(builder: PublishedName, folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / "frcnn.pth"
    torch.save(published_model(builder, 90, BackboneConfig()).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_state(RESNET, tmp_path_factory.mktemp("torchvision"))


@pytest.mark.parametrize(("head", "builder"), [("sibling", RESNET), ("tsd", MOBILENET), ("d_head", MOBILENET)])
def test_a_local_torchvision_file_is_imported(
    head: HeadName, builder: PublishedName, torchvision_file: Path, tmp_path: Path
) -> None:
    file = torchvision_file if builder == RESNET else saved_state(builder, tmp_path)
    out = tmp_path / "coco.safetensors"
    import_torchvision(out, file, head, builder)
    model = load_detector(out)
    state, own = torch.load(file, weights_only=True), model.state_dict()
    assert torch.equal(own["rpn.head.cls_logits.weight"], state["rpn.head.cls_logits.weight"])
    assert torch.equal(own["backbone.fpn.inner_blocks.0.0.weight"], state["backbone.fpn.inner_blocks.0.0.weight"])
    if head == "sibling":
        predictor = "box_predictor.cls_score.weight"
        assert torch.equal(own[f"roi_heads.head.{predictor}"], state[f"roi_heads.{predictor}"])
        assert model.config.backbone == BackboneConfig(name=f"torchvision:{RESNET}")
    assert model.config.head == head and not model.config.roi.aligned
    assert model.config.backbone.name == f"torchvision:{builder}"
    assert model.categories[0] == Category(1, "person")
    assert model.categories[89] == Category(90, "toothbrush")  # the index is COCO's id


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
    model = torchvision_model(tmp_path / "old.pth", RESNET)
    assert torch.equal(model.rpn.head.conv[0][0].weight, state["rpn.head.conv.0.0.weight"])


def test_a_state_dict_may_lie_beside_the_optimizers(torchvision_file: Path, tmp_path: Path) -> None:
    state = torch.load(torchvision_file, weights_only=True)
    torch.save({"model": state, "epoch": 3}, tmp_path / "checkpoint.pth")
    model = torchvision_model(tmp_path / "checkpoint.pth", RESNET)
    assert torch.equal(model.rpn.head.conv[0][0].weight, state["rpn.head.conv.0.0.weight"])


class Wrapped(torch.nn.Module):
    """A whole model, as `torch.save(model)` pickles it."""


PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "ema.module.", "net.detector."]


@pytest.fixture(scope="module")
def mobilenet_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return published_model(MOBILENET, 3, BackboneConfig()).state_dict()


def is_read(path: Path, state: dict[str, torch.Tensor], exact: bool = True) -> None:
    found = read_state_dict(path)
    assert found.keys() == state.keys()
    assert all(v.dtype == (torch.int64 if "tracked" in k else torch.float32) for k, v in found.items())
    assert all(torch.equal(v, found[k]) if exact else torch.allclose(v, found[k], atol=1e-2) for k, v in state.items())


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("nested", ["{}", "model", "state_dict", "model_state_dict", "ema", "a/b/c"])
def test_a_state_dict_is_found_wherever_it_lies(
    prefix: str, nested: str, mobilenet_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    some = ("roi_heads.box_predictor.cls_score.weight", "rpn.head.bbox_pred.bias", "backbone.fpn.inner_blocks.0.0.bias")
    state = {name: mobilenet_state[name] for name in some}
    content: Any = {f"{prefix}{name}": value for name, value in state.items()}
    content |= {"n_averaged": torch.tensor(3)} if "module" in prefix else {}
    for key in reversed([] if nested == "{}" else nested.split("/")):
        content = {"epoch": 3, 5: "five", "optimizer": {"state": {0: torch.zeros(2)}}, key: content, "args": [1]}
    torch.save(content, tmp_path / "w.pth")
    is_read(tmp_path / "w.pth", state)


def test_a_state_dict_in_other_formats(mobilenet_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(mobilenet_state, path, _use_new_zipfile_serialization=False)
    is_read(path, mobilenet_state)
    save_file(mobilenet_state, path)  # whatever its name says
    is_read(path, mobilenet_state)
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in mobilenet_state.items()}, path)
    is_read(path, mobilenet_state, exact=False)
    torch.save({k: torch.nn.Parameter(v) for k, v in mobilenet_state.items() if "tracked" not in k}, path)
    is_read(path, mobilenet_state)
    compiled = {k.replace("backbone.", "backbone._orig_mod."): v for k, v in mobilenet_state.items()}
    torch.save(compiled, path)
    is_read(path, mobilenet_state)
    torch.save({**mobilenet_state, "roi_heads.mask_head.mask_fcn1.weight": torch.zeros(2)}, path)
    is_read(path, mobilenet_state)


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Wrapped(), "holds more than tensors and numbers, such as a whole model; save a state dict"),
        ({"model": Wrapped()}, "holds more than tensors and numbers, such as a whole model; save a state dict"),
        ([torch.zeros(2)], "holds a list; save"),
        (torch.zeros(2), "holds a Tensor; save"),
        (3, "holds a int; save"),
        ({}, "is not the state dict of a torchvision Faster R-CNN"),
        ({"model": [1]}, "is not the state dict of a torchvision Faster R-CNN"),
        ({"roi_heads.box_predictor.cls_score.weight": 3}, "cls_score.weight is a int, not a tensor"),
        ({"roi_heads.box_predictor.cls_score.weight": torch.zeros(3)}, "it must be [1 + classes, features]"),
        ({"roi_heads.box_predictor.cls_score.weight": torch.zeros(1, 3)}, "it must be [1 + classes, features]"),
        ({"roi_heads.box_predictor.cls_score.weight": torch.full((3, 3), math.nan)}, "are NaN or infinite"),
        ({"roi_heads.box_predictor.cls_score.weight": torch.zeros(3, 3).long()}, "is torch.int64, not torch.float32"),
        ({"roi_heads.box_predictor.cls_score.weight": torch.eye(3).to_sparse()}, "is sparse or quantized"),
    ],
)
def test_what_holds_no_state_dict_is_refused_in_one_line(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=re.escape(message)) as caught:
        read_state_dict(tmp_path / "w.pth")
    assert str(caught.value).startswith(str(tmp_path / "w.pth")) and "\n" not in str(caught.value)


def test_a_checkpoint_of_tsdlab_says_what_to_give(tiny_config: Config, tmp_path: Path) -> None:
    model = build_detector(tiny_config)
    content = {"config": {}, "categories": [], "step": 1, "model": model.state_dict(), "optimizer": {}, "rng": []}
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match=r"is a checkpoint of tsdlab; give the run's weights\.safetensors"):
        start_from(model, tmp_path / "checkpoint.pt", ())


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
            torchvision_model(tmp_path / name, RESNET)
    assert not (tmp_path / "exploded").exists()
