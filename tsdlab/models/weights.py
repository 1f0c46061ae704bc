"""Weights as safetensors files that carry their config and categories: save, read, load, import."""

from __future__ import annotations

import importlib.metadata
import json
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
from tsdlab.config import TORCHVISION, BackboneConfig, Config, HeadName, config_from_dict
from tsdlab.errors import InputError, MissingFileError
from tsdlab.files import atomic_write
from tsdlab.models.build import build_detector, from_torchvision, load_torchvision
from tsdlab.models.detector import Detector
from tsdlab.models.torchvision_start import PublishedName, fold_epsilon, published_model
from tsdlab.structures import Category

_HEADER = "tsdlab"  # key of the safetensors metadata


@dataclass(frozen=True)
class WeightsHeader:
    """What a weights file says about itself."""

    config: Config
    categories: tuple[Category, ...]  # label i is categories[i − 1]
    version: str  # of tsdlab, when it was written
    origin: dict[str, Any]  # where the weights come from: step, metrics, source, …

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def save_weights(
    path: Path,
    model: nn.Module,
    categories: tuple[Category, ...],
    half: bool = True,
    origin: dict[str, Any] | None = None,
) -> None:
    """Write the weights of `model` (which has a `config`) atomically.

    With `half`, matrices and kernels are stored in float16 and come back as float32. Vectors (biases, norms
    and their statistics) stay float32: they weigh nothing. So does a tensor with a value beyond float16.
    """
    config: Config = model.config  # type: ignore[assignment]
    tensors = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    header = WeightsHeader(config, categories, importlib.metadata.version("tsdlab"), origin or {})
    with atomic_write(path) as file:
        # One entry: safetensors writes several in random order, and equal weights should be equal files.
        file.write(to_bytes(tensors, {_HEADER: json.dumps(header.as_dict())}))


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if half and tensor.is_floating_point() and tensor.dim() > 1:
        small = tensor.half()
        if torch.equal(small.isfinite(), tensor.isfinite()):
            return small
    return tensor


def read_header(path: Path) -> WeightsHeader:
    """What the file at `path` says about itself, without reading its tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a weights file of tsdlab.
    """
    if not path.is_file():
        raise MissingFileError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); a run's is called weights.safetensors"
        ) from error
    try:
        header = json.loads(metadata[_HEADER])
        return WeightsHeader(
            config=config_from_dict(header["config"]),
            categories=tuple(Category(**category) for category in header["categories"]),
            version=header["version"],
            origin=header["origin"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} has no readable tsdlab header ({error!r}): was it written by save_weights?"
        ) from error


def shipped_weights() -> dict[str, Path]:
    """The weights that come with tsdlab, by name."""
    return {path.stem: path for path in sorted(shipped.WEIGHTS.glob("*.safetensors"))}


def find_weights(name_or_path: str | Path) -> Path:
    """The file behind a shipped name or a path.

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
    """A detector in eval mode, ready to use.

    Args:
        name_or_path: shipped weights by name ("badges-tsd"), or a file.
        device: where it goes.
        score_thresh: detections below it are dropped; None keeps the config's.
        nms: as `roi.nms` of the config, and in the place of IoU-guided NMS; None keeps the config's.

    Returns:
        The model, with `model.config` and `model.categories` (label i is categories[i − 1]).

    Raises:
        FileNotFoundError: no such file or name.
        ValueError: not a weights file, or tensors that do not fit its own config; names them. Or weights that began
            as a torchvision model of one's own; says how to load them.
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
    """Fill `model` with the tensors of a weights file, in the model's own types.

    Args:
        model: what is filled.
        path: a safetensors file.
        partly: keep what is missing in the file, or of another shape, as it is in the model.

    Returns:
        The names of the model's tensors that were left as they were; none unless `partly`.

    Raises:
        ValueError: a tensor is missing, unknown to the model or misshapen (unless `partly`); names them. With
            `partly`, nothing fits.
    """
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error})") from error
    own = model.state_dict()
    fitting = {k: v for k, v in stored.items() if k in own and v.shape == own[k].shape}
    left = [k for k in own if k not in fitting]
    if not partly:
        problems = [
            f"{k} is {tuple(stored[k].shape)}, not {tuple(own[k].shape)}" if k in stored else f"{k} is missing"
            for k in left
        ] + [f"{k} is unknown" for k in stored if k not in own]
        if problems:
            more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
            raise InputError(f"{path} does not fit its model: {'; '.join(problems[:8])}{more}")
    else:
        body = [k for k in own if k.startswith("backbone.")]
        fits = sum(k in fitting for k in body)
        if 2 * fits < len(body):  # some norms of any network fit those of another
            raise InputError(
                f"{path} fits {fits} of the {len(body)} tensors of the model's backbone: is it of another?"
            )
    model.load_state_dict(fitting, strict=False)
    return left


