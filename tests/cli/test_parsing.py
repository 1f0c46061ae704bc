"""Options and their help: what is wrong is named in one line, with the help that says more."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run

from tsdlab.config import BackboneConfig
from tsdlab.presets import PRESETS


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
