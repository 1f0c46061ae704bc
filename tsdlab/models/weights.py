"""Weights as safetensors files that carry their config and categories: save, read, load."""

from __future__ import annotations

import importlib.metadata
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from tsdlab import shipped
from tsdlab.config import Config, config_from_dict
from tsdlab.device import as_device
from tsdlab.errors import InputError, MissingFileError, WeightsError, listed
from tsdlab.files import atomic_write
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.randomness import drawing_from
from tsdlab.ranges import check_fields, check_value
from tsdlab.structures import Category

_HEADER = "tsdlab"  # key of the safetensors metadata
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


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
    overwrite: bool = True,
) -> None:
    """Write the weights of `model` (which has a `config`) atomically.

    Args:
        path: the file to write.
        model: a `Detector`.
        categories: what the labels mean: label i is categories[i − 1].
        half: store matrices and kernels in float16; they are loaded as float32. Vectors (biases, norms and their
            statistics) stay float32 because they are small, and so does a tensor with a value beyond float16's range.
        origin: where the weights come from; plain values for JSON.
        overwrite: whether an older file is replaced.

    Raises:
        ExistingFileError: `path` exists, and `overwrite` is False.
        InputError: there is not one category per class, or two have the same name or id.
    """
    config: Config = model.config  # type: ignore[assignment]
    tensors = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    header = WeightsHeader(config, categories, importlib.metadata.version("tsdlab"), origin or {})
    _check_header(header)
    with atomic_write(path, overwrite) as file:
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
        ValueError: it is not a weights file of tsdlab, or its header contradicts itself; names what is wrong.
    """
    metadata, _ = _describe(path)
    if _HEADER not in metadata:
        raise WeightsError(
            f"{path} has no tsdlab header; give a file that tsdlab has written. `tsdlab weights import-torchvision` "
            "makes one of a torchvision detector"
        )
    try:
        header = _parse(json.loads(metadata[_HEADER]))
        _check_header(header)
    except InputError as error:
        raise WeightsError(f"{path}: its header is not sound: {_brief(error)}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} has no readable tsdlab header ({_brief(repr(error))}); give a file that tsdlab has written"
        ) from error
    return header


def has_header(path: Path) -> bool:
    """Whether the file at `path` is a safetensors file with a header of tsdlab, sound or not."""
    return is_safetensors(path) and _HEADER in _describe(path)[0]


def is_safetensors(path: Path) -> bool:
    """Whether the file at `path` can be read as a safetensors file."""
    try:
        _describe(path)
    except WeightsError:
        return False
    return True


def _describe(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The metadata of a safetensors file, and the shapes of its tensors."""
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, shapes
    except (SafetensorError, OSError, UnicodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is not a readable safetensors file ({_brief(error)}); a training run's is called weights.safetensors"
    )


