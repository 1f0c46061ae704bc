"""Batches of a dataset, loaded by worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tsdlab.data.coco import CocoDataset, Target


def batch_loader(dataset: CocoDataset, batches: Iterable[list[Any]], workers: int = 0) -> DataLoader:
    """A loader that yields `(images, targets)` for every batch.

    Iterating it leaves the global random state as it is: training resumes exactly, and evaluating does not change it.

    Args:
        dataset: where the images come from.
        batches: the keys of `dataset` in each batch, such as `TrainingBatches`.
        workers: processes that load images; 0 loads them in this process.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_leave_process_group,
        generator=torch.Generator(),  # otherwise the loader draws from the global one
    )


def collate(batch: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """A batch as torchvision's detectors take it: a list of images of any size and a list of targets."""
    images, targets = zip(*batch)
    return list(images), list(targets)


def _leave_process_group(worker: int) -> None:
    """Keep Ctrl-C, which goes to the whole group, from a worker process: the main process decides when to stop."""
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)
