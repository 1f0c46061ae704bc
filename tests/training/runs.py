"""What the tests of training share: small changes to a config, a simulated kill, and comparing two runs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tsdlab.config import Config
from tsdlab.training.checkpoint import load_checkpoint


class Killed(Exception):
    """Stands for a process that dies."""


def dies_at(step: int) -> Callable[[int, dict[str, float]], None]:
    def on_step(done: int, losses: dict[str, float]) -> None:
        if done == step:
            raise Killed

    return on_step


def with_train(config: Config, **changes: object) -> Config:
    return replace(config, train=replace(config.train, **changes))  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def log_without_speed(out: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "images_per_s"} for row in rows(out / "log.csv")]


def assert_same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def assert_same_run(a: Path, b: Path) -> None:
    """The folders of two runs hold the same weights, state and logs, bit for bit."""
    for name in ("weights.safetensors", "last.safetensors", "metrics.csv", "metrics.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert log_without_speed(a) == log_without_speed(b)
    one, other = load_checkpoint(a / "checkpoint.pt"), load_checkpoint(b / "checkpoint.pt")
    assert_same_tensors(one["model"], other["model"])
    assert torch.equal(one["rng"][0]["torch"], other["rng"][0]["torch"])
    assert one["step"] == other["step"]


def everything(folder: Path) -> dict[str, object]:
    """Every file of a folder with its bytes, every other entry with its mode."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.stat().st_mode
        for path in folder.rglob("*")
    }
