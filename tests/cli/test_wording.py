"""What the command line says about itself and about wrong words."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import run

COMMANDS = [
    "data import", "data check", "eval", "detect", "analyze", "compare", "page", "weights show",
    "weights import-torchvision",
]  # fmt: skip


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    run("--version", exits=0)
    assert capsys.readouterr().out == f"tsdlab {version('tsdlab')}\n"


@pytest.mark.parametrize("command", [*COMMANDS, "data make", "train badges"])
def test_help_gives_one_default_and_no_none(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*command.split(), "--help", exits=0)
    text = " ".join(re.sub("[│╭╰╮╯─]", " ", capsys.readouterr().out).split())
    for option in re.split(r" (?=--[a-z])", text):
        assert len(re.findall("default", option, re.IGNORECASE)) <= 1, option
        assert command not in COMMANDS or not re.search(r"\(default: (None)?\)", option)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("train badgs", "tsdlab train: there is no 'badgs'; did you mean badges or badges-tiny?"),
        ("train nope", "tsdlab train: there is no 'nope'\n"),
        ("trian badges", "tsdlab: there is no 'trian'; did you mean train?"),
        ("data chekc x", "tsdlab data: there is no 'chekc'; did you mean check?"),
        ("weights import", "tsdlab weights: there is no 'import'; did you mean import-torchvision?"),
    ],
)
def test_a_wrong_word_is_named_with_its_neighbours(line: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*line.split(), exits=2)
    assert capsys.readouterr().err.startswith(hint)


def test_a_split_that_is_not_there_names_those_that_are(
    tiny_data: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("eval", tiny_weights, "--data", tiny_data, "--split", "nope", exits=1)
    said = capsys.readouterr().err
    assert "train, val" in said and said.count("\n") == 1


def test_few_images_are_warned_of(tiny_data: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("eval", tiny_weights, "--data", tiny_data)
    assert "tsdlab: warning: 5 images are few" in capsys.readouterr().err
