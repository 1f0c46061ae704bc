"""Where to compute: the one reading of `--device`, and the processes of torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import distributed

from tsdlab.errors import InputError

Device = Literal["auto", "cpu", "cuda"]


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """ "auto" is CUDA where there is one.

    Raises:
        ValueError: "cuda" where there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("device is cuda, but torch sees no CUDA device")
    return "cuda" if available and device != "cpu" else "cpu"


@contextmanager
def joined_processes() -> Iterator[bool]:
    """Join the processes that torchrun started, if it did; yields whether this one speaks for all of them.

    Each then computes on a CUDA device of its own, where there are any. Training joins its processes by itself.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("gloo")  # what is sent are numbers of the CPU
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()
