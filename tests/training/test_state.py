"""A run that was stopped at any moment resumes exactly; a run that does not fit is refused."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.plugins.precision import Precision
from runs import Killed, assert_same_run, assert_same_tensors, dies_at, with_train
from safetensors.torch import load_file

from tsdlab.config import Config, config_to_dict
from tsdlab.errors import CheckpointError, NonFiniteLossError
from tsdlab.models.detector import Detector
from tsdlab.models.weights import read_header
from tsdlab.training import train
from tsdlab.training.checkpoint import load_checkpoint, save_checkpoint

WriteSplit = Callable[[Path, str, int, int], None]

# A run in a process of its own, which the test can kill.
RUN = """
import json, sys
from pathlib import Path
from typing import Any
import torch
from tsdlab.config import config_from_dict
from tsdlab.training import train
torch.set_num_threads(1)
config = config_from_dict(json.loads(Path(sys.argv[1]).read_text()))
print("ready", flush=True)
train(config, sys.argv[2], sys.argv[3], resume=True, progress=False, device="cpu")
"""


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_equals_one_that_was_never_stopped(
    optimizer: str, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    config = with_train(tiny_config, optimizer=optimizer, lr=1e-3, ema=0.8)
    torch.manual_seed(1)  # the global random state must not matter
    train(config, tiny_data, tmp_path / "whole", progress=False)
    out = tmp_path / "broken"
    for step in (2, 7, 11):  # before the second checkpoint; after an evaluation; with a log row to remove
        torch.manual_seed(step)
        with pytest.raises(Killed):
            train(config, tiny_data, out, resume=True, progress=False, on_step=dies_at(step))
    train(config, tiny_data, out, resume=True, progress=False)
    assert_same_run(tmp_path / "whole", out)
    a, b = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "broken"))
    assert_same_tensors(a["ema"], b["ema"])
    assert not torch.equal(a["ema"]["module.rpn.head.conv.0.0.weight"], a["model"]["rpn.head.conv.0.0.weight"])


def test_the_average_follows_the_weights_with_its_decay(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    """By hand: it starts as the weights of the first step; then average ← 0.9 · average + 0.1 · weights."""
    config = with_train(tiny_config, ema=0.9, lr=0.01, steps=4, warmup_steps=0, checkpoint_every=1, eval_every=0)
    after: list[dict[str, torch.Tensor]] = []  # the weights and statistics of every step
    out = tmp_path / "run"

    def read_previous(step: int, losses: dict[str, float]) -> None:
        if step > 1:
            after.append(load_checkpoint(out / "checkpoint.pt")["model"])

    train(config, tiny_data, out, progress=False, on_step=read_previous)
    last = load_checkpoint(out / "checkpoint.pt")
    evaluated = load_file(out / "last.safetensors")
    for name, expected in after[0].items():
        if not expected.is_floating_point():
            continue
        for weights in (*after[1:], last["model"]):
            expected = 0.9 * expected + 0.1 * weights[name]
        torch.testing.assert_close(last["ema"][f"module.{name}"], expected)
        torch.testing.assert_close(evaluated[name].float(), expected, rtol=1e-3, atol=1e-6)  # stored as float16
    moved = "backbone.body.bn1.running_mean"  # a buffer, not a parameter
    assert (last["ema"][f"module.{moved}"] - last["model"][moved]).abs().max() > 1e-3


def test_workers_and_checkpoint_interval_change_nothing(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_config, tiny_data, tmp_path / "a", progress=False)
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, tmp_path / "b", progress=False, on_step=dies_at(5))
    train(
        with_train(tiny_config, workers=2, checkpoint_every=5),
        tiny_data,
        tmp_path / "b",
        resume=True,
        progress=False,
    )
    assert_same_tensors(load_file(tmp_path / "a/last.safetensors"), load_file(tmp_path / "b/last.safetensors"))


def test_resuming_a_complete_run_changes_nothing(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(tiny_config, tiny_data, tmp_path / "run", resume=True, progress=False)
    assert f"nothing to resume in {tmp_path / 'run'}: training from the start" in capsys.readouterr().out
    state = (tmp_path / "run/checkpoint.pt").read_bytes()
    assert train(tiny_config, tiny_data, tmp_path / "run", resume=True, progress=False).best_step == first.best_step
    assert (tmp_path / "run/checkpoint.pt").read_bytes() == state


def test_an_existing_run_is_not_overwritten(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=dies_at(1))
    with pytest.raises(ValueError, match="--resume"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False)


def test_changed_fields_are_named_on_resume(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=dies_at(5))
    other = with_train(replace(tiny_config, tsd=replace(tiny_config.tsd, gamma=0.3)), lr=0.5, seed=9)
    with pytest.raises(
        CheckpointError,
        match=r"tsd\.gamma was 0\.1, is 0\.3; train\.lr was 0\.001, is 0\.5; train\.seed was 0, is 9\. To continue",
    ):
        train(other, tiny_data, tmp_path / "run", resume=True, progress=False)


def test_a_run_resumes_under_a_newer_version(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    """Fields that its checkpoint lacks have their defaults, and options of other heads may change."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, out, progress=False, on_step=dies_at(5))
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    del state["config"]["double"], state["config"]["tsd"]["share_first_layer"]
    torch.save(state, out / "checkpoint.pt")
    result = train(
        replace(tiny_config, double=replace(tiny_config.double, bottlenecks=1)), tiny_data, out, True, progress=False
    )
    assert read_header(result.out / "last.safetensors").origin["step"] == tiny_config.train.steps


