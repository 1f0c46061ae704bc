"""A run folder that is damaged is refused by name, and nothing in it changes; accidents of writing can be resumed."""

from __future__ import annotations

import copy
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, assert_same_run, dies_at, with_train
from safetensors.torch import load_file, save_file

from tsdlab.config import Config
from tsdlab.data.coco import CocoDataset
from tsdlab.data.fingerprint import fingerprint
from tsdlab.errors import BusyFolderError, CheckpointError, InputError, TsdlabError
from tsdlab.files import LOCK
from tsdlab.models.build import build_detector
from tsdlab.training import train
from tsdlab.training.checkpoint import load_checkpoint
from tsdlab.training.logs import RunLogs
from tsdlab.training.processes import launch
from tsdlab.training.state import TrainingState, load_previous
from tsdlab.training.validation import Validation

Content = dict[str, Any]


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    return with_train(tiny_config, optimizer="adamw", lr=1e-3, ema=0.8)


@pytest.fixture(scope="module")
def whole(config: Config, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(config, tiny_data, out, progress=False)
    return out


@pytest.fixture(scope="module")
def stopped(config: Config, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run saved after step 8 and killed after step 9: it was evaluated once, and its next row of losses is begun."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Killed):
        train(config, tiny_data, out, progress=False, on_step=dies_at(9))
    return out


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def everything(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.stat().st_mode
        for path in folder.rglob("*")
    }


# The checkpoint


def at(content: Content, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        content = content[key]
    return content


# Where damage is done, and values that are wrong there. A tensor stands for one of another shape, type or value.
PLACES: dict[tuple[Any, ...], list[Any]] = {
    ("config",): [None, "text", [], {}, {"train": 3}, {"head": "tsd", "train": {"steps": "many"}}],
    ("step",): [None, "8", -1, 13, 10**30, 8.0, True],
    ("start",): [None, "text", {"weights": 3}],
    ("data",): [None, "text", [], [{}, {}], [3, 4]],
    ("data", 0, "images"): [None, torch.zeros(2, 8, dtype=torch.uint8)],
    ("data", 1, "ids"): [None, "[", "{}", "[[1]]"],
    ("model",): [None, "text", {}, []],
    ("model", "rpn.head.conv.0.0.weight"): [None, 3.0, "shape", "type", "nan"],
    ("optimizer",): [None, {}, "text"],
    ("optimizer", "param_groups"): [None, [], "text", [{}, {}]],
    ("optimizer", "param_groups", 0, "lr"): [None, "text", float("nan")],
    ("optimizer", "param_groups", 0, "betas"): [None, (0.9,), (0.5, 0.5)],
    ("optimizer", "param_groups", 1, "params"): [None, [], "text"],
    ("optimizer", "state"): [None, [], {10**6: {}}, {"a": {}}],
    ("optimizer", "state", 0): [None, {}, "text"],
    ("optimizer", "state", 0, "exp_avg"): [None, "text", "shape", "type", "nan"],
    ("optimizer", "state", 0, "step"): ["text", "shape"],
    ("precision",): [None, "text", {"scale": 3}],
    ("ema",): [None, "text", {}],
    ("ema", "n_averaged"): [None, 3, "shape"],
    ("ema", "module.rpn.head.conv.0.0.weight"): [None, "shape", "nan"],
    ("rng",): [None, [], {}, "text", [None]],
    ("rng", 0, "torch"): [None, "text", "shape", "type"],
    ("window",): [None, {}, "text", [None], [{}] * 6],
    ("window", 0): [None, [], {"total": "text"}, {"loss": 1.0}],
    ("window", 0, "total"): [None, "1", float("inf")],
}


def damaged(old: Any, value: Any) -> Any:
    if isinstance(old, torch.Tensor) and isinstance(value, str):
        return {
            "shape": torch.zeros(3, dtype=old.dtype),
            "type": old.to(torch.float64 if old.dtype != torch.float64 else torch.float32),
            "nan": torch.full_like(old, float("nan")) if old.is_floating_point() else old,
        }.get(value, value)
    return value


@pytest.fixture(scope="module")
def resume(config: Config, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Content], None]:
    """What a resumed run does before anything changes, with one model for many tests."""
    data = [fingerprint(CocoDataset(tiny_data, split)) for split in ("train", "val")]
    state = TrainingState(launch(config.train, "cpu"), config, data, build_detector(config))
    out = tmp_path_factory.mktemp("resumed")

    def check(content: Content) -> None:
        # Reading the file for every damage would take most of the time; `restore` gets the large parts.
        small = {name: content[name] for name in ("config", "step", "data") if name in content}
        torch.save({**small, **({"model": {}} if "model" in content else {})}, out / "checkpoint.pt")
        load_previous(out, config, data)
        state.restore(content, out / "checkpoint.pt")

    return check


@pytest.mark.parametrize("keys", PLACES, ids=lambda keys: "-".join(map(str, keys)))
def test_a_checkpoint_with_a_wrong_part_is_refused(
    keys: tuple[Any, ...], stopped: Path, resume: Callable[[Content], None]
) -> None:
    original = load_checkpoint(stopped / "checkpoint.pt")
    resume(original)
    # An older version has not written the first two; a parameter that had no gradient yet has no state.
    optional = keys in {("start",), ("data",), ("optimizer", "state", 0)}
    for value in (*(() if optional else ("removed",)), *PLACES[keys]):
        content = copy.deepcopy(original)
        parent = at(content, keys[:-1])
        if value == "removed":
            del parent[keys[-1]]
        else:
            parent[keys[-1]] = damaged(parent[keys[-1]], value)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt|another config|other data") as caught:
            resume(content)
        assert "\n" not in str(caught.value), value


@pytest.mark.parametrize("part", ["step", "optimizer"])
def test_nothing_changes_when_a_run_is_refused(part: str, run: Path, config: Config, tiny_data: Path) -> None:
    content = load_checkpoint(run / "checkpoint.pt")
    torch.save({**content, part: None}, run / "checkpoint.pt")
    before = everything(run)
    with pytest.raises(CheckpointError, match=part):
        train(config, tiny_data, run, resume=True, progress=False)
    assert everything(run) == before


def test_losses_of_another_model_are_refused_before_they_are_logged(run: Path, config: Config, tiny_data: Path) -> None:
    content = load_checkpoint(run / "checkpoint.pt")
    assert content["window"]
    for losses in content["window"]:
        losses["loss_theirs"] = losses.pop("loss_objectness")
    torch.save(content, run / "checkpoint.pt")
    log = (run / "log.csv").read_bytes()
    with pytest.raises(CheckpointError, match="window has other losses"):
        train(config, tiny_data, run, resume=True, progress=False)
    assert (run / "log.csv").read_bytes() == log


def test_a_checkpoint_of_an_older_version_resumes_with_a_note(
    run: Path, whole: Path, config: Config, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = load_checkpoint(run / "checkpoint.pt")
    del content["data"]
    content["rng"][0] |= {"cuda": None, "numpy": ("MT19937", [1], 1, 0, 0.0), "python": (3, (1, 2), None)}
    torch.save({**content, "categories": [], "images": 8}, run / "checkpoint.pt")
    train(config, tiny_data, run, resume=True, progress=False)
    assert "older version saved this run, without what it read" in capsys.readouterr().out
    assert_same_run(whole, run)


# Logs and weights

HEADER = b"step,lr\n"


def replace(content: bytes | None) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)

    return change


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def append(row: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes() + row)


@pytest.mark.parametrize("name", ["log.csv", "metrics.csv"])
@pytest.mark.parametrize(
    "change",
    [
        replace(None),
        pipe,
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        replace(b"\x89PNG\r\n\x1a\n\0\0"),
        replace(bytes(range(256)) * 20),
        replace(b"a report, not a log"),
        replace(b"5,0.1\n"),
        replace(b"step,lr\nfive,0.1\n"),
        replace(b"step,lr\n-5,0.1\n"),
        replace(b"step,lr\n5,0.1,3\n"),
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


@pytest.mark.parametrize("change", [replace(None), pipe, lambda path: (path.unlink(), path.symlink_to("/dev/zero"))])
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
    "change", [Path.unlink, replace(None), replace(b"text"), of_another_seed, without_metrics, bare]
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


# Accidents


def full_disk(out: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # log rows fit, a checkpoint does not


def very_full_disk(out: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))


def folder_moved(out: Path) -> None:
    out.rename(out.with_name("moved"))


def _block(path: Path) -> None:
    """A folder takes the place of a file."""
    if path.exists():
        path.rename(f"{path}.aside")
    path.mkdir()


def checkpoint_blocked(out: Path) -> None:
    _block(out / "checkpoint.pt")


def weights_blocked(out: Path) -> None:
    _block(out / "last.safetensors")


def mend(out: Path) -> None:
    soft_is_hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft_is_hard, soft_is_hard))
    if out.with_name("moved").exists():
        if out.exists():
            shutil.rmtree(out)
        out.with_name("moved").rename(out)
    for name in ("checkpoint.pt", "last.safetensors"):
        if (out / name).is_dir():
            (out / name).rmdir()
    for path in out.glob("*.aside"):
        path.rename(path.with_suffix(""))


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's devices and limits")
@pytest.mark.parametrize(
    ("accident", "step", "file"),
    [
        pytest.param(full_disk, 2, "checkpoint.pt", marks=pytest.mark.slow),
        (full_disk, 11, "checkpoint.pt"),
        pytest.param(very_full_disk, 9, "log.csv", marks=pytest.mark.slow),
        pytest.param(folder_moved, 7, "checkpoint.pt", marks=pytest.mark.slow),
        (folder_moved, 9, "log.csv"),
        pytest.param(checkpoint_blocked, 3, "checkpoint.pt", marks=pytest.mark.slow),
        (weights_blocked, 11, "last.safetensors"),
    ],
)
def test_an_accident_while_writing_names_the_file_and_the_run_goes_on(
    accident: Callable[[Path], None], step: int, file: str, config: Config, tiny_data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def on_step(done: int, losses: dict[str, float]) -> None:
        if done == step:
            accident(out)

    try:
        with pytest.raises(OSError) as caught:
            train(config, tiny_data, out, progress=False, on_step=on_step)
    finally:
        mend(out)
    assert caught.value.filename == str(out / file) and caught.value.strerror
    train(config, tiny_data, out, resume=True, progress=False)
    assert_same_run(whole, out)


def test_a_second_run_in_the_folder_is_refused_and_changes_nothing(
    config: Config, tiny_data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    refused = []

    def on_step(done: int, losses: dict[str, float]) -> None:
        if done in (2, 9):
            before = everything(out)
            for resume in (False, True):
                with pytest.raises(BusyFolderError, match=f"written by process {os.getpid()} on") as caught:
                    train(config, tiny_data, out, resume=resume, progress=False)
                refused.append(caught.value)
            assert everything(out) == before

    train(config, tiny_data, out, progress=False, on_step=on_step)
    assert len(refused) == 4
    assert_same_run(whole, out)
    assert not (out / LOCK).exists()


def test_a_reader_that_is_gone_does_not_end_a_run(
    config: Config, tiny_data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `tsdlab train … 2>&1 | head -1`, or of a terminal that was closed."""
    for name in ("stdout", "stderr"):
        reading, writing = os.pipe()
        os.close(reading)
        monkeypatch.setattr(sys, name, os.fdopen(writing, "w", buffering=1))
    with pytest.raises(BrokenPipeError):
        print("nobody reads this")
    train(config, tiny_data, tmp_path / "run", progress=True)
    monkeypatch.undo()
    assert_same_run(whole, tmp_path / "run")
