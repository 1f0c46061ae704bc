"""Batches of a dataset, loaded by worker processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tsdlab.data.coco import CocoDataset, Target
from tsdlab.errors import LoaderError, TsdlabError

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
        LoaderError: while iterating, a worker has died, or there is no more memory that it can share.
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
        batches = self._start()
        batch: Any
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise LoaderError(_why_died(getattr(batches, "_workers", []))) from error
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def _start(self) -> Iterator[Any]:
        """Start the workers."""
        handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None  # not on Windows
        try:
            batches = iter(self._loader)
        except OSError as error:
            raise LoaderError(
                f"cannot start {self._loader.num_workers} processes that load images ({error.strerror}); {_REMEDY}"
            ) from error
        # torch's handler would raise the death of a worker in whatever this process does at that moment. Without it,
        # the death is noticed when the next batch is needed, after five seconds at most.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
        return batches


_REMEDY = "use fewer of them (train.workers of a run, --workers of eval; 0 loads images in the main process)"


def _why_died(workers: Sequence[Any]) -> str:
    """What the end of a worker process says about its cause."""
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    if codes and codes[0] < 0:
        name = signal.Signals(-codes[0]).name
        cause = {
            "SIGKILL": "the system does this when memory runs out",
            "SIGBUS": "shared memory (/dev/shm) may be full",
        }.get(name, "memory may have run out, or a file made a decoder crash")
        return f"a process that loads images was ended by {name}: {cause}; {_REMEDY}"
    return f"a process that loads images has ended before its work was done; {_REMEDY}"


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
    images, targets = collate(batch)  # type: ignore[arg-type]
    if get_worker_info() is not None:
        # Left to torch, this happens in a thread, whose error nobody sees: the main process would wait for ever.
        try:
            for tensor in (*images, *(value for target in targets for value in target.values())):
                if isinstance(tensor, Tensor):
                    tensor.share_memory_()
        except (RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0]
            return LoaderError(f"a process that loads images cannot share an image ({reason}); {_REMEDY}")
    return images, targets


def collate(batch: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """A batch as torchvision's detectors take it: a list of images of any size and a list of targets."""
    images, targets = zip(*batch)
    return list(images), list(targets)


def _leave_process_group(worker: int) -> None:
    """Keep Ctrl-C, which goes to the whole group, from a worker process: the main process decides when to stop."""
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)
