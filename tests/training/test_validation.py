"""An evaluation is complete or is repeated; the best weights are kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, assert_same_run, dies_at, rows, with_train
from safetensors.torch import load_file

from tsdlab.config import Config
from tsdlab.data.coco import CocoDataset
from tsdlab.evaluation import Metrics, collect_detections, measure
from tsdlab.models.weights import read_header
from tsdlab.training import train
from tsdlab.training.checkpoint import load_checkpoint


def test_an_interrupted_evaluation_is_run_again(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config, tiny_data, tmp_path / "whole", progress=False)
    module = sys.modules["tsdlab.training.validation"]

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    out = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(module, "collect_detections", die)
        with pytest.raises(Killed):
            train(tiny_config, tiny_data, out, progress=False)
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 6 and not (out / "metrics.csv").exists()
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_weights", die)  # after the measuring, before the row of metrics.csv
        with pytest.raises(Killed):
            train(tiny_config, tiny_data, out, resume=True, progress=False)
    train(tiny_config, tiny_data, out, resume=True, progress=False)
    assert_same_run(tmp_path / "whole", out)


@pytest.mark.parametrize(("aps", "best"), [((10, 30, 30, 20), 6), ((math.nan, 0, math.nan, 0), 6), ((4, 3, 2, 1), 3)])
def test_the_best_weights_are_the_first_with_the_highest_ap(
    aps: tuple[float, ...],
    best: int,
    tiny_config: Config,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coming = iter(aps)

    def measured(val: CocoDataset, detections: list[dict[str, Any]]) -> Metrics:
        return replace(measure(val, detections), AP=next(coming))

    monkeypatch.setattr(sys.modules["tsdlab.training.validation"], "measure", measured)
    result = train(with_train(tiny_config, eval_every=3), tiny_data, tmp_path / "run", progress=False)
    assert (result.best_step, result.best.AP, result.last.AP) == (best, aps[best // 3 - 1], aps[-1])
    assert read_header(tmp_path / "run/weights.safetensors").origin["step"] == best
    assert read_header(tmp_path / "run/last.safetensors").origin["step"] == 12


@pytest.mark.parametrize(
    ("patience", "aps", "stop", "best"),
    [
        (0, (4, 3, 2, 1, 0, 0), 12, 2),  # off
        (1, (1, 2, 3, 3, 9, 9), 8, 6),  # an equal AP is no better one
        (2, (1, 0, 2, 1, 1, 9), 10, 6),  # counted from the best, not from the start
        (3, (5, 1, 2, 3, 9, 9), 8, 2),  # better than the last one, but not than the best
        (2, (math.nan, math.nan, math.nan, 9, 9, 9), 6, 2),
        (2, (math.nan, math.nan, 0, -1, 0, 9), 10, 6),
        (5, (6, 5, 4, 3, 2, 1), 12, 2),  # at the last step it is no early stop
    ],
)
def test_training_stops_early_after_evaluations_without_a_better_ap(
    patience: int,
    aps: tuple[float, ...],
    stop: int,
    best: int,
    tiny_config: Config,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    coming, given = iter(aps), []

    def measured(val: CocoDataset, detections: list[dict[str, Any]]) -> Metrics:
        given.append(next(coming))
        return replace(measure(val, detections), AP=given[-1])

    monkeypatch.setattr(sys.modules["tsdlab.training.validation"], "measure", measured)
    config = with_train(tiny_config, eval_every=2, patience=patience, log_every=3)
    result = train(config, tiny_data, tmp_path / "run", progress=False)
    assert (result.best_step, result.best.AP) == (best, pytest.approx(aps[best // 2 - 1], nan_ok=True))
    assert read_header(tmp_path / "run/last.safetensors").origin["step"] == stop
    assert [int(row["step"]) for row in rows(tmp_path / "run/metrics.csv")] == [*range(2, stop + 1, 2)]
    said = capfd.readouterr()
    assert (f"stopped early after step {stop}" in said.out + said.err) == (stop < 12)
    again = train(config, tiny_data, tmp_path / "run", progress=False, resume=True)
    assert repr(again) == repr(result) and len(given) == stop // 2  # a complete run stays as it is
    train(with_train(config, patience=0), tiny_data, tmp_path / "run", progress=False, resume=True)
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["step"] == 12  # with another patience it goes on


def test_a_run_killed_on_its_way_to_an_early_stop_stops_at_the_same_step(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aps = {2: 3.0, 4: 2.0, 6: 1.0}
    module = sys.modules["tsdlab.training.validation"]
    keep = module.Validation.keep
    step = 0

    def measured(val: CocoDataset, detections: list[dict[str, Any]]) -> Metrics:
        return replace(measure(val, detections), AP=aps[step])

    def keep_at(self: Any, state: Any, detections: list[dict[str, Any]]) -> None:
        nonlocal step
        step = state.step
        keep(self, state, detections)

    monkeypatch.setattr(module, "measure", measured)
    monkeypatch.setattr(module.Validation, "keep", keep_at)
    config = with_train(tiny_config, eval_every=2, patience=2)
    train(config, tiny_data, tmp_path / "whole", progress=False)
    for died in (1, 3, 5):
        with pytest.raises(Killed):
            train(config, tiny_data, tmp_path / "broken", progress=False, resume=True, on_step=dies_at(died))
    train(config, tiny_data, tmp_path / "broken", progress=False, resume=True)
    assert load_checkpoint(tmp_path / "whole/checkpoint.pt")["step"] == 6
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_each_weights_file_holds_the_weights_of_its_step(
    tiny_config: Config,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coming = iter((10, 30, 20))

    def measured(val: CocoDataset, detections: list[dict[str, Any]]) -> Metrics:
        return replace(measure(val, detections), AP=next(coming))

    module, asked = sys.modules["tsdlab.training.validation"], []

    def collected(*arguments: Any, indices: Iterable[int], **options: Any) -> list[dict[str, Any]]:
        asked.append(list(indices))
        return collect_detections(*arguments, indices=indices, **options)

    monkeypatch.setattr(module, "measure", measured)
    monkeypatch.setattr(module, "collect_detections", collected)
    out, state = tmp_path / "run", {}

    def read_checkpoint(step: int, losses: dict[str, float]) -> None:
        if step == 5:
            state[4] = load_checkpoint(out / "checkpoint.pt")["model"]

    config = with_train(tiny_config, steps=6, eval_every=2, checkpoint_every=4, lr=0.01)
    result = train(config, tiny_data, out, on_step=read_checkpoint)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line[: len("step 2: AP 10.0")] for line in said] == [
        "step 2: AP 10.0",
        "step 4: AP 30.0",
        "step 6: AP 20.0",
    ]
    assert [line.endswith("  (best so far)") for line in said] == [True, True, False]
    assert asked == [list(range(5))] * 3, "every image of val"
    assert said[2] == f"step 6: {result.last.line()}"
    state[6] = load_checkpoint(out / "checkpoint.pt")["model"]
    weight = "rpn.head.conv.0.0.weight"
    assert not torch.equal(state[4][weight].half(), state[6][weight].half())
    for name, step in (("weights", 4), ("last", 6)):
        assert torch.equal(load_file(out / f"{name}.safetensors")[weight], state[step][weight].half()), name
