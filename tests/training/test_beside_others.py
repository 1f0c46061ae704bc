"""Other threads of the same process cannot change a run, and a run changes nothing for them."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import assert_same_run

import tsdlab
from tsdlab.config import Config
from tsdlab.data.coco import CocoDataset
from tsdlab.models.build import build_detector
from tsdlab.training import train


@pytest.fixture(scope="module")
def alone(tiny_config: Config, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    train(tiny_config, tiny_data, out, progress=False)
    return out


def test_what_others_draw_between_its_steps_does_not_matter(
    alone: Path, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    def on_step(step: int, losses: dict[str, float]) -> None:
        torch.manual_seed(step)
        torch.rand(step), np.random.rand(), random.random()  # noqa: NPY002

    train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=on_step)
    assert_same_run(alone, tmp_path / "run")


def test_an_explorer_in_another_thread_does_not_matter(
    alone: Path, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    stop, rounds = threading.Event(), []

    def explore() -> None:
        val = CocoDataset(tiny_data, "val")
        while not stop.is_set():
            torch.manual_seed(3)
            model = build_detector(tiny_config).eval()
            tsdlab.evaluate(model, val, progress=False)
            rounds.append(tsdlab.trace(model, val[1][0]))

    thread = threading.Thread(target=explore)
    thread.start()
    try:
        train(tiny_config, tiny_data, tmp_path / "run", progress=False)
    finally:
        stop.set()
        thread.join()
    assert rounds
    assert_same_run(alone, tmp_path / "run")


def test_a_run_leaves_the_state_of_the_process_as_it_was(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        return (
            torch.get_rng_state().tolist(),
            str(np.random.get_state()),  # noqa: NPY002
            random.getstate(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.get_default_dtype(),
        )

    before = state()
    train(tiny_config, tiny_data, tmp_path / "run", progress=False)
    assert state() == before
