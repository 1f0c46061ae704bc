from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.precision import Precision
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsdlab.config import Config, TrainConfig, config_to_dict
from tsdlab.data.coco import DataError
from tsdlab.errors import CheckpointError
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.weights import load_detector, read_header
from tsdlab.presets import PRESETS
from tsdlab.training.logs import CsvLog
from tsdlab.training.loop import (
    NonFiniteLossError,
    TrainingInterrupted,
    build_optimizer,
    learning_rate,
    train,
)
from tsdlab.training.state import load_checkpoint, save_checkpoint

WriteSplit = Callable[[Path, str, int, int], None]


class Killed(Exception):
    """Stands for a process that dies."""


def dies_at(step: int) -> Callable[[int, dict[str, float]], None]:
    def on_step(done: int, losses: dict[str, float]) -> None:
        if done == step:
            raise Killed

    return on_step


def with_train(config: Config, **changes: object) -> Config:
    return replace(config, train=replace(config.train, **changes))  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def log_without_speed(out: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "images_per_s"} for row in rows(out / "log.csv")]


def assert_same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def assert_same_run(a: Path, b: Path) -> None:
    """The folders of two runs hold the same weights, state and logs, bit for bit."""
    for name in ("weights.safetensors", "last.safetensors", "metrics.csv", "metrics.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert log_without_speed(a) == log_without_speed(b)
    one, other = load_checkpoint(a / "checkpoint.pt"), load_checkpoint(b / "checkpoint.pt")
    assert_same_tensors(one["model"], other["model"])
    assert torch.equal(one["rng"][0]["torch"], other["rng"][0]["torch"])
    assert one["step"] == other["step"]


# The schedule


def test_learning_rate_scales_with_the_batch_warms_up_and_drops_at_milestones() -> None:
    config = TrainConfig(
        steps=100,
        batch_size=4,
        lr=0.02,
        lr_batch_size=16,
        warmup_steps=10,
        warmup_factor=0.2,
        milestones=(0.5, 0.9),
    )
    assert learning_rate(config, 0) == pytest.approx(0.005 * 0.2)
    assert learning_rate(config, 5) == pytest.approx(0.005 * 0.6)
    assert learning_rate(config, 10) == pytest.approx(0.005)
    assert learning_rate(config, 49) == pytest.approx(0.005)
    assert learning_rate(config, 50) == pytest.approx(0.0005)
    assert learning_rate(config, 90) == pytest.approx(0.00005)


def test_cosine_falls_to_zero() -> None:
    config = TrainConfig(steps=100, batch_size=1, lr=1.0, lr_batch_size=1, warmup_steps=0, schedule="cosine")
    assert learning_rate(config, 0) == pytest.approx(1.0)
    assert learning_rate(config, 50) == pytest.approx(0.5)
    assert learning_rate(config, 100) == pytest.approx(0.0)


def test_learning_rate_matches_the_paper() -> None:
    paper = PRESETS["coco-r101"].train  # 16 × 2 images, 0.00125 → 0.04 over the first epoch, ÷10 at 8 and 11 of 13
    epoch = 117_266 // 32
    assert learning_rate(paper, 0) == pytest.approx(0.00125)
    assert learning_rate(paper, epoch) == pytest.approx(0.04)
    assert learning_rate(paper, 8 * epoch + 100) == pytest.approx(0.004)
    assert learning_rate(paper, 11 * epoch + 100) == pytest.approx(0.0004)


def test_vectors_and_frozen_parameters_are_not_decayed(tiny_config: Config) -> None:
    model = build_detector(replace(tiny_config, backbone=replace(tiny_config.backbone, trainable_stages=3)))
    decayed, plain = build_optimizer(tiny_config.train, model).param_groups
    assert {p.dim() for p in plain["params"]} == {1} and plain["weight_decay"] == 0
    assert min(p.dim() for p in decayed["params"]) == 2 and decayed["weight_decay"] == 1e-2
    trained = {id(p) for p in [*decayed["params"], *plain["params"]]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(trained) < len(list(model.parameters()))


# A run


def test_a_run_leaves_everything_behind(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    out = tmp_path / "run"
    result = train(
        replace(tiny_config, num_classes=80),
        tiny_data,
        out,
        progress=False,
        on_step=lambda step, losses: seen.append(step),
    )
    assert seen == list(range(1, 13))
    assert [int(row["step"]) for row in rows(out / "log.csv")] == [5, 10, 12]
    assert [int(row["step"]) for row in rows(out / "metrics.csv")] == [6, 12]
    row = rows(out / "log.csv")[0]
    losses = [float(v) for k, v in row.items() if k.startswith("loss_")]
    assert len(losses) == 8 and float(row["total"]) == pytest.approx(sum(losses), rel=1e-5)
    assert float(row["lr"]) == learning_rate(tiny_config.train, 4)

    header = read_header(result.weights)
    assert header.config.num_classes == 2  # from the data
    assert [(c.id, c.name) for c in header.categories] == [(3, "red"), (7, "blue")]
    assert header.origin["step"] == result.best_step
    ap = {int(row["step"]): float(row["AP"]) for row in rows(out / "metrics.csv")}
    assert result.best.AP == max(ap.values()) == ap[result.best_step]
    assert ap[12] == result.last.AP
    assert json.loads((out / "metrics.json").read_text())["best"]["AP"] == result.best.AP
    assert load_detector(result.weights).config.num_classes == 2


def test_it_learns(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    config = with_train(tiny_config, steps=100, lr=3e-3, eval_every=0, scale_jitter=(1.0, 1.0))
    result = train(replace(config, head="sibling"), tiny_data, tmp_path / "run", progress=False)
    log = rows(tmp_path / "run/log.csv")
    losses = [float(row["total"]) for row in log]
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]
    assert result.last.AP50 > 4  # random weights find nothing


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_equals_one_that_was_never_stopped(
    optimizer: str, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    config = with_train(tiny_config, optimizer=optimizer, lr=1e-3, ema=0.8)
    torch.manual_seed(1)  # what ran before must not matter
    train(config, tiny_data, tmp_path / "whole", progress=False)
    out = tmp_path / "broken"
    for step in (
        2,
        7,
        11,
    ):  # before the second checkpoint; after an evaluation; with a log row to be forgotten
        torch.manual_seed(step)
        with pytest.raises(Killed):
            train(config, tiny_data, out, resume=True, progress=False, on_step=dies_at(step))
    train(config, tiny_data, out, resume=True, progress=False)
    assert_same_run(tmp_path / "whole", out)
    a, b = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "broken"))
    assert_same_tensors(a["ema"], b["ema"])
    assert not torch.equal(a["ema"]["module.rpn.head.conv.0.0.weight"], a["model"]["rpn.head.conv.0.0.weight"])


def test_an_interrupted_evaluation_is_run_again(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config, tiny_data, tmp_path / "whole", progress=False)
    module = sys.modules["tsdlab.training.loop"]

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    out = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(module, "collect_detections", die)
        with pytest.raises(Killed):
            train(tiny_config, tiny_data, out, progress=False)
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 6 and not (out / "metrics.csv").exists()
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_weights", die)  # after the measuring, before the row of metrics.csv
        with pytest.raises(Killed):
            train(tiny_config, tiny_data, out, resume=True, progress=False)
    train(tiny_config, tiny_data, out, resume=True, progress=False)
    assert_same_run(tmp_path / "whole", out)


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


# What is refused


def test_an_existing_run_is_not_overwritten(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=dies_at(1))
    with pytest.raises(ValueError, match="--resume"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False)


def test_resuming_with_another_config_names_what_differs(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=dies_at(5))
    other = with_train(replace(tiny_config, tsd=replace(tiny_config.tsd, gamma=0.3)), lr=0.5)
    with pytest.raises(
        CheckpointError, match=r"tsd\.gamma was 0\.1, is 0\.3; train\.lr was 0\.001, is 0\.5\. To go on"
    ):
        train(other, tiny_data, tmp_path / "run", resume=True, progress=False)


def test_a_run_goes_on_under_a_younger_version(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    """Fields it does not know have their defaults, and the options of heads that it has not may change."""
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
    with pytest.raises(CheckpointError, match="8 images"):
        train(tiny_config, tmp_path / "more", tmp_path / "run", resume=True, progress=False)


def test_data_is_judged_before_anything_is_written(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, write_split: WriteSplit
) -> None:
    with pytest.raises(DataError, match="instances_train"):
        train(tiny_config, tmp_path / "nowhere", tmp_path / "run", progress=False)
    write_split(tmp_path / "data", "train", 2, 0)
    write_split(tmp_path / "data", "val", 2, 0)
    file = tmp_path / "data/annotations/instances_val.json"
    file.write_text(file.read_text().replace('"red"', '"green"'))
    with pytest.raises(DataError, match="green, red"):
        train(tiny_config, tmp_path / "data", tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("lr", -1.0), ("ema", 1.0), ("log_every", 0)])
def test_an_impossible_schedule_is_named(
    field: str, value: float, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"train\.{field}"):
        train(with_train(tiny_config, **{field: value}), tiny_data, tmp_path / "run", progress=False)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_tensorboard_is_asked_for_before_anything_is_written(
    tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="tensorboard is not installed"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, tensorboard=True)
    assert not (tmp_path / "run").exists()


# Divergence


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = Detector.forward, [0]

    def poisoned(self: Detector, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> object:
        losses = forward(self, images, targets)
        calls[0] += self.training
        if self.training and calls[0] == 6:
            losses["loss_box_reg"] = losses["loss_box_reg"] * torch.nan
        return losses

    monkeypatch.setattr(Detector, "forward", poisoned)
    with pytest.raises(NonFiniteLossError, match=r"step 6: .*loss_box_reg nan"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False)
    state = load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert state["step"] == 4
    assert all(bool(v.isfinite().all()) for v in state["model"].values())
    assert [row["step"] for row in rows(tmp_path / "run/log.csv")] == ["5"]


def test_a_gradient_that_is_not_finite_stops_the_run(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Detector.forward

    def poisoned(self: Detector, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> object:
        losses = forward(self, images, targets)
        zero = self.rpn.head.bbox_pred.bias.sum() * 0
        losses["loss_box_reg"] = losses["loss_box_reg"] + zero.sqrt()  # finite; its slope at 0 is not
        return losses

    monkeypatch.setattr(Detector, "forward", poisoned)
    with pytest.raises(NonFiniteLossError, match="gradient is not finite at step 1"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False)


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


# Signals


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_restores_the_handlers(
    signum: signal.Signals, tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def on_step(step: int, losses: dict[str, float]) -> None:
        if step == 7:
            os.kill(os.getpid(), signum)

    with pytest.raises(TrainingInterrupted, match=r"after step 7.*--resume") as caught:
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=on_step)
    assert caught.value.signum == signum
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["step"] == 7
    assert {s: signal.getsignal(s) for s in before} == before
    train(tiny_config, tiny_data, tmp_path / "run", resume=True, progress=False)
    train(tiny_config, tiny_data, tmp_path / "whole", progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_signal_ends_an_evaluation_at_once(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(sys.modules["tsdlab.training.loop"], "collect_detections", slow)
    with pytest.raises(TrainingInterrupted, match="after step 6"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False)


# Starting from weights


def test_weights_give_what_fits(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    config = with_train(tiny_config, steps=1, lr=0.0, warmup_steps=0, eval_every=0)
    sibling = train(replace(config, head="sibling"), tiny_data, tmp_path / "sibling", progress=False)
    other = with_train(config, seed=5)
    tsd = train(other, tiny_data, tmp_path / "tsd", progress=False, weights=sibling.weights)
    a, b = load_file(sibling.weights), load_file(tsd.weights)
    same = [name for name in a if name.startswith(("backbone.body.layer", "rpn.")) and a[name].dim() > 1]
    assert same and all(torch.equal(a[name], b[name]) for name in same)


def test_a_run_killed_early_keeps_what_it_started_from(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
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


def test_pretrained_backbones_are_recorded(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def without_network(config: Config, weights_backbone: str | None = None) -> Detector:
        asked.append(weights_backbone)
        return build_detector(config)

    monkeypatch.setattr(sys.modules["tsdlab.training.loop"], "build_detector", without_network)
    config = with_train(tiny_config, steps=1, eval_every=0)
    result = train(config, tiny_data, tmp_path / "run", progress=False, weights_backbone="DEFAULT")
    assert asked == ["DEFAULT"] and read_header(result.weights).origin["weights_backbone"] == "DEFAULT"


def test_weights_of_which_nothing_fits_are_refused(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    save_file({"theirs": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="tensors of the model's backbone"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, weights=tmp_path / "w.safetensors")
    assert not (tmp_path / "run").exists()


def test_a_precision_without_state_is_not_asked_to_load_any(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 16-mixed run that began on a CPU has no gradient scaler; the one of CUDA refuses an empty state."""

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


# Processes


RUN = """
import json, sys
from pathlib import Path
import torch
from tsdlab.config import config_from_dict
from tsdlab.training.loop import train
torch.set_num_threads(1)
config = config_from_dict(json.loads(Path(sys.argv[1]).read_text()))
print("ready", flush=True)
train(config, sys.argv[2], sys.argv[3], resume=True, progress=False, device="cpu")
"""


# The command line, and before and after it a hash of this process's parameters.
HASHED = """
import hashlib, os, sys
from pathlib import Path
from tsdlab import cli
run = sys.modules["tsdlab.training.loop"]._Run
complete = run.complete

def hashed(self, on_step):
    folder = Path(os.environ["HASHES"])
    def write(when):
        digest = hashlib.sha256()
        for parameter in self.model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        (folder / f"{when}-{self.fabric.global_rank}").write_text(digest.hexdigest())
    write("before")
    result = complete(self, on_step)
    write("after")
    return result

run.complete = hashed
cli.main()
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tiny_data: Path, tmp_path: Path) -> None:
    """Under torchrun each process sees half of every batch; what they save is one run."""
    (tmp_path / "hashed.py").write_text(HASHED)
    (tmp_path / "hashes").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HASHES": str(tmp_path / "hashes")}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    arguments = (
        f"train badges-tiny --data {tiny_data} --out {tmp_path / 'run'} --device cpu --resume "
        "--image.min-size 64 --image.max-size 64 --backbone.stages 2 3 --backbone.fpn-channels 16 "
        "--rpn.anchor-sizes 16 24 40 --roi.hidden 16 --tsd.offset-hidden 16 --train.steps 12 --train.batch-size 2 "
        "--train.warmup-steps 2 --train.eval-every 6 --train.checkpoint-every 4"
    ).split()

    def launch(*program: str) -> str:
        done = subprocess.run(
            [*torchrun, *program, *arguments],
            check=True,
            timeout=300,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    assert launch(str(tmp_path / "hashed.py")).count("best of step") == 1
    hashes = {file.name: file.read_text() for file in (tmp_path / "hashes").iterdir()}
    assert hashes["before-0"] == hashes["before-1"] != hashes["after-0"] == hashes["after-1"]
    assert [int(row["step"]) for row in rows(tmp_path / "run/metrics.csv")] == [6, 12]
    assert len(load_checkpoint(tmp_path / "run/checkpoint.pt")["rng"]) == 2
    assert json.loads((tmp_path / "run/metrics.json").read_text())["last"]["images"] == 5
    # As in the README; there is nothing left to do.
    assert launch("-m", "tsdlab.cli").count("best of step") == 1


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


# Logs


def test_a_torn_row_and_later_rows_are_forgotten(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv")
    for step in (5, 10, 15):
        log.append({"step": step, "loss": 0.5})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("20,0.")
    assert log.last_step() == 15
    log.truncate(10)
    assert (tmp_path / "log.csv").read_text() == "step,loss\n5,0.5\n10,0.5\n"
    log.truncate(0)
    assert not (tmp_path / "log.csv").exists()
