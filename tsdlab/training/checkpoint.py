"""The checkpoint file: written, read, and its parts compared with those that a run writes."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from tsdlab.errors import CheckpointError, MissingFileError
from tsdlab.files import atomic_write, naming


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, and lists, tuples and dicts of them) atomically."""
    with atomic_write(path) as file:
        torch.save(content, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU. Only tensors and plain values are ever unpickled.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is incomplete, damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise MissingFileError(f"no checkpoint at {path}")
    try:
        with naming(path), zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            raise CheckpointError(f"{path} is not a readable checkpoint ({damaged} is damaged)")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, CheckpointError):
        raise
    except Exception as error:  # whatever damage makes zipfile and the unpickler raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def require_like(path: Path, name: str, value: Any, like: Any) -> None:
    """Check a part of a checkpoint: it has the type, the shape and the keys of `like`, and its numbers are finite.

    Raises:
        CheckpointError: it does not; says where in `path` and what was found.
    """
    problem = _problem(name, value, like)
    if problem is not None:
        refuse_part(path, problem)


def refuse_part(path: Path, problem: str) -> NoReturn:
    """Raises the CheckpointError that all wrong parts of a checkpoint share."""
    raise CheckpointError(
        f"{path} is damaged: {problem}. Restore the file from a copy, or start again in another --out"
    )


def _problem(name: str, value: Any, like: Any) -> str | None:
    if isinstance(like, Tensor):
        return _tensor_problem(name, value, like)
    if isinstance(like, dict):
        if not isinstance(value, dict):
            return f"{name} must be a dict, got {_kind(value)}"
        if value.keys() != like.keys():
            wrong = sorted(map(str, value.keys() ^ like.keys()))
            return f"{name} must have the keys of this model; {_short(wrong[0])} is missing or unknown"
        parts = [(f"{name}[{_short(key)}]", value[key], like[key]) for key in like]
    elif isinstance(like, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(like):
            return f"{name} must be a list of {len(like)}, got {_kind(value)}"
        parts = [(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(value, like))]
    elif isinstance(like, float):
        valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if valid else f"{name} must be a finite number, got {_kind(value)}"
    else:
        return None if type(value) is type(like) else f"{name} must be {_kind(like)}, got {_kind(value)}"
    return next(filter(None, (_problem(*part) for part in parts)), None)


def _tensor_problem(name: str, value: Any, like: Tensor) -> str | None:
    if not isinstance(value, Tensor):
        return f"{name} must be a tensor, got {_kind(value)}"
    if (value.dtype, value.shape, value.layout) != (like.dtype, like.shape, like.layout):
        found, needed = (f"{t.dtype} {list(t.shape)}".removeprefix("torch.") for t in (value, like))
        return f"{name} must be {needed}, got {found}"
    if not bool(torch.isfinite(value).all()):
        return f"{name} has numbers that are not finite"
    return None


def _kind(value: Any) -> str:
    return f"{value!r:.50}" if isinstance(value, int | float | None) else f"a {type(value).__name__}"


def _short(value: object) -> str:
    return f"{value!s:.100}"
