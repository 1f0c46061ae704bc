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
import warnings
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from command_line import run

from tsdlab.cli import main
from tsdlab.config import BackboneConfig, config_from_dict
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.weights import read_header
from tsdlab.presets import PRESETS
from tsdlab.training.checkpoint import load_checkpoint

# badges-tiny, shrunken as in conftest.tiny_config.
SMALL = shlex.split(
    "--image.min-size 64 --image.max-size 64 --backbone.stages 2 3 --backbone.fpn-channels 16 "
    "--rpn.anchor-sizes 16 24 40 --rpn.post-nms-train 20 --rpn.post-nms-test 20 "
    "--roi.hidden 16 --roi.samples-per-image 16 --tsd.offset-hidden 16 "
    "--train.batch-size 2 --train.warmup-steps 2 --train.checkpoint-every 2 --device cpu"
)


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    run("train", "badges-tiny", "--data", tiny_data, "--out", out, "--head", "sibling", "--train.steps", 3, *SMALL)
    return out


# Options


@pytest.mark.parametrize(
    ("command", "mentions"),
    [
        ([], ["data", "train", "eval", "detect", "weights"]),
        (["data"], ["make", "check"]),
        (["data", "make"], ["badges", "DIR", "--misalignment", "--val", "3000"]),
        (["data", "check"], ["DIR"]),
        (["train"], [*PRESETS, "resnet50 at 800 px"]),
        (["train", "finetune"], ["--weights", "torchvision"]),
        (["train", "bccd"], ["--data", "--out", "--head", "--resume", "--train.steps", "--tsd.gamma", "margin"]),
        (["eval"], ["WEIGHTS", "--data", "--split", "--score-thresh", "--nms", "--min-sizes", "--flip"]),
        (["detect"], ["WEIGHTS", "IMAGE", "--out"]),
        (["weights"], ["list", "show", "import-torchvision"]),
        (["weights", "show"], ["NAME"]),
        (["weights", "import-torchvision"], ["--source", "--head", "--model", "fasterrcnn_resnet50_fpn_v2"]),
    ],
)
def test_help_at_every_level(command: list[str], mentions: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(*command, "--help", exits=0)
    text = capsys.readouterr().out
    assert [word for word in mentions if word not in text] == []


def test_each_group_of_options_has_its_own_description(capsys: pytest.CaptureFixture[str]) -> None:
    """tyro gives a comment above a field to every field below it, up to a blank line."""
    run("train", "badges-tiny", "--help", exits=0)
    text = capsys.readouterr().out
    assert text.lower().count("without background") == 1
    assert str(BackboneConfig.__doc__) in text


def test_an_unknown_preset_lists_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    run("train", "badges-huge", "--data", "d", "--out", "o", exits=2)
    said = capsys.readouterr().err
    assert all(name in said for name in PRESETS)


@pytest.mark.parametrize("line", ["train badges --out o", "eval", "frobnicate", "train badges --data d --out o --lr 1"])
def test_wrong_usage_exits_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*line.split(), exits=2)
    assert "Traceback" not in capsys.readouterr().err


def test_options_override_the_preset(finished: Path) -> None:
    config = read_header(finished / "weights.safetensors").config
    assert config == config_from_dict(json.loads((finished / "config.json").read_text()))
    assert (config.head, config.backbone.stages, config.train.steps) == ("sibling", (2, 3), 3)
    assert config.train.optimizer == PRESETS["badges-tiny"].train.optimizer


# Data


def test_data_is_made_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "badges"
    run("data", "make", "badges", folder, "--train", 3, "--val", 2, "--size", 96, "--misalignment", 1.5)
    run("data", "check", folder)
    assert re.search(r"train: 3 images.*\n(.*\n)*.*no problems", capsys.readouterr().out)
    (folder / "val" / next((folder / "val").iterdir()).name).write_bytes(b"broken")
    run("data", "check", folder, exits=1)
    shown = capsys.readouterr()
    assert "cannot be decoded" in shown.out and "1 problem(s)" in shown.err


# Train, evaluate, detect


