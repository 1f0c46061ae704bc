"""`tsdlab train`: what it prints, and what it leaves when it is stopped."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import SMALL, run

from tsdlab.cli.parsing import parse
from tsdlab.config import BackboneConfig, config_from_dict
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.weights import read_header
from tsdlab.presets import PRESETS
from tsdlab.training.checkpoint import load_checkpoint


def test_options_override_the_preset(finished: Path) -> None:
    config = read_header(finished / "weights.safetensors").config
    assert config == config_from_dict(json.loads((finished / "config.json").read_text()))
    assert (config.head, config.backbone.stages, config.train.steps) == ("sibling", (2, 3), 3)
    assert config.train.optimizer == PRESETS["badges-tiny"].train.optimizer


def test_train_prints_the_best_and_refuses_to_overwrite(
    finished: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["train", "badges-tiny", "--data", tiny_data, "--out", finished, "--head", "sibling", "--train.steps", 3]
    run(*again, *SMALL, exits=1)
    assert capsys.readouterr().err.startswith(f"tsdlab: {finished} holds a run already")
    run(*again, *SMALL, "--resume")
    assert re.search(r"best of step 3.*\n5 images", capsys.readouterr().out)


def test_only_the_first_process_prints_the_result(
    finished: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["train", "badges-tiny", "--data", tiny_data, "--out", finished, "--head", "sibling", "--train.steps", 3]
    monkeypatch.setenv("RANK", "1")
    run(*again, *SMALL, "--resume")
    assert capsys.readouterr().out == ""


def test_splits_of_any_name_are_trained_and_evaluated_on(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    names = {"train": "train2017", "val": "mine too"}
    (tmp_path / "data/annotations").mkdir(parents=True)
    for old, new in names.items():
        (tmp_path / "data" / new).symlink_to(tiny_data / old)
        file = f"annotations/instances_{old}.json"
        shutil.copy(tiny_data / file, tmp_path / "data" / file.replace(old, new))
    folders = ["--data", tmp_path / "data", "--out", tmp_path / "run"]
    splits = ["--train-split", names["train"], "--val-split", names["val"]]
    run("train", "badges-tiny", *folders, *splits, "--head", "sibling", "--train.steps", 3, *SMALL)
    for name in ("weights.safetensors", "metrics.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
    assert [fingerprint["split"] for fingerprint in load_checkpoint(tmp_path / "run/checkpoint.pt")["data"]] == [
        *names.values()
    ]


def test_a_detector_of_torchvision_is_trained_on(
    tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.save(published_model(name, 90, BackboneConfig()).state_dict(), tmp_path / "coco.pth")
    options = shlex.split(
        f"--head sibling --backbone.name torchvision:{name} --backbone.stages 4 --image.min-size 64 "
        "--image.max-size 64 --train.steps 1 --train.warmup-steps 0 --train.checkpoint-every 1 --train.workers 0"
    )
    start = ["train", "finetune", "--data", tiny_data, *options, "--device", "cpu"]
    run(*start, "--out", tmp_path / "run", "--weights", tmp_path / "coco.pth")
    said = capfd.readouterr()
    assert f"starting from {tmp_path / 'coco.pth'}\n" in said.err + said.out
    assert "none of the classes: output rows of red, blue start from random" in said.err + said.out
    run("eval", tmp_path / "run/weights.safetensors", "--data", tiny_data, "--device", "cpu")
    assert capfd.readouterr().out.startswith("5 images")
    torch.save({"w": torch.zeros(1)}, tmp_path / "other.pth")
    run(*start, "--out", tmp_path / "other", "--weights", tmp_path / "other.pth", exits=1)
    assert "other.pth is not the state dict of a torchvision Faster R-CNN" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "asked"),
    [([], None), (["--imagenet"], "DEFAULT"), (["--imagenet", "a file.pth"], "a file.pth")],
)
@pytest.mark.parametrize("after", [[], ["--resume"]])
def test_imagenet_weights_are_downloaded_or_those_of_a_file(
    words: list[str], asked: str | None, after: list[str]
) -> None:
    command = parse(["train", "photos", "--data", "d", "--out", "o", *words, *after])
    assert command.imagenet == asked and command.resume == bool(after)


def test_one_file_of_imagenet_weights_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    run("train", "photos", "--data", "d", "--out", "o", "--imagenet", "a.pth", "b.pth", exits=2)
    assert "takes one file, got 2" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_ends_training_in_one_line(
    workers: int, tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    for image in (tmp_path / "data/train").iterdir():
        image.write_bytes(image.read_bytes()[:200])
    arguments = ["--data", tmp_path / "data", "--out", tmp_path / "run", "--train.workers", workers]
    run("train", "badges-tiny", *arguments, *SMALL, exits=1)
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"tsdlab: .*\.png cannot be decoded .*", last)


@pytest.mark.slow
def test_sigterm_saves_and_exits(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = [*SMALL, "--train.steps", "100000", "--train.log-every", "1", "--train.workers", "1"]
    command = [sys.executable, "-m", "tsdlab.cli", "train", "badges-tiny", "--data", tiny_data, "--out", out, *small]
    with subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not (out / "log.csv").exists():  # not only the checkpoint of step 0
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(
            process.pid, signal.SIGTERM
        )  # as a terminal or a scheduler does: the loader's process is in the group
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait() == 128 + signal.SIGTERM
    step = load_checkpoint(out / "checkpoint.pt")["step"]
    assert f"stopped by SIGTERM after step {step}; resume" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert (out / "log.csv").read_text().splitlines()[-1].startswith(f"{step},")
