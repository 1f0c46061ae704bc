"""A checkpoint that is damaged, or of another run, is refused by name, and nothing in its folder changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_same_run, everything

from tsdlab.config import Config
from tsdlab.data.coco import CocoDataset
from tsdlab.data.fingerprint import fingerprint
from tsdlab.errors import CheckpointError
from tsdlab.models.build import build_detector
from tsdlab.training import train
from tsdlab.training.checkpoint import load_checkpoint
from tsdlab.training.processes import launch
from tsdlab.training.state import TrainingState, load_previous

Content = dict[str, Any]


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
