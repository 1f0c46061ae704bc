"""SIGTERM and Ctrl-C end a run after its step, with everything saved."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from runs import assert_same_run

from tsdlab.config import Config
from tsdlab.training import TrainingInterrupted, train
from tsdlab.training.checkpoint import load_checkpoint
from tsdlab.training.interrupt import StopRequest, catch_signals


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_restores_the_handlers(
    signum: signal.Signals, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def on_step(step: int, losses: dict[str, float]) -> None:
        if step == 7:
            os.kill(os.getpid(), signum)

    with pytest.raises(TrainingInterrupted, match=r"after step 7.*--resume") as caught:
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=on_step)
    assert caught.value.signum == signum
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["step"] == 7
    assert {s: signal.getsignal(s) for s in before} == before
    train(tiny_config, tiny_data, tmp_path / "run", resume=True, progress=False)
    train(tiny_config, tiny_data, tmp_path / "whole", progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_signal_that_came_before_an_evaluation_ends_it_at_once() -> None:
    stop, called = StopRequest(), []
    stop(signal.SIGTERM, None)
    with stop.immediately(lambda: called.append("before")):
        assert called == ["before"]


def test_a_signal_ends_an_evaluation_at_once(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(sys.modules["tsdlab.training.validation"], "collect_detections", slow)
    with pytest.raises(TrainingInterrupted, match="after step 6"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False)


def test_a_second_signal_quits_without_saving() -> None:
    with catch_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
