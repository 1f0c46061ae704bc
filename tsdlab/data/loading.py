"""Batches of a dataset, loaded by worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tsdlab.data.coco import CocoDataset, Target
from tsdlab.errors import TsdlabError

Batch = tuple[list[Tensor], list[Target]]


def batch_loader(dataset: CocoDataset, batches: Iterable[list[Any]], workers: int = 0) -> BatchLoader:
    """A loader that yields `(images, targets)` for every batch.

    Iterating it leaves the global random state as it is: training resumes exactly, and evaluating does not change it.

    Args:
        dataset: where the images come from.
        batches: the keys of `dataset` in each batch, such as `TrainingBatches`.
        workers: processes that load images; 0 loads them in this process.

    Raises:
        TsdlabError, OSError: while iterating, an image cannot be read; the same error with any number of workers.
    """
    loader = DataLoader(
        _ErrorsAsItems(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate_unless_error,
        worker_init_fn=_leave_process_group,
        generator=torch.Generator(),  # otherwise the loader draws from the global one
    )
    return BatchLoader(loader)


class BatchLoader:
    """The batches of a loader. It raises the errors that came with them."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batch: Any
        for batch in self._loader:
            if isinstance(batch, Exception):
                raise batch
            yield batch


class _ErrorsAsItems(Dataset):
    """Returns the errors that a user can mend, which torch would otherwise raise with a traceback as their message."""

    def __init__(self, dataset: CocoDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, key: Any) -> tuple[Tensor, Target] | Exception:
        try:
            return self._dataset[key]
        except (TsdlabError, OSError) as error:
            return error


def _collate_unless_error(batch: Sequence[tuple[Tensor, Target] | Exception]) -> Batch | Exception:
    for item in batch:
        if isinstance(item, Exception):
            return item
    return collate(batch)  # type: ignore[arg-type]


def collate(batch: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """A batch as torchvision's detectors take it: a list of images of any size and a list of targets."""
    images, targets = zip(*batch)
    return list(images), list(targets)


def _leave_process_group(worker: int) -> None:
    """Keep Ctrl-C, which goes to the whole group, from a worker process: the main process decides when to stop."""
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)
