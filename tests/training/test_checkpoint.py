"""The checkpoint file is complete or refused, and never runs code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tsdlab import files
from tsdlab.errors import CheckpointError
from tsdlab.training.checkpoint import load_checkpoint, save_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    weights = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    state = {"step": 7, "model": {"w": weights}, "rng": torch.get_rng_state(), "window": [{"loss": 0.1}], "ema": None}
    save_checkpoint(tmp_path / "c.pt", state)
    back = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(back["model"]["w"], weights)
    assert back["model"]["w"].is_contiguous(memory_format=torch.channels_last)
    assert (back["step"], back["window"], back["ema"]) == (7, [{"loss": 0.1}], None)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_an_incomplete_checkpoint_is_named(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    save_checkpoint(path, {"w": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"cut\.pt is not a readable checkpoint"):
        load_checkpoint(path)


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "flipped.pt"
    save_checkpoint(path, {"w": torch.zeros(10_000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"flipped\.pt"):
        load_checkpoint(path)


def test_foreign_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"step": Bomb()}, tmp_path / "zip.pt")
    for name in ("raw.pt", "zip.pt"):
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_something_else_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="list, not a checkpoint"):
        load_checkpoint(tmp_path / "list.pt")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 1})

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os if call == "fsync" else files.Path, call, full)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]
