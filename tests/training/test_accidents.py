"""Accidents while a run writes: they are named, and the run goes on afterwards as if nothing had happened."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import assert_same_run, everything

from tsdlab.config import Config
from tsdlab.errors import BusyFolderError
from tsdlab.files import LOCK
from tsdlab.training import train


def full_disk(out: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # log rows fit, a checkpoint does not


def very_full_disk(out: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))


def folder_moved(out: Path) -> None:
    out.rename(out.with_name("moved"))


def _block(path: Path) -> None:
    """A folder takes the place of a file."""
    if path.exists():
        path.rename(f"{path}.aside")
    path.mkdir()


def checkpoint_blocked(out: Path) -> None:
    _block(out / "checkpoint.pt")


def weights_blocked(out: Path) -> None:
    _block(out / "last.safetensors")


def mend(out: Path) -> None:
    soft_is_hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft_is_hard, soft_is_hard))
    if out.with_name("moved").exists():
        if out.exists():
            shutil.rmtree(out)
        out.with_name("moved").rename(out)
    for name in ("checkpoint.pt", "last.safetensors"):
        if (out / name).is_dir():
            (out / name).rmdir()
    for path in out.glob("*.aside"):
        path.rename(path.with_suffix(""))


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's devices and limits")
@pytest.mark.parametrize(
    ("accident", "step", "file"),
    [
        pytest.param(full_disk, 2, "checkpoint.pt", marks=pytest.mark.slow),
        (full_disk, 11, "checkpoint.pt"),
        pytest.param(very_full_disk, 9, "log.csv", marks=pytest.mark.slow),
        pytest.param(folder_moved, 7, "checkpoint.pt", marks=pytest.mark.slow),
        (folder_moved, 9, "log.csv"),
        pytest.param(checkpoint_blocked, 3, "checkpoint.pt", marks=pytest.mark.slow),
        (weights_blocked, 11, "last.safetensors"),
    ],
)
def test_an_accident_while_writing_names_the_file_and_the_run_goes_on(
    accident: Callable[[Path], None], step: int, file: str, config: Config, tiny_data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def on_step(done: int, losses: dict[str, float]) -> None:
        if done == step:
            accident(out)

    try:
        with pytest.raises(OSError) as caught:
            train(config, tiny_data, out, progress=False, on_step=on_step)
    finally:
        mend(out)
    assert caught.value.filename == str(out / file) and caught.value.strerror
    train(config, tiny_data, out, resume=True, progress=False)
    assert_same_run(whole, out)


@pytest.mark.slow
def test_a_second_run_in_the_folder_is_refused_and_changes_nothing(
    config: Config, tiny_data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    refused = []

    def on_step(done: int, losses: dict[str, float]) -> None:
        if done in (2, 9):
            before = everything(out)
            for resume in (False, True):
                with pytest.raises(BusyFolderError, match=f"written by process {os.getpid()} on") as caught:
                    train(config, tiny_data, out, resume=resume, progress=False)
                refused.append(caught.value)
            assert everything(out) == before

    train(config, tiny_data, out, progress=False, on_step=on_step)
    assert len(refused) == 4
    assert_same_run(whole, out)
    assert not (out / LOCK).exists()


def test_a_reader_that_is_gone_does_not_end_a_run(
    config: Config, tiny_data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `tsdlab train … 2>&1 | head -1`, or of a terminal that was closed."""
    for name in ("stdout", "stderr"):
        reading, writing = os.pipe()
        os.close(reading)
        monkeypatch.setattr(sys, name, os.fdopen(writing, "w", buffering=1))
    with pytest.raises(BrokenPipeError):
        print("nobody reads this")
    train(config, tiny_data, tmp_path / "run", progress=True)
    monkeypatch.undo()
    assert_same_run(whole, tmp_path / "run")
