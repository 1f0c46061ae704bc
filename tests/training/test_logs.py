"""CSV logs survive a kill; tensorboard is an extra."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tsdlab.config import Config
from tsdlab.training import train
from tsdlab.training.logs import CsvLog, ProgressLine, RunLogs


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_missing_tensorboard_is_reported_before_anything_is_written(
    tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="tensorboard is not installed"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_truncate_removes_later_rows_and_an_incomplete_one(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv")
    for step in (5, 10, 15):
        log.append({"step": step, "loss": 0.5})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("20,0.")
    assert log.steps()[-1] == 15
    log.truncate(10)
    assert (tmp_path / "log.csv").read_text() == "step,loss\n5,0.5\n10,0.5\n"
    log.truncate(0)
    assert not (tmp_path / "log.csv").exists()


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    for writes in (False, True):
        logs = RunLogs(tmp_path, writes, tensorboard=False)
        logs.add_losses(5, 0.1, {"loss_a": 1.5, "total": 1.5}, 12.345)
        logs.add_metrics(5, {"AP": 40.0})
        logs.truncate(5)
        assert logs.evaluated_steps() == ([5] if writes else [])
    assert (tmp_path / "log.csv").read_text() == "step,lr,loss_a,total,images_per_s\n5,0.1,1.5,1.5,12.35\n"
    assert (tmp_path / "metrics.csv").read_text() == "step,AP\n5,40.0\n"


def test_the_bar_shows_the_steps_and_the_latest_losses(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine(total=10, done=4, batch_size=8, shown=True) as line:
        line.advance()
        line.show({"loss_classifier": 0.5, "loss_margin_box_reg": 0.012345, "total": 12.3456})
    shown = capsys.readouterr().err.rsplit("\r", 1)[-1]
    assert shown.startswith("train:  50%") and "5/10" in shown
    assert "classifier=0.5, margin_box_reg=0.0123, total=12.3" in shown and "loss_" not in shown


def test_speed_counts_the_steps_since_the_clock_was_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tsdlab.training.logs.time.perf_counter", lambda: now[0])
    with ProgressLine(total=10, done=4, batch_size=8, shown=False) as line:
        for _ in range(3):
            line.advance()
        now[0] = 2.0
        assert line.images_per_s() == 12.0
        line.restart_clock()
        line.advance()
        now[0] = 3.0
        assert line.images_per_s() == 8.0
