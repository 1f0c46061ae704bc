"""Batches of a dataset, loaded by worker processes.

Workers read, decode and draw random numbers. What they send is small: images as bytes, and what is to be done to them.
The process that iterates makes numbers of the bytes and changes them, on the device where they are needed.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tsdlab.data.coco import CocoDataset, Target
from tsdlab.data.stored import StoredImage
from tsdlab.errors import LoaderError, TsdlabError

Item = tuple[StoredImage, Target]
Image = TypeVar("Image")  # a tensor, or a StoredImage


def batch_loader(
    dataset: CocoDataset,
    batches: Iterable[list[Any]],
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> BatchLoader:
    """A loader that yields `(images, targets)` for every batch.

    Each image is that of `dataset[key]`, on `device`. On the CPU it is the same bit for bit, with any number of
    workers; a GPU rounds differently.

    Iterating it leaves the global random state as it is: training resumes exactly, and evaluating does not change it.

    Args:
        dataset: where the images come from.
        batches: the keys of `dataset` in each batch, such as `TrainingBatches`.
        workers: processes that load images; 0 loads them in this process.
        device: where the images are needed. Targets stay on the CPU.

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
        pin_memory=torch.device(device).type == "cuda",
    )
    return BatchLoader(loader, device)


class BatchLoader:
    """The batches of a loader. It raises the errors that came with them.

    Attributes:
        waited: the share 0…1 of the time of the last iteration that was spent waiting for files to be read and decoded.
            It starts with the first batch, for which workers have to start.
    """

    def __init__(self, loader: DataLoader, device: torch.device | str = "cpu") -> None:
        self._loader, self._device = loader, device
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = self._start()
        batch: Any
        self.waited, waiting, begin = 0.0, 0.0, math.nan
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if not any(part in str(error) for part in _PARTS_THAT_DIE):
                    raise
                raise LoaderError(_why_died(getattr(batches, "_workers", []))) from error
            if isinstance(batch, Exception):
                raise batch
            arrived = time.perf_counter()
            if math.isnan(begin):
                begin = arrived
            else:
                waiting += arrived - asked
                self.waited = waiting / (arrived - begin)
            stored, targets = batch
            yield [image.image(self._device) for image in stored], targets

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


_PARTS_THAT_DIE = ("DataLoader worker", "Pin memory thread")  # as torch's messages begin; the second dies of the first
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

    def __getitem__(self, key: Any) -> Item | Exception:
        try:
            # A class that reads its items in its own way is asked for those.
            if type(self._dataset).__getitem__ is CocoDataset.__getitem__:
                return self._dataset.stored(key)
            image, target = self._dataset[key]
            return StoredImage(image), target
        except (TsdlabError, OSError) as error:
            return error


def _collate_unless_error(batch: Sequence[Item | Exception]) -> tuple[list[StoredImage], list[Target]] | Exception:
    for item in batch:
        if isinstance(item, Exception):
            return item
    images, targets = collate(batch)  # type: ignore[arg-type]
    if get_worker_info() is not None:
        # Left to torch, this happens in a thread, whose error nobody sees: the main process would wait for ever.
        try:
            pixels = [image.pixels for image in images]
            for tensor in (*pixels, *(value for target in targets for value in target.values())):
                if isinstance(tensor, Tensor):
                    tensor.share_memory_()
        except (RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0]
            return LoaderError(f"a process that loads images cannot share an image ({reason}); {_REMEDY}")
    return images, targets


def collate(batch: Sequence[tuple[Image, Target]]) -> tuple[list[Image], list[Target]]:
    """A batch as torchvision's detectors take it: a list of images of any size and a list of targets."""
    images, targets = zip(*batch)
    return list(images), list(targets)


def _leave_process_group(worker: int) -> None:
    """Keep Ctrl-C, which goes to the whole group, from a worker process: the main process decides when to stop."""
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)
