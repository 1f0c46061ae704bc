"""Logs, weights and other files that are not of the run are refused by name, and never replaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import everything
from safetensors.torch import load_file, save_file

from tsdlab.config import Config
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import CheckpointError, InputError, TsdlabError
from tsdlab.training import train
from tsdlab.training.logs import RunLogs
from tsdlab.training.processes import launch
from tsdlab.training.validation import Validation


def replaced_by(content: bytes | None) -> Callable[[Path], None]:
    """Damage: a file holds this instead; None stands for a folder in its place."""

    def change(path: Path) -> None:
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)

    return change


def pipe(path: Path) -> None:
    """Damage: a pipe in place of a file."""
    path.unlink()
    os.mkfifo(path)


def append(row: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes() + row)


@pytest.mark.parametrize("name", ["log.csv", "metrics.csv"])
@pytest.mark.parametrize(
    "change",
    [
        replaced_by(None),
        pipe,
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        replaced_by(b"\x89PNG\r\n\x1a\n\0\0"),
        replaced_by(bytes(range(256)) * 20),
        replaced_by(b"a report, not a log"),
        replaced_by(b"5,0.1\n"),
        replaced_by(b"step,lr\nfive,0.1\n"),
        replaced_by(b"step,lr\n-5,0.1\n"),
        replaced_by(b"step,lr\n5,0.1,3\n"),
        append(b"1" + b"0" * 5000 + b"\n"),
        append(b"9\n"),
        append(b"9" * 17 + b",1\n"),
        append("²,1\n".encode()),
    ],
)
def test_a_log_that_is_none_is_refused(name: str, change: Callable[[Path], None], run: Path) -> None:
    change(run / name)
    with pytest.raises(CheckpointError, match=rf"run/{name} is not the log of this run: .*move it away"):
        RunLogs(run, writes=True, tensorboard=False).check(last=12)


@pytest.mark.parametrize(
    ("name", "mine"),
    [
        ("weights.safetensors", "mine"),
        *[(name, text) for name in ("log.csv", "metrics.csv") for text in ("mine", "step,notes", "step,°C\n1,20\n")],
        *[
            (name, text)
            for name in ("config.json", "metrics.json")
            for text in ("my notes", '{"AP": 40}', "[]", "9", '{"config": 1}', "[" * 100_000, "\0")
        ],
    ],
    ids=lambda text: text[:20],
)
def test_a_run_with_a_file_of_something_else_is_not_resumed(
    name: str, mine: str, run: Path, config: Config, tiny_data: Path
) -> None:
    (run / name).write_text(mine)
    before = everything(run)
    with pytest.raises(TsdlabError, match=name):
        train(config, tiny_data, run, resume=True, progress=False)
    assert everything(run) == before


@pytest.mark.parametrize(
    "change", [replaced_by(None), pipe, lambda path: (path.unlink(), path.symlink_to("/dev/zero"))]
)
def test_a_config_that_is_no_file_is_not_replaced(
    change: Callable[[Path], None], run: Path, config: Config, tiny_data: Path
) -> None:
    change(run / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json is not of this run: it is not a file"):
        train(config, tiny_data, run, resume=True, progress=False)


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_results_of_another_run_are_not_replaced(
    name: str, whole: Path, run: Path, config: Config, tiny_data: Path
) -> None:
    text = (whole / name).read_text()
    assert text.count('"seed": 0') == 1
    (run / name).write_text(text.replace('"seed": 0', '"seed": 1'))
    before = everything(run)
    with pytest.raises(CheckpointError, match=rf"{name} is not of this run: train\.seed was 1, is 0"):
        train(config, tiny_data, run, resume=True, progress=False)
    assert everything(run) == before


def test_a_log_with_other_columns_is_refused(run: Path, config: Config, tiny_data: Path) -> None:
    text = (run / "log.csv").read_text().replace("loss_objectness", "loss_theirs")
    (run / "log.csv").write_text(text)
    with pytest.raises(CheckpointError, match=r"log\.csv is not the log of this run: its columns"):
        train(config, tiny_data, run, resume=True, progress=False)
    assert (run / "log.csv").read_text() == text


def test_logs_that_were_moved_away_start_again(run: Path, config: Config, tiny_data: Path) -> None:
    (run / "log.csv").unlink()
    train(config, tiny_data, run, resume=True, progress=False)
    assert [line.split(",")[0] for line in (run / "log.csv").read_text().splitlines()] == ["step", "10", "12"]


def of_another_seed(path: Path) -> None:
    text = path.read_bytes()
    assert text.count(b'\\"seed\\": 0') == 1
    path.write_bytes(text.replace(b'\\"seed\\": 0', b'\\"seed\\": 1'))


def without_metrics(path: Path) -> None:
    text = path.read_bytes()
    assert text.count(b'\\"metrics\\"') == 1
    path.write_bytes(text.replace(b'\\"metrics\\"', b'\\"metrixs\\"'))


def bare(path: Path) -> None:
    tensors = load_file(path)
    path.unlink()
    save_file(tensors, path)


@pytest.mark.parametrize("name", ["weights.safetensors", "last.safetensors"])
@pytest.mark.parametrize(
    "change", [Path.unlink, replaced_by(None), replaced_by(b"text"), of_another_seed, without_metrics, bare]
)
def test_weights_that_do_not_belong_to_the_run_are_refused(
    name: str, change: Callable[[Path], None], run: Path, config: Config, tiny_data: Path
) -> None:
    change(run / name)
    logs = RunLogs(run, writes=True, tensorboard=False)
    fabric = launch(config.train, "cpu")
    validation = Validation(fabric, config.train, CocoDataset(tiny_data, "val"), run, logs, progress=False)
    with pytest.raises(TsdlabError, match=name) as caught:
        validation.check(config, step=8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["log.csv", "metrics.csv", "metrics.json", "last.safetensors", "config.json"])
def test_no_file_is_replaced_that_the_run_did_not_write(
    name: str, config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"holds a run already \({name}\)"):
        train(config, tiny_data, tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=rf"has {name} but no checkpoint\.pt"):
        train(config, tiny_data, tmp_path, resume=True, progress=False)
    assert everything(tmp_path) == {name: b"mine"}


def test_a_folder_whose_name_weights_cannot_have_is_refused_before_the_work(
    config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"r\\udcf6n, which is not UTF-8"):
        train(config, tiny_data, tmp_path / os.fsdecode(b"r\xf6n"), progress=False)
    assert everything(tmp_path) == {}
