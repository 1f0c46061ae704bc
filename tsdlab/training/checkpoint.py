"""The checkpoint file, and the random number generators' states in it."""

from __future__ import annotations

import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsdlab.errors import CheckpointError, MissingFileError
from tsdlab.files import atomic_write


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
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            raise CheckpointError(f"{path} is not a readable checkpoint ({damaged} is damaged)")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def rng_state() -> dict[str, Any]:
    """The state of every global random number generator of this process, as plain values and tensors."""
    version, keys, gauss = random.getstate()
    name, words, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (a library may use it)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": (name, [int(w) for w in words], position, has_gauss, cached),
        "python": (version, keys, gauss),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Set every generator to a state that `rng_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    name, words, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(words, np.uint32), position, has_gauss, cached))  # noqa: NPY002
    random.setstate(state["python"])