def start_from(model: Detector, source: str | Path) -> list[str]:
    """Fill `model` with weights to train on from.

    Args:
        model: what is filled.
        source: "torchvision" downloads the COCO weights of its detector (network needed), a file that ends in .pth
            is a state dict of it; the detector is the builder that `model.config.backbone.name` names, or else
            ResNet-50 with FPN. Otherwise shipped weights by name, or a weights file of ours.

    Returns:
        The names of the model's tensors that stay as they were: what is missing in our file or of another shape
        there; of torchvision's only outputs for another number of classes.

    Raises:
        FileNotFoundError: no such file or name.
        ValueError: the weights do not fit; names them.
    """
    if source != "torchvision" and Path(source).suffix != ".pth":
        return load_tensors(model, find_weights(source), partly=True)
    name = model.config.backbone.name
    builder = name.removeprefix(TORCHVISION) if name.startswith(TORCHVISION) else "fasterrcnn_resnet50_fpn"
    theirs = torchvision_model(source, builder)  # type: ignore[arg-type]
    fold_epsilon(theirs)
    return load_torchvision(model, theirs.state_dict())


def import_torchvision(
    out: Path,
    source: str | Path = "torchvision",
    head: HeadName = "sibling",
    builder: PublishedName = "fasterrcnn_resnet50_fpn",
) -> Detector:
    """Turn a Faster R-CNN of torchvision into a weights file of ours.

    Args:
        out: the file to write.
        source: "torchvision" downloads its COCO weights (network needed); otherwise a local .pth state dict.
        head: the second stage (see `from_torchvision`).
        builder: which of torchvision's detectors it is.

    Returns:
        The imported model, in eval mode.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a state dict, or not of this detector.
    """
    model = from_torchvision(torchvision_model(source, builder), head)
    names = get_model_weights(builder).DEFAULT.meta["categories"][1:]  # index is COCO's category id, with "N/A" holes
    if model.config.num_classes != len(names):
        names = [f"class {label}" for label in range(1, model.config.num_classes + 1)]
    model.categories = tuple(Category(label, name) for label, name in enumerate(names, 1))
    save_weights(out, model, model.categories, half=False, origin={"source": str(source), "builder": builder})
    return model.eval()


def torchvision_model(source: str | Path, builder: PublishedName) -> FasterRCNN:
    """One of torchvision's detectors, with its weights.

    Args:
        source: "torchvision" downloads the COCO weights (network needed); otherwise a local .pth state dict, of any
            number of classes.
        builder: the function of torchvision.models.detection that makes it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a state dict, or not of this detector.
    """
    if source == "torchvision":
        return get_model(builder, weights="DEFAULT")
    path = Path(source)
    state = _read_state_dict(path)
    # This one file is run with an ε of 0 in its norms, as torchvision does; they are frozen.
    without_epsilon = path.name == Path(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url).name
    counts = any(key.endswith("num_batches_tracked") for key in state)  # as batch norms do, and frozen ones do not
    backbone = BackboneConfig(norm="batch" if counts and not without_epsilon else "frozen")
    model = published_model(builder, len(state["roi_heads.box_predictor.cls_score.weight"]) - 1, backbone)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit torchvision's {builder}: {shorten(str(error), 400)}") from error
    if without_epsilon:
        overwrite_eps(model, 0.0)
    return model


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise MissingFileError(f"no weights at {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets foreign bytes and may fail in any way
        raise InputError(
            f"{path} is not a readable state dict ({type(error).__name__}); save one by "
            "torch.save(model.state_dict(), path)"
        ) from error
    for key in ("model", "state_dict"):  # as training scripts keep it, beside the optimizer's
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or "roi_heads.box_predictor.cls_score.weight" not in state:
        raise InputError(f"{path} is not the state dict of a torchvision Faster R-CNN with FPN")
    return state
