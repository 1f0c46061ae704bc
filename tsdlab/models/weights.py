"""Weights as safetensors files that carry their config and categories: save, read, load; and torchvision's weights."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.detection._utils import overwrite_eps

from tsdlab import shipped
from tsdlab.config import TORCHVISION, BackboneConfig, Config, HeadName, PublishedName, config_from_dict
from tsdlab.errors import InputError, MissingFileError, WeightsError
from tsdlab.files import atomic_write
from tsdlab.models.build import build_detector, from_torchvision
from tsdlab.models.detector import Detector
from tsdlab.models.torchvision_start import fold_epsilon, published_model
from tsdlab.ranges import check_fields, check_value
from tsdlab.structures import Category

_HEADER = "tsdlab"  # key of the safetensors metadata


@dataclass(frozen=True)
class WeightsHeader:
    """What a weights file says about itself."""

    config: Config
    categories: tuple[Category, ...]  # label i is categories[i − 1]
    version: str  # of tsdlab, when it was written
    origin: dict[str, Any]  # where the weights come from: for example step, metrics, source

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def save_weights(
    path: Path,
    model: nn.Module,
    categories: tuple[Category, ...],
    half: bool = True,
    origin: dict[str, Any] | None = None,
) -> None:
    """Write the weights of `model` (which has a `config`) atomically.

    Args:
        path: the file to write; an older one is replaced.
        model: a `Detector`.
        categories: what the labels mean: label i is categories[i − 1].
        half: store matrices and kernels in float16; they are loaded as float32. Vectors (biases, norms and their
            statistics) stay float32 because they are small, and so does a tensor with a value beyond float16's range.
        origin: where the weights come from; plain values for JSON.

    Raises:
        InputError: there are categories, but not one per class.
    """
    config: Config = model.config  # type: ignore[assignment]
    tensors = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    header = WeightsHeader(config, categories, importlib.metadata.version("tsdlab"), origin or {})
    _check_header(header)
    with atomic_write(path) as file:
        # One entry, because safetensors writes several in random order. Equal weights should give equal files.
        file.write(to_bytes(tensors, {_HEADER: json.dumps(header.as_dict())}))


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if half and tensor.is_floating_point() and tensor.dim() > 1:
        small = tensor.half()
        if torch.equal(small.isfinite(), tensor.isfinite()):
            return small
    return tensor


def read_header(path: Path) -> WeightsHeader:
    """The header of the weights file at `path`. Its tensors are not read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a weights file of tsdlab.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no weights file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file ({error}); a training run's is called weights.safetensors"
        ) from error
    try:
        values = json.loads(metadata[_HEADER])
        header = WeightsHeader(
            config=config_from_dict(values["config"]),
            categories=tuple(Category(**category) for category in values["categories"]),
            version=values["version"],
            origin=values["origin"],
        )
        _check_header(header)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} has no readable tsdlab header ({error!r}); give a file that tsdlab has written"
        ) from error
    return header


def _check_header(header: WeightsHeader) -> None:
    """Raises InputError if a part of the header has another type, or the categories are not those of the config."""
    check_value("version", header.version, str)
    check_value("origin", header.origin, dict)
    for category in header.categories:
        check_fields(category, "categories: ")
    if len(header.categories) not in (0, header.config.num_classes):
        raise InputError(f"there are {len(header.categories)} categories for {header.config.num_classes} classes")


def shipped_weights() -> dict[str, Path]:
    """The weights that come with tsdlab: name → file."""
    return {path.stem: path for path in sorted(shipped.WEIGHTS.glob("*.safetensors"))}


