"""Files of tensors as training scripts write them: .pth or .safetensors. Nothing but tensors and plain values is
unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsdlab.errors import WeightsError
from tsdlab.models.weights import convert, is_safetensors, read_tensors, require_file

_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.")  # torch.compile and FSDP write these into names, at any place


def read_content(path: Path) -> dict[Any, Any]:
    """What a file holds: tensors by name, or a dict around them, such as {"model": …, "optimizer": …}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or holds something else; says what to do.
    """
    require_file(path)
    content: Any = read_tensors(path) if is_safetensors(path) else _unpickle(path)
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}; save one with torch.save(model.state_dict(), path)"
        )
    if {"config", "categories", "optimizer", "rng"} <= content.keys():
        raise WeightsError(
            f"{path} is a checkpoint of tsdlab; give the run's weights.safetensors, or continue the run with --resume"
        )
    return content


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling unknown bytes can raise anything
        what = (
            "holds more than tensors and numbers, such as a whole model"
            if "Unsupported global" in str(error) or "Unsupported class" in str(error)
            else f"is not a readable state dict ({type(error).__name__})"
        )
        raise WeightsError(
            f"{path} {what}; save a state dict, where the file was made, with torch.save(model.state_dict(), path)"
        ) from error


def without_wrappers(content: dict[Any, Any]) -> dict[str, Any]:
    """The named entries of `content`, without what torch.compile and FSDP write into names."""
    plain: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(name, str):
            for wrapper in _WRAPPERS:
                name = name.replace(wrapper, "")
            plain[name] = value
    return plain


def plain_tensor(path: Path, name: str, tensor: Any) -> Tensor:
    """One entry of a state dict: dense, and in float32 unless it counts batches.

    Raises:
        WeightsError: it is no such tensor, or has values that are not finite; names file and tensor.
    """
    if not isinstance(tensor, Tensor):
        raise WeightsError(f"{path}: {name} is a {type(tensor).__name__}, not a tensor")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise WeightsError(f"{path}: {name} is sparse or quantized; save the weights as plain tensors")
    return tensor if name.endswith("num_batches_tracked") else convert(path, name, tensor, torch.float32)
