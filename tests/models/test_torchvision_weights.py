"""torchvision's detectors as files: imported, taken over, or refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torchvision.models import WeightsEnum
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from tsdlab.config import BackboneConfig, HeadName, PublishedName
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.torchvision_weights import import_torchvision, torchvision_model
from tsdlab.models.weights import load_detector
from tsdlab.structures import Category


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