def find_weights(name_or_path: str | Path) -> Path:
    """The weights file of a shipped name, or of a path.

    Raises:
        FileNotFoundError: it is neither; lists the shipped names.
    """
    names = shipped_weights()
    if str(name_or_path) in names:
        return names[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise MissingFileError(
        f"{str(name_or_path)!r} is neither a file nor shipped; shipped: {', '.join(names) or 'none'}"
    )


def load_detector(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    score_thresh: float | None = None,
    nms: Literal["hard", "linear", "gaussian"] | None = None,
) -> Detector:
    """Load a detector from a weights file; it is in eval mode.

    Args:
        name_or_path: the name of shipped weights ("badges-tsd"), or a file.
        device: the device to put it on.
        score_thresh: drop detections with lower scores; None keeps the config's threshold.
        nms: replaces the config's `roi.nms`, and turns IoU-guided NMS off; None keeps the config's.

    Returns:
        The model, with `model.config` and `model.categories` (label i is categories[i − 1]).

    Raises:
        FileNotFoundError: there is no such file or name.
        ValueError: it is not a weights file, its tensors do not fit its own config (names them), or the model started
            as your own torchvision model (says how to load it).
    """
    path = find_weights(name_or_path)
    header = read_header(path)
    config = header.config
    if score_thresh is not None:
        config = replace(config, roi=replace(config.roi, score_thresh=score_thresh))
    if nms is not None:
        config = replace(config, roi=replace(config.roi, nms=nms), iou=replace(config.iou, guided_nms=False))
    model = build_detector(config)
    load_tensors(model, path)
    model.categories = header.categories
    return model.to(device).eval()


def load_tensors(model: nn.Module, path: Path, partly: bool = False) -> list[str]:
    """Load the tensors of a weights file into `model`, converted to the model's types.

    Args:
        model: the model to fill.
        path: a safetensors file.
        partly: allow tensors that are missing in the file or have another shape; the model keeps its own.

    Returns:
        The names of the tensors that the model kept; empty unless `partly`.

    Raises:
        ValueError: without `partly`, a tensor is missing, unknown to the model or of another shape; names them. With
            `partly`, most of the backbone does not fit.
    """
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error})") from error
    own = model.state_dict()
    fitting = {k: v for k, v in stored.items() if k in own and v.shape == own[k].shape}
    left = [k for k in own if k not in fitting]
    if not partly:
        problems = [
            f"{k} is {tuple(stored[k].shape)}, not {tuple(own[k].shape)}" if k in stored else f"{k} is missing"
            for k in left
        ] + [f"{k} is unknown" for k in stored if k not in own]
        if problems:
            raise WeightsError(f"{path} does not fit the model: {_listed(problems)}")
    else:
        body = [k for k in own if k.startswith("backbone.")]
        fits = sum(k in fitting for k in body)
        if 2 * fits < len(body):  # a few norms fit even in a different network
            raise WeightsError(
                f"{path} has {fits} of the {len(body)} tensors of the model's backbone; give weights of the same "
                "backbone"
            )
    model.load_state_dict(fitting, strict=False)
    return left


def start_from(model: Detector, source: str | Path) -> list[str]:
    """Load weights into `model` to start training from.

    Args:
        model: the model to fill.
        source: one of
            - "torchvision": downloads the COCO weights of a torchvision detector (network needed). It is the builder
              that `model.config.backbone.name` names, or otherwise the one with ResNet-50 and FPN.
            - a file that ends in .pth: a state dict of that torchvision detector.
            - a weights file of tsdlab, or the name of shipped weights.

    Returns:
        The names of the tensors that the model kept. With a tsdlab file, those that are missing in the file or have
        another shape; with torchvision's weights, only output layers for another number of classes.

    Raises:
        FileNotFoundError: there is no such file or name.
        ValueError: the weights do not fit; names them.
    """
    if source != "torchvision" and Path(source).suffix != ".pth":
        return load_tensors(model, find_weights(source), partly=True)
    name = model.config.backbone.name
    builder = name.removeprefix(TORCHVISION) if name.startswith(TORCHVISION) else "fasterrcnn_resnet50_fpn"
    theirs = torchvision_model(source, builder)  # type: ignore[arg-type]
    fold_epsilon(theirs)
    return load_torchvision(model, theirs.state_dict())