def require_file(path: Path) -> None:
    """Check that `path` is a regular file, without opening it: a pipe would wait for a writer.

    Raises:
        MissingFileError: there is nothing, or not a file.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise MissingFileError(f"there is no weights file {_brief(path)}") from error
    if not stat.S_ISREG(mode):
        raise MissingFileError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no file'}; give a weights file")


def _parse(values: Any) -> WeightsHeader:
    if not isinstance(values, dict):
        raise InputError(f"it must be a JSON object, got a {type(values).__name__}")
    if not isinstance(values["categories"], list):
        raise InputError(f"categories must be a list, got a {type(values['categories']).__name__}")
    for category in values["categories"]:
        if not isinstance(category, dict) or category.keys() != {"id", "name"}:
            raise InputError(f"every category must have an id and a name, got {category!r}")
    return WeightsHeader(
        config=config_from_dict(_complete(values["config"])),
        categories=tuple(Category(**category) for category in values["categories"]),
        version=values["version"],
        origin=values["origin"],
    )


# Fields that tsdlab's first weights files do not have, with the values that were built in then.
_BUILT_IN: dict[str, Any] = {
    "backbone.deformable_stages": (),
    "roi.loss_weight": 1.0,
    "roi.nms": "hard",
    "roi.soft_nms_sigma": 0.5,
    "double": {},  # there was no such head
    "iou": {},  # nor this one
    "tsd.share_first_layer": True,
    "tsd.classification_region": "bins",
    "tsd.localization_region": "proposal",
    "tsd.joint_sibling": True,
    "tsd.constraint_teaches_sibling": False,
    "tsd.offsets_teach_features": True,
}


# Fields that came later, with what weights files without them were written with.
_ADDED: dict[str, Any] = {"train.keep_every": 0, "train.patience": 0}


def _complete(config: Any) -> Any:
    """The config of a header with every field: a default could be another value than the weights were trained with.

    Raises:
        InputError: a field is missing; names it.
    """
    if not isinstance(config, dict):
        return config  # config_from_dict says what is wrong
    missing = _missing(asdict(Config()), config)
    unknown = [name for name in missing if name not in _ADDED]
    built_in = _BUILT_IN if set(unknown) == set(_BUILT_IN) else {}
    if unknown and not built_in:
        raise InputError(f"its config lacks {', '.join(unknown)}; the file was changed after it was written")
    for name, value in {**built_in, **{name: _ADDED[name] for name in missing if name in _ADDED}}.items():
        section, _, field = name.rpartition(".")
        (config[section] if section else config)[field] = value
    return config


def _missing(wanted: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names such as "image" or "image.min_size" of the fields that are not given."""
    found = []
    for name, value in wanted.items():
        if name not in given:
            found.append(prefix + name)
        elif isinstance(value, dict) and isinstance(given[name], dict):
            found += _missing(value, given[name], f"{name}.")
    return found


def _check_header(header: WeightsHeader) -> None:
    """Raises InputError if a part of the header has another type, or the categories are not those of the config."""
    check_value("version", header.version, str)
    check_value("origin", header.origin, dict)
    for category in header.categories:
        check_fields(category, "categories: ")
    if len(header.categories) != header.config.num_classes:
        raise InputError(
            f"there are {len(header.categories)} categories for {header.config.num_classes} classes; there must be one "
            "for each"
        )
    for field in ("name", "id"):
        seen: set[Any] = set()
        for value in (getattr(category, field) for category in header.categories):
            if value in seen:
                raise InputError(f"two categories have the {field} {value!r}; they must differ")
            seen.add(value)


