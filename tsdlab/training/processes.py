"""The processes of one run: how they are launched under torchrun, and what they tell one another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from tsdlab.config import TrainConfig
from tsdlab.device import Device, resolve_device
from tsdlab.errors import InputError, TsdlabError
from tsdlab.files import only_writer


def launch(train: TrainConfig, device: Device) -> Fabric:
    """Join the processes of torchrun, each with its own device; without torchrun there is one process.

    Raises:
        InputError: `device` is "cuda" and there is none, or the batch cannot be divided among the processes.
    """
    cuda = resolve_device(device) == "cuda"
    processes = int(os.environ.get("WORLD_SIZE", 1))
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if train.batch_size % processes:
        raise InputError(f"train.batch_size {train.batch_size} cannot be divided by {processes} processes")
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        strategy="ddp" if processes > 1 else "auto",
        devices=on_this_machine,
        num_nodes=processes // on_this_machine,
        precision=train.precision if cuda else "32-true",
    )
    fabric.launch()
    if not cuda and train.precision != "32-true":
        fabric.print(f"{train.precision} needs CUDA; on the CPU training runs in 32-true")
    return fabric


@contextmanager
def only_run(fabric: Fabric, out: Path) -> Iterator[None]:
    """`only_writer(out)` for all processes: the first one holds the lock, and an error of its reaches the others."""
    with ExitStack() as held:
        error: Exception | None = None
        if fabric.is_global_zero:
            try:
                held.enter_context(only_writer(out))
            except (TsdlabError, OSError) as caught:
                error = caught
        (error, *_) = gather(fabric, error)
        if error is not None:
            raise error
        yield


def gather(fabric: Fabric, value: Any) -> list[Any]:
    """`value` of every process, in order of rank."""
    if fabric.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def any_process(fabric: Fabric, decision: bool) -> bool:
    """Whether `decision` is true in any process. All get the same answer, so they act at the same step."""
    if fabric.world_size == 1:
        return decision
    return bool(fabric.strategy.reduce_boolean_decision(decision, all=False))


def share_buffers(fabric: Fabric, model: nn.Module) -> None:
    """Copy the first process's buffers (batch statistics) to all, so that all evaluate the model that is saved."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
