"""The loaders that are compared load the same, and the verdict follows from the numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tsdlab.config import Config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import loading

    return loading


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_all_loaders_give_the_same_images(flip: float, loading: Any, tiny_config: Config, tiny_data: Path) -> None:
    still = replace(tiny_config, train=replace(tiny_config.train, flip=flip, scale_jitter=(1.0, 1.0)))
    loaded = {name: list(loading.make_loader(name, still, tiny_data, 3, 0, "cpu")) for name in loading.LOADERS}
    for name in loading.LOADERS[1:]:
        for (images, targets), (expected, those) in zip(loaded[name], loaded["tsdlab"], strict=True):
            # torchvision multiplies by 1/255, which rounds differently.
            torch.testing.assert_close(list(images), expected, rtol=1e-6, atol=0)
            assert all(torch.equal(t["boxes"], u["boxes"]) for t, u in zip(targets, those, strict=True))


def test_speed_and_waiting_start_after_the_skipped_batches(loading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(loading.time, "perf_counter", lambda: now[0])

    def batches() -> Any:
        for seconds in (50.0, 1.0, 2.0):
            now[0] += seconds
            yield [], []

    def step(images: list, targets: list) -> None:
        now[0] += 3.0

    assert loading.measure(batches(), 1, step, "cpu") == (2 / 9, 3 / 9)


@pytest.mark.parametrize(
    ("loader", "workers", "said"),
    [
        (20.0, "2", "the training waits for the loader"),
        (90.0, "2", "the loader waits for the training"),
        (90.0, "0", "the training process loads the images itself"),
    ],
)
def test_the_slower_of_the_two_is_waited_for(loader: float, workers: str, said: str, loading: Any) -> None:
    table = {
        "loader": {"tsdlab": {workers: loader}},
        "step": {"tsdlab": 40.0, "torchvision": 1000.0},
        "training": {"tsdlab": {workers: 18.0}},
        "waiting": {"tsdlab": {workers: 0.25}},
    }
    (line,) = loading.verdict(table, "tsdlab")
    assert line.startswith(f"tsdlab, workers {workers}: {said}; ") and line.endswith(
        "waiting for images 25.0% of the time"
    )
