"""Where to compute: what `--device` means, and the processes of torchrun.

torch is imported when it is needed, so that the command line can describe `--device` without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from tsdlab.errors import InputError
from tsdlab.ranges import check_value

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """The device that was asked for; "auto" is CUDA where there is one.

    Raises:
        InputError: "cuda" was asked for, and torch sees none; or the name is another one.
    """
    import torch

    check_value("device", device, Device)
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("device is cuda, but torch sees no CUDA device")
    return "cuda" if available and device != "cpu" else "cpu"


def as_device(device: str | torch.device) -> torch.device:
    """A device that torch can compute on, by its name.

    Raises:
        InputError: there is no such device; names it.
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device must be one that torch has here, such as 'cpu' or 'cuda', got {device!r}") from error
    return found


@contextmanager
def joined_processes() -> Iterator[bool]:
    """Join the other processes of torchrun, if it started this one. Yields whether this process has rank 0.

    Each process computes on a CUDA device of its own, where there are any. Training joins its processes by itself.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("gloo")  # only numbers on the CPU are exchanged
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()
