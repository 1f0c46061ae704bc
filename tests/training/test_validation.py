"""An evaluation is complete or is repeated; the best weights are kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from runs import Killed, assert_same_run

from tsdlab.config import Config
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