def test_resuming_on_other_data_is_refused(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, write_split: WriteSplit
) -> None:
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=dies_at(5))
    write_split(tmp_path / "more", "train", 9, 0)
    write_split(tmp_path / "more", "val", 2, 1)
    with pytest.raises(CheckpointError, match=r"other data: 1 image of train added \(id 18\)"):
        train(tiny_config, tmp_path / "more", tmp_path / "run", resume=True, progress=False)


def test_a_run_killed_early_keeps_its_initial_weights(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    config = with_train(tiny_config, steps=3, eval_every=0)
    weights = train(with_train(config, seed=5), tiny_data, tmp_path / "first", progress=False).weights
    whole = train(config, tiny_data, tmp_path / "whole", progress=False, weights=weights)
    with pytest.raises(Killed):
        train(config, tiny_data, tmp_path / "run", progress=False, weights=weights, on_step=dies_at(1))
    state = load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert state["step"] == 0
    save_checkpoint(tmp_path / "run/checkpoint.pt", {**state, "start": {"init": str(weights)}})  # its older name
    train(config, tiny_data, tmp_path / "run", resume=True, progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert read_header(whole.weights).origin["weights"] == str(weights)
    assert read_header(weights).origin.keys() == {"step", "metrics"}


def test_weights_that_are_not_finite_never_reach_a_checkpoint(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules["tsdlab.training.loop"], "learning_rate", lambda train, step: 1e-3 if step < 5 else math.nan
    )
    config = with_train(tiny_config, checkpoint_every=1)
    with pytest.raises(NonFiniteLossError, match="weights are not finite after step 6"):
        train(config, tiny_data, tmp_path / "run", progress=False)
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["step"] == 5


def test_statistics_that_are_not_finite_never_reach_a_checkpoint(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running statistics of batch norms are no parameters, and training does not read them: no loss shows it."""
    forward, calls = Detector.forward, [0]

    def poisoned(self: Detector, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            self.backbone.body.bn1.running_var.fill_(math.inf)
        return forward(self, *arguments)

    monkeypatch.setattr(Detector, "forward", poisoned)
    config = with_train(tiny_config, checkpoint_every=1)
    with pytest.raises(NonFiniteLossError, match="weights are not finite after step 3"):
        train(config, tiny_data, tmp_path / "run", progress=False)
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["step"] == 2


def test_a_checkpoint_without_a_gradient_scaler_loads_none(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 16-mixed run that started on a CPU has no gradient scaler, and that of CUDA refuses an empty state."""

    def refuse(self: Precision, state: dict[str, object]) -> None:
        assert state

    monkeypatch.setattr(Precision, "load_state_dict", refuse)
    config = with_train(tiny_config, precision="16-mixed", steps=2, eval_every=0)
    with pytest.raises(Killed):
        train(config, tiny_data, tmp_path / "run", progress=False, device="cpu", on_step=dies_at(1))
    train(config, tiny_data, tmp_path / "run", resume=True, progress=False, device="cpu")


@pytest.mark.gpu
def test_a_mixed_run_moves_from_cpu_to_cuda_and_back(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    config = with_train(tiny_config, precision="16-mixed", checkpoint_every=1)
    for device, step in (("cpu", 2), ("cuda", 4), ("cpu", 7)):
        with pytest.raises(Killed):
            train(
                config, tiny_data, tmp_path / "run", resume=True, progress=False, device=device, on_step=dies_at(step)
            )
    train(config, tiny_data, tmp_path / "run", resume=True, progress=False, device="cuda")


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    config = with_train(tiny_config, steps=60, checkpoint_every=3, eval_every=20)
    (tmp_path / "config.json").write_text(json.dumps(config_to_dict(config)))
    command = [sys.executable, "-c", RUN, str(tmp_path / "config.json"), str(tiny_data)]

    with subprocess.Popen([*command, str(tmp_path / "whole")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        started = time.monotonic()
        assert process.wait() == 0
        whole = time.monotonic() - started

    out, rng, kills, complete = tmp_path / "killed-0", random.Random(0), 0, [tmp_path / "killed-0"]
    while kills < 20:
        process = subprocess.Popen([*command, str(out)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            process.wait(timeout=rng.uniform(0.0, 0.2) * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        else:  # it was faster than twenty kills: begin another run
            out = tmp_path / f"killed-{len(complete)}"
            complete.append(out)
        process.wait()
    subprocess.run([*command, str(out)], check=True)
    for run in complete:
        assert_same_run(tmp_path / "whole", run)
