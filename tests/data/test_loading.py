"""Batches of images of any size."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_folders import image_entry, write_split

from tsdlab.data.coco import CocoDataset
from tsdlab.data.loading import batch_loader, collate
from tsdlab.errors import DataError, LoaderError


def test_collate_keeps_images_of_any_size(tmp_path: Path) -> None:
    root = write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png", width=12)])
    dataset = CocoDataset(root, "train")
    assert dataset.image_sizes == [(40, 30), (12, 30)]
    images, targets = collate([dataset[0], dataset[1]])
    assert [image.shape[-1] for image in images] == [40, 12] and [t["image_id"] for t in targets] == [1, 2]


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    dataset = CocoDataset(write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png")]), "train")
    state = torch.get_rng_state()
    for workers in (0, 1):
        batches = list(batch_loader(dataset, [[1], [0, 1]], workers))
        assert [[t["image_id"] for t in targets] for _, targets in batches] == [[2], [1, 2]]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_the_same_with_workers(workers: int, tmp_path: Path) -> None:
    root = write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png")])
    dataset = CocoDataset(root, "train")
    (root / "train/b.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"^[^\n]*b\.png cannot be decoded[^\n]*$"):
        list(batch_loader(dataset, [[0], [0, 1]], workers))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's signals and limits")
@pytest.mark.parametrize(
    ("signum", "said"),
    [
        (signal.SIGKILL, "SIGKILL: the system does this when memory runs out; use fewer of them"),
        (signal.SIGSEGV, "SIGSEGV: memory may have run out"),
        (signal.SIGBUS, "SIGBUS: shared memory"),
    ],
)
def test_a_worker_that_dies_is_said_where_its_batch_is_due(signum: signal.Signals, said: str, tmp_path: Path) -> None:
    def die(image: Any, target: Any) -> Any:
        os.kill(os.getpid(), signum)

    root = write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png")])
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(LoaderError, match=said):
        list(batch_loader(CocoDataset(root, "train", die), [[0], [1]], workers=1))
    assert signal.getsignal(signal.SIGCHLD) is handler


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's signals and limits")
def test_shared_memory_that_runs_out_is_an_error(tmp_path: Path) -> None:
    def fill(image: Any, target: Any) -> Any:  # no shared memory can be made beyond this size
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return image, target

    root = write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png")])
    with pytest.raises(LoaderError, match=r"cannot share an image .*File too large.*; use fewer"):
        list(batch_loader(CocoDataset(root, "train", fill), [[0], [1]], workers=1))


def test_waiting_is_the_time_that_reading_takes_after_the_first_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def slow(image: Any, target: Any) -> Any:
        now[0] += 2.0
        return image, target

    monkeypatch.setattr("tsdlab.data.loading.time.perf_counter", lambda: now[0])
    dataset = CocoDataset(write_split(tmp_path, [image_entry(1, "a.png"), image_entry(2, "b.png")]), "train", slow)
    loader = batch_loader(dataset, [[0, 1], [0], [0, 1]])
    for _ in range(2):  # each iteration is measured on its own
        shares = []
        for _ in loader:
            shares.append(loader.waited)
            now[0] += 7.0  # what is done with the batch
        assert shares == [0.0, 2 / (7 + 2), (2 + 4) / (7 + 2 + 7 + 4)]
