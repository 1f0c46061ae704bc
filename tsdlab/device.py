"""Where to compute: the one reading of `--device`."""

from __future__ import annotations

from typing import Literal

import torch

Device = Literal["auto", "cpu", "cuda"]


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """ "auto" is CUDA where there is one.

    Raises:
        ValueError: "cuda" where there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("device is cuda, but torch sees no CUDA device")
    return "cuda" if available and device != "cpu" else "cpu"