def test_train_prints_the_best_and_refuses_to_overwrite(
    finished: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["train", "badges-tiny", "--data", tiny_data, "--out", finished, "--head", "sibling", "--train.steps", 3]
    run(*again, *SMALL, exits=1)
    assert capsys.readouterr().err.startswith(f"tsdlab: {finished} holds a run already")
    run(*again, *SMALL, "--resume")
    assert re.search(r"best of step 3.*\n5 images", capsys.readouterr().out)


def test_eval_repeats_the_numbers_of_training(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    run("eval", finished / "weights.safetensors", "--data", tiny_data, "--json", file, "--device", "cpu")
    result = json.loads(file.read_text())
    trained = json.loads((finished / "metrics.json").read_text())["best"]
    assert result["metrics"]["AP50"] == pytest.approx(trained["AP50"], abs=0.1)  # the file is in half precision
    assert result["metrics"]["AP_large"] is None
    assert result["versions"].keys() >= {"python", "torch", "torchvision", "tsdlab"}
    assert result["command"].startswith(f"tsdlab eval {finished / 'weights.safetensors'} --data ")


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["eval", "badges-tsd", "--data", "no", "--json"], ["weights", "import-torchvision"]):
        run(*command, tmp_path, exits=1)
        assert capsys.readouterr().err == f"tsdlab: {tmp_path} is a folder; give the name of a file\n"
        run(*command, tmp_path / "no/file", exits=1)
        assert capsys.readouterr().err == f"tsdlab: there is no folder {tmp_path / 'no'} to write file to\n"


def test_eval_takes_split_and_threshold(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights_file = finished / "weights.safetensors"
    run("eval", weights_file, "--data", tiny_data, "--split", "train", "--score-thresh", 0.9999)
    assert "8 images, 0 detections" in capsys.readouterr().out
    run("eval", weights_file, "--data", tiny_data, "--split", "test", exits=1)
    assert "instances_test.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--tsd.gamma -1", "tsd.gamma must be a number from 0 to 1,000,000, got -1.0"),
        ("--train.milestones 0.5 nan", "train.milestones[1] must be a number above 0 and below 1, got nan"),
        ("--train.warmup-factor nan", "train.warmup_factor must be a number from 0 to 1, got nan"),
        ("--roi.score-thresh nan", "roi.score_thresh must be a number from 0 to 1, got nan"),
        ("--image.max-size 0", "image.max_size must be a whole number from 32 to 65,536, got 0"),
        (
            "--train.seed 1180591620717411303424",
            "train.seed must be a whole number from 0 to 9,223,372,036,854,775,807",
        ),
    ],
)
def test_an_impossible_config_is_one_line(
    line: str, message: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", "badges-tiny", "--data", tiny_data, "--out", tmp_path / "run", *line.split(), exits=1)
    said = capsys.readouterr().err
    assert said.startswith(f"tsdlab: {message}") and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("eval w --data d --batch-size 0", "--batch-size must be a whole number from 1 to 65,536, got 0"),
        ("eval w --data d --workers -1", "--workers must be a whole number from 0 to 256, got -1"),
        ("eval w --data d --score-thresh nan", "--score-thresh must be a number from 0 to 1, or None, got nan"),
        ("eval w --data d --min-sizes 64 0", "--min-sizes[1] must be a whole number from 32 to 65,536, got 0"),
        ("detect w i.png --out o --score-thresh 2", "--score-thresh must be a number from 0 to 1, got 2.0"),
        (
            "analyze w --data d --out o --images 0",
            "--images must be a whole number from 1 to 1,000,000,000, or None, got",
        ),
        ("data make badges d --size 0", "size must be a whole number from 32 to 65,536, got 0"),
        ("data make badges d --misalignment nan", "misalignment must be a number from 0 to 2, got nan"),
    ],
)
def test_an_impossible_option_is_one_line(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*line.split(), exits=1)
    said = capsys.readouterr().err
    assert said.startswith(f"tsdlab: {message}") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "help_"),
    [
        ("trian", "tsdlab --help"),
        ("train bages", "tsdlab train --help"),
        ("train badges --data d --out o --trian.steps 3", "tsdlab train badges --help"),
        ("eval w --data d --batchsize 3", "tsdlab eval --help"),
        ("data make badges d --train many", "tsdlab data make --help"),
        ("weights show", "tsdlab weights show --help"),
    ],
)
def test_wrong_usage_names_the_help_of_the_command(line: str, help_: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*line.split(), exits=2)
    assert f" {help_} " in capsys.readouterr().err


