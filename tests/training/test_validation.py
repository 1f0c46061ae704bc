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
from runs import Killed, assert_same_run, with_train
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
