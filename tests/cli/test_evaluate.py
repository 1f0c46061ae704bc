"""`tsdlab eval`: the numbers of training again, and its options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from command_line import run


def test_eval_repeats_the_numbers_of_training(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    run("eval", finished / "weights.safetensors", "--data", tiny_data, "--json", file, "--device", "cpu")
    result = json.loads(file.read_text())
    trained = json.loads((finished / "metrics.json").read_text())["best"]
    assert result["metrics"]["AP50"] == pytest.approx(trained["AP50"], abs=0.1)  # the file is in half precision
    assert result["metrics"]["AP_large"] is None
    assert result["versions"].keys() >= {"python", "torch", "torchvision", "tsdlab"}
    assert result["command"].startswith(f"tsdlab eval {finished / 'weights.safetensors'} --data ")


def test_eval_takes_split_and_threshold(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights_file = finished / "weights.safetensors"
    run("eval", weights_file, "--data", tiny_data, "--split", "train", "--score-thresh", 0.9999)
    assert "8 images, 0 detections" in capsys.readouterr().out
    run("eval", weights_file, "--data", tiny_data, "--split", "test", exits=1)
    assert "instances_test.json" in capsys.readouterr().err


def test_eval_sees_images_several_times(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    def measured(*options: object) -> dict[str, float]:
        file = tmp_path / "result.json"
        run("eval", finished / "weights.safetensors", "--data", tiny_data, "--json", file, "--overwrite", *options)
        metrics: dict[str, float] = json.loads(file.read_text())["metrics"]
        return metrics

    once = measured("--score-thresh", 0)
    assert measured("--score-thresh", 0, "--min-sizes", 64) == once  # the size it was trained at
    twice = measured("--score-thresh", 0, "--min-sizes", 48, 64, "--flip")
    assert twice["detections"] >= once["detections"] and twice != once
    soft = measured("--score-thresh", 0, "--nms", "gaussian")
    assert soft["detections"] >= once["detections"] and soft != once


def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.pth")
    run("eval", tmp_path / "model.pth", "--data", tmp_path, exits=1)
    assert re.fullmatch(r"tsdlab: .*model\.pth is not a readable safetensors file.*\n", capsys.readouterr().err)
