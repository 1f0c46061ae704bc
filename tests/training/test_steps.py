"""Weights on the way: which are kept, that a resumed run has the same ones, and that nobody's files are replaced."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from runs import Killed, dies_at, with_train

import tsdlab
from tsdlab.config import Config
from tsdlab.errors import CheckpointError, InputError, MissingFileError, WeightsError
from tsdlab.models.steps import steps_of
from tsdlab.models.weights import load_detector, read_header
from tsdlab.training import train

NAMES = [f"step-{step:06d}.safetensors" for step in (0, 5, 10, 12)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config, tiny_data: Path) -> Path:
    out = tmp_path_factory.mktemp("kept") / "run"
    train(with_train(tiny_config, keep_every=5, ema=0.8), tiny_data, out, progress=False)
    return out


def test_the_first_the_last_and_every_few_steps_are_kept(run: Path) -> None:
    assert sorted(path.name for path in (run / "steps").iterdir()) == NAMES
    steps = tsdlab.steps_of(run)
    assert list(steps) == [0, 5, 10, 12] == list(steps_of(str(run / "steps")))
    for step, path in steps.files.items():
        assert read_header(path).origin == {"step": step} and path.name == f"step-{step:06d}.safetensors"
    weights = [steps.load(step).state_dict()["rpn.head.conv.0.0.weight"] for step in steps]
    assert not any(torch.equal(a, b) for a, b in pairwise(weights))
    # What is evaluated is kept: here the average.
    last = load_detector(run / "last.safetensors").state_dict()
    for name, tensor in steps.load(12).state_dict().items():
        assert torch.equal(tensor, last[name])


def test_a_step_between_two_has_the_weights_before_it(run: Path) -> None:
    steps = steps_of(run)
    assert torch.equal(*(steps.load(s).state_dict()["rpn.head.conv.0.0.weight"] for s in (5, 9)))


def test_by_default_nothing_is_kept(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    train(with_train(tiny_config, steps=1), tiny_data, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "steps").exists()
    for folder in (tmp_path / "run", tmp_path / "nothing"):
        with pytest.raises(MissingFileError, match=r"train with --train\.keep-every"):
            steps_of(folder)


def test_a_resumed_run_keeps_the_same(run: Path, tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    config, out = with_train(tiny_config, keep_every=5, ema=0.8), tmp_path / "broken"
    for step in (5, 7, 11):
        with pytest.raises(Killed):
            train(config, tiny_data, out, resume=True, progress=False, on_step=dies_at(step))
    train(config, tiny_data, out, resume=True, progress=False)
    assert sorted(path.name for path in (out / "steps").iterdir()) == NAMES
    for name in NAMES:
        assert (out / "steps" / name).read_bytes() == (run / "steps" / name).read_bytes()
    plain = tmp_path / "plain"
    train(with_train(tiny_config, ema=0.8), tiny_data, plain, progress=False)
    assert_same_weights(plain, out)


def assert_same_weights(a: Path, b: Path) -> None:
    """Keeping weights changes neither the training nor its log."""
    one, other = (load_detector(out / "last.safetensors").state_dict() for out in (a, b))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (a / "metrics.csv").read_bytes() == (b / "metrics.csv").read_bytes()


def test_a_resumed_run_may_keep_more(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(with_train(tiny_config, steps=6), tiny_data, tmp_path, progress=False, on_step=dies_at(5))
    train(with_train(tiny_config, steps=6, keep_every=3), tiny_data, tmp_path, resume=True, progress=False)
    assert list(steps_of(tmp_path)) == [6]


def test_a_folder_of_steps_is_not_written_into(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    with pytest.raises(InputError, match=r"holds a run already \(steps\)"):
        train(with_train(tiny_config, keep_every=5), tiny_data, tmp_path, progress=False)
    assert list((tmp_path / "steps").iterdir()) == []


FOREIGN: dict[str, Callable[[Path, Path], object]] = {
    "a text": lambda path, run: path.write_text("mine"),
    "a folder": lambda path, run: path.mkdir(),
    "a link": lambda path, run: path.symlink_to(run / "steps" / path.name),
    "of another step": lambda path, run: path.write_bytes((run / "steps" / NAMES[1]).read_bytes()),
    "of another run": lambda path, run: path.write_bytes(
        Path(tsdlab.__file__).parent.parent.joinpath("data/weights/badges-tsd.safetensors").read_bytes()
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_somebodys_file_is_not_replaced_by_a_resumed_run(
    what: str, run: Path, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    config = with_train(tiny_config, keep_every=5, ema=0.8)
    with pytest.raises(Killed):
        train(config, tiny_data, tmp_path, progress=False, on_step=dies_at(7))
    path = tmp_path / "steps" / NAMES[2]
    FOREIGN[what](path, run)
    before = path.lstat(), path.read_bytes() if path.is_file() else None
    with pytest.raises(CheckpointError, match=r"step-000010\.safetensors is not of this run"):
        train(config, tiny_data, tmp_path, resume=True, progress=False)
    after = path.lstat(), path.read_bytes() if path.is_file() else None
    assert (before[0].st_mtime_ns, before[1]) == (after[0].st_mtime_ns, after[1])


def test_a_file_under_the_name_of_another_step_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "step-000100.safetensors").write_bytes((run / "steps" / NAMES[1]).read_bytes())
    with pytest.raises(WeightsError, match=r"step-000100\.safetensors holds the weights of step 5"):
        steps_of(tmp_path)