def test_an_error_of_the_operating_system_names_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    run("data", "make", "badges", tmp_path / "file/folder", exits=1)
    assert capsys.readouterr().err == f"tsdlab: {tmp_path / 'file'}: File exists\n"


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in (ValueError("range() arg 3 must not be zero"), OSError("no errno"), RuntimeError("a bug")):

        def run_command(self: object, line: str, fault: Exception = fault) -> None:
            raise fault

        monkeypatch.setattr("tsdlab.cli.weights.ListWeights.run", run_command)
        with pytest.raises(type(fault), match=re.escape(str(fault))):
            main(["weights", "list"])


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 515 bytes."),
    ],
)
def test_too_little_memory_is_one_line(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_command(self: object, line: str) -> None:
        raise fault

    monkeypatch.setattr("tsdlab.cli.weights.ListWeights.run", run_command)
    run("weights", "list", exits=1)
    said = capsys.readouterr().err
    assert said.startswith("tsdlab: out of memory; smaller batches") and said.count("\n") == 1


def test_a_download_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*args: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("tsdlab.models.torchvision_weights.import_torchvision", unreachable)
    run("weights", "import-torchvision", tmp_path / "out.safetensors", exits=1)
    assert "cannot download: no route to host. Without a network give a local file" in capsys.readouterr().err


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", ["train", "eval", "detect"])
def test_a_missing_cuda_device_is_said_alike_everywhere(
    command: str, finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights_file = finished / "weights.safetensors"
    arguments = {
        "train": ["badges-tiny", "--data", tiny_data, "--out", tmp_path / "run"],
        "eval": [weights_file, "--data", tiny_data],
        "detect": [weights_file, tiny_data / "val/10.png", "--out", tmp_path / "out"],
    }[command]
    run(command, *arguments, "--device", "cuda", exits=1)
    assert capsys.readouterr().err == "tsdlab: device is cuda, but torch sees no CUDA device\n"
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_prints_the_result(
    finished: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["train", "badges-tiny", "--data", tiny_data, "--out", finished, "--head", "sibling", "--train.steps", 3]
    monkeypatch.setenv("RANK", "1")
    run(*again, *SMALL, "--resume")
    assert capsys.readouterr().out == ""


def test_warnings_are_left_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    run("weights", "list")
    run("weights", "show", "yours", exits=1)
    assert warnings.showwarning is before


# Weights


def test_weights_are_listed_and_shown(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tsdlab.shipped.WEIGHTS", tmp_path)
    run("weights", "list")
    assert capsys.readouterr().out == "none\n"
    shutil.copy(finished / "weights.safetensors", tmp_path / "mine.safetensors")
    run("weights", "list")
    assert re.match(r"mine +sibling +2 classes +\d\.\d MiB  AP \d", capsys.readouterr().out)
    run("weights", "show", "mine")
    assert json.loads(capsys.readouterr().out)["origin"]["step"] == 3
    run("weights", "show", "yours", exits=1)
    assert "shipped: mine" in capsys.readouterr().err


def test_a_program_replaces_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.pt2").write_text("mine")
    run("weights", "export", "badges-sibling", tmp_path / "w.pt2", exits=1)
    assert "w.pt2 would be replaced" in capsys.readouterr().err
    run("weights", "export", "badges-sibling", tmp_path / "w.pth", exits=1)
    assert "must end in .pt2 or .onnx, got 'w.pth'" in capsys.readouterr().err
    assert (tmp_path / "w.pt2").read_text() == "mine" and len([*tmp_path.iterdir()]) == 1


def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.pth")
    run("eval", tmp_path / "model.pth", "--data", tmp_path, exits=1)
    assert re.fullmatch(r"tsdlab: .*model\.pth is not a readable safetensors file.*\n", capsys.readouterr().err)


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


# Things that go wrong while training


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