def _brief(text: object) -> str:
    """On one line, at most 300 characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else f"{line[:299]}…"


def shipped_weights() -> dict[str, Path]:
    """The weights that come with tsdlab: name → file."""
    return {path.stem: path for path in sorted(shipped.WEIGHTS.glob("*.safetensors"))}


def find_weights(name_or_path: str | Path) -> Path:
    """The weights file of a shipped name, or of a path.

    Raises:
        FileNotFoundError: it is neither; lists the shipped names.
        InputError: it is neither a text nor a path.
    """
    if not isinstance(name_or_path, str | Path):
        raise InputError(f"weights must be the name of shipped weights or a file, got a {type(name_or_path).__name__}")
    names = shipped_weights()
    if str(name_or_path) in names:
        return names[str(name_or_path)]
    path = Path(name_or_path)
    try:
        require_file(path)
    except MissingFileError as error:
        if os.path.isdir(path):  # noqa: PTH112 - no error for what no file can be called
            inside = sorted(file.name for file in path.glob("*.safetensors"))
            what = f"it has {', '.join(inside)}" if inside else "it has none; a run writes them at its first evaluation"
            raise MissingFileError(f"{_brief(str(path))} is a folder; give a weights file: {what}") from error
        raise MissingFileError(
            f"{_brief(repr(str(name_or_path)))} is neither a file nor shipped; shipped: {', '.join(names) or 'none'}"
        ) from error
    return path


def load_detector(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    score_thresh: float | None = None,
    nms: Literal["hard", "linear", "gaussian"] | None = None,
) -> Detector:
    """Load a detector from a weights file; it is in eval mode. Nothing is downloaded.

    Args:
        name_or_path: the name of shipped weights ("badges-tsd"), or a file.
        device: the device to put it on.
        score_thresh: drop detections with lower scores; None keeps the config's threshold.
        nms: replaces the config's `roi.nms`, and turns IoU-guided NMS off; None keeps the config's.

    Returns:
        The model, with `model.config` and `model.categories` (label i is categories[i − 1]).

    Raises:
        FileNotFoundError: there is no such file or name.
        ValueError: it is not a weights file, its tensors are not those of its own config or not finite (names them),
            torch has no such device, or the model started as your own torchvision model (says how to load it).
    """
    device = as_device(device)
    path = find_weights(name_or_path)
    header = read_header(path)
    config = header.config
    if score_thresh is not None:
        config = replace(config, roi=replace(config.roi, score_thresh=score_thresh))
    if nms is not None:
        config = replace(config, roi=replace(config.roi, nms=nms), iou=replace(config.iou, guided_nms=False))
    try:
        # Without memory at first: a header may ask for more than there is.
        with torch.device("meta"):
            planned = build_detector(config)
        _check_shapes(path, _describe(path)[1], planned.state_dict())
        with drawing_from({"cpu": torch.Generator()}):  # what it draws is replaced; others' numbers stay as they are
            model = build_detector(config)
    except WeightsError:
        raise
    except InputError as error:
        raise WeightsError(f"{path}: {error}") from error
    load_tensors(model, path)
    model.categories = header.categories
    return model.to(device).eval()


def load_tensors(model: nn.Module, path: Path) -> None:
    """Load the tensors of a weights file into `model`, converted to the model's types.

    Args:
        model: the model to fill.
        path: a safetensors file.

    Raises:
        ValueError: a tensor is missing, unknown to the model, of another shape or kind, or not finite; names it.
    """
    stored, own = read_tensors(path), model.state_dict()
    _check_shapes(path, {name: tuple(tensor.shape) for name, tensor in stored.items()}, own)
    converted = {name: convert(path, name, tensor, own[name].dtype) for name, tensor in stored.items()}
    model.load_state_dict(converted)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    require_file(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, UnicodeError) as error:
        raise _unreadable(path, error) from error


def convert(path: str | Path, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of a weights file in the type that a model has it in.

    Raises:
        WeightsError: it is no such number, or has a value that a detector cannot compute with; names file and tensor.
    """
    if tensor.dtype != dtype and not {tensor.dtype, dtype} <= _FLOATS:
        raise WeightsError(f"{path}: {name} is {tensor.dtype}, not {dtype}")
    converted = tensor.to(dtype)
    if not bool(torch.isfinite(converted).all()):
        raise WeightsError(f"{path}: {name} has values that are NaN or infinite; these weights cannot detect anything")
    if name.endswith("running_var") and bool((converted < 0).any()):
        raise WeightsError(f"{path}: {name} has negative variances; these weights cannot detect anything")
    return converted


def _check_shapes(path: Path, stored: Mapping[str, tuple[int, ...]], own: Mapping[str, Tensor]) -> None:
    """Raises WeightsError if these are not the shapes of a model's own tensors; names those that differ."""
    problems = [f"{name} is missing" for name in own if name not in stored]
    problems += [
        f"{name} is {stored[name]}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in stored and stored[name] != tuple(tensor.shape)
    ]
    problems += [f"{name} is unknown" for name in stored if name not in own]
    if problems:
        raise WeightsError(f"{path} does not fit the model: {first_misfits(problems)}")


def first_misfits(problems: list[str]) -> str:
    """The first few of what does not fit, on one line."""
    return listed(problems, separator="; ", last="; and ", limit=120)