def load_torchvision(model: Detector, state_dict: dict[str, Tensor]) -> list[str]:
    """Load a torchvision Faster R-CNN with FPN into the backbone, the RPN and the head's `torchvision_modules`.

    The branches of TSD and D_head become copies of torchvision's layers, so that they detect as torchvision does until
    they are trained. torchvision pools with `aligned=False`: for equal detections, build the model with
    `roi.aligned=False`.

    Returns:
        The names of the output layers that were not loaded, because torchvision's have another number of classes.

    Raises:
        ValueError: a weight is missing, unknown to the model or of another shape; names them.
    """
    own = model.state_dict()
    modules = model.roi_heads.head.torchvision_modules
    renamed = _renamed(state_dict, modules)
    places = {f"roi_heads.head.{place}.": module for module, group in modules.items() for place in group}
    expected = {k for k in own if k.startswith(("backbone.", "rpn.", *places))}
    # BatchNorm counts batches, torchvision's FrozenBatchNorm2d does not. A deformable convolution's offsets are new.
    missing = {k for k in expected - renamed.keys() if not k.endswith("num_batches_tracked") and ".offset." not in k}
    unknown = {k for k in renamed.keys() - own.keys() if not k.endswith("num_batches_tracked")}
    misfits = {k for k, v in renamed.items() if k in own and v.shape != own[k].shape}
    outputs = tuple(place for place, module in places.items() if module.startswith("box_predictor"))
    # An output layer may have another number of classes (rows), but not other features (columns).
    left = {k for k in misfits if k.startswith(outputs) and renamed[k].shape[1:] == own[k].shape[1:]}
    problems = [f"{k} is missing" for k in sorted(missing)] + [f"{k} is unknown" for k in sorted(unknown)]
    problems += [f"{k} is {tuple(renamed[k].shape)}, not {tuple(own[k].shape)}" for k in sorted(misfits - left)]
    if problems:
        raise WeightsError(f"these torchvision weights do not fit the model: {_listed(problems)}")
    model.load_state_dict({k: v for k, v in renamed.items() if k in own and k not in left}, strict=False)
    return sorted(left)


def _renamed(state_dict: dict[str, Tensor], modules: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """A torchvision detector's tensors under the names that they have in ours; `modules` are `torchvision_modules`."""
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key.startswith("roi_heads."):
            name = key.removeprefix("roi_heads.")
            for module, places in modules.items():
                if name.startswith(f"{module}."):
                    renamed |= {f"roi_heads.head.{place}{name.removeprefix(module)}": value for place in places}
        else:
            renamed[key] = value
    return renamed


def _listed(problems: list[str], most: int = 8) -> str:
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more


def import_torchvision(
    out: Path,
    source: str | Path = "torchvision",
    head: HeadName = "sibling",
    builder: PublishedName = "fasterrcnn_resnet50_fpn",
) -> Detector:
    """Convert a torchvision Faster R-CNN to a weights file of tsdlab.

    Args:
        out: the file to write.
        source: "torchvision" downloads its COCO weights (network needed); otherwise a local .pth state dict.
        head: the second stage (see `from_torchvision`).
        builder: which of torchvision's detectors it is.

    Returns:
        The imported model, in eval mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a state dict, or not that of this detector.
    """
    model = from_torchvision(torchvision_model(source, builder), head)
    names = get_model_weights(builder).DEFAULT.meta["categories"][1:]
    if model.config.num_classes != len(names):
        names = [f"class {label}" for label in range(1, model.config.num_classes + 1)]
    model.categories = tuple(Category(label, name) for label, name in enumerate(names, 1))
    save_weights(out, model, model.categories, half=False, origin={"source": str(source), "builder": builder})
    return model.eval()


def torchvision_model(source: str | Path, builder: PublishedName) -> FasterRCNN:
    """One of torchvision's detectors, with its weights.

    Args:
        source: "torchvision" downloads the COCO weights (network needed); otherwise a local .pth state dict, with any
            number of classes.
        builder: the function in torchvision.models.detection that makes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a state dict, or not that of this detector.
    """
    if source == "torchvision":
        return get_model(builder, weights="DEFAULT")
    path = Path(source)
    state = _read_state_dict(path)
    # torchvision runs this one file with an ε of 0 in its norms, which are frozen.
    without_epsilon = path.name == Path(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url).name
    counts = any(key.endswith("num_batches_tracked") for key in state)  # batch norms count them, frozen norms do not
    backbone = BackboneConfig(norm="batch" if counts and not without_epsilon else "frozen")
    model = published_model(builder, len(state["roi_heads.box_predictor.cls_score.weight"]) - 1, backbone)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit torchvision's {builder}: {shorten(str(error), 400)}") from error
    if without_epsilon:
        overwrite_eps(model, 0.0)
    return model


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise MissingFileError(f"there is no weights file {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling unknown bytes can raise anything
        raise WeightsError(
            f"{path} is not a readable state dict ({type(error).__name__}); save one with "
            "torch.save(model.state_dict(), path)"
        ) from error
    for key in ("model", "state_dict"):  # training scripts often save it under such a key, with the optimizer's state
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or "roi_heads.box_predictor.cls_score.weight" not in state:
        raise WeightsError(f"{path} is not the state dict of a torchvision Faster R-CNN with FPN")
    return state
