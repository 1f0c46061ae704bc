"""A run from its first step to its results, and what stops it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import ImageFile
from runs import Killed, dies_at, rows, with_train
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import get_model

from tsdlab import memory
from tsdlab.config import Config
from tsdlab.data.coco import CocoDataset
from tsdlab.data.sampling import TrainingBatches
from tsdlab.errors import DataError, InputError, NonFiniteLossError, WeightsError
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.weights import load_detector, read_header
from tsdlab.training import train
from tsdlab.training.checkpoint import load_checkpoint
from tsdlab.training.loop import _open_data
from tsdlab.training.schedule import learning_rate

WriteSplit = Callable[[Path, str, int, int], None]


def test_no_image_is_decoded_before_the_batch_that_needs_it(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, decoded = ImageFile.ImageFile.load, []

    def watched(self: ImageFile.ImageFile) -> object:
        decoded.extend(self.tile[:1])  # what is still to be decoded
        return load(self)

    def on_step(step: int, losses: dict[str, float]) -> None:
        assert len(decoded) == 2 * step  # the batches so far, of two images
        if step == 2:
            raise Killed

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    with pytest.raises(Killed):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, on_step=on_step)
    assert len(decoded) == 4


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


def test_a_row_of_the_log_is_the_mean_since_the_row_before(
    tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    losses: list[dict[str, float]] = []
    train(
        with_train(tiny_config, eval_every=0),
        tiny_data,
        tmp_path / "run",
        progress=False,
        on_step=lambda step, values: losses.append(values),
    )
    for row, steps in zip(rows(tmp_path / "run/log.csv"), (losses[:5], losses[5:10], losses[10:]), strict=True):
        for name in losses[0]:
            assert float(row[name]) == pytest.approx(sum(values[name] for values in steps) / len(steps), rel=1e-9)


def test_a_step_moves_the_weights_by_the_learning_rate_of_the_step(
    tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    """Every gradient is clipped to the same length, and there is neither momentum nor decay."""
    config = with_train(
        tiny_config,
        **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.02},
        **{"steps": 4, "warmup_steps": 2, "warmup_factor": 0.5, "schedule": "step", "milestones": (0.75,)},
        **{"checkpoint_every": 1, "eval_every": 0},
    )
    out, states = tmp_path / "run", []

    def read_previous(step: int, losses: dict[str, float]) -> None:
        states.append(load_checkpoint(out / "checkpoint.pt")["model"])

    train(config, tiny_data, out, progress=False, on_step=read_previous)
    states.append(load_checkpoint(out / "checkpoint.pt")["model"])
    parameters = [name for name, _ in build_detector(replace(tiny_config, num_classes=2)).named_parameters()]
    moved = [
        torch.cat([(after[name] - before[name]).flatten() for name in parameters]).norm().item()
        for before, after in pairwise(states)
    ]
    assert moved == pytest.approx([0.02 * rate for rate in (0.05, 0.075, 0.1, 0.01)], rel=1e-3)


def test_a_run_augments_its_images_as_configured(tiny_config: Config, tiny_data: Path) -> None:
    plain = CocoDataset(tiny_data, "train")[1][0]
    whole, _ = _open_data(with_train(tiny_config, flip=0.0, scale_jitter=(1.0, 1.0)), tiny_data, "train", "val")
    assert torch.equal(whole[1][0], plain)
    mirrored, val = _open_data(with_train(tiny_config, flip=1.0, scale_jitter=(1.0, 1.0)), tiny_data, "train", "val")
    assert torch.equal(mirrored[1][0], plain.flip(-1))
    assert torch.equal(val[1][0], CocoDataset(tiny_data, "val")[1][0])
    shrunk, _ = _open_data(with_train(tiny_config, flip=0.0, scale_jitter=(0.5, 0.5)), tiny_data, "train", "val")
    padding = (shrunk[1][0] == torch.tensor(tiny_config.image.mean)[:, None, None]).all(dim=0)
    assert padding.float().mean() == pytest.approx(0.75)  # what the model subtracts: zeros to the backbone


def test_the_seed_decides_the_weights_the_images_and_the_samples(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["tsdlab.training.loop"]
    weights, drawn, generators = [], [], []

    def seen_batches(*arguments: int, **options: int) -> TrainingBatches:
        drawn.append(list(TrainingBatches(*arguments, **options)))
        return TrainingBatches(*arguments, **options)

    monkeypatch.setattr(module, "TrainingBatches", seen_batches)
    for name, seed in (("a", 3), ("b", 4), ("c", 3)):
        config = with_train(tiny_config, seed=seed, steps=1, eval_every=0)
        with pytest.raises(Killed):
            train(config, tiny_data, tmp_path / name, progress=False, on_step=dies_at(1))
        state = load_checkpoint(tmp_path / name / "checkpoint.pt")  # from before the first step
        weights.append(state["model"]["rpn.head.conv.0.0.weight"])
        generators.append(state["rng"][0]["torch"])
    for values in (weights, [torch.tensor(d) for d in drawn], generators):
        assert torch.equal(values[0], values[2]) and not torch.equal(values[0], values[1])


def test_data_is_checked_before_anything_is_written(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, write_split: WriteSplit
) -> None:
    with pytest.raises(DataError, match="instances_train"):
        train(tiny_config, tmp_path / "nowhere", tmp_path / "run", progress=False)
    write_split(tmp_path / "data", "train", 2, 0)
    write_split(tmp_path / "data", "val", 2, 0)
    file = tmp_path / "data/annotations/instances_val.json"
    file.write_text(file.read_text().replace('"red"', '"green"'))
    with pytest.raises(DataError, match="only in val: 'green'; only in train: 'red'"):
        train(tiny_config, tmp_path / "data", tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


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


def test_matching_tensors_are_taken_from_the_weights(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    config = with_train(tiny_config, steps=1, lr=0.0, warmup_steps=0, eval_every=0)
    sibling = train(replace(config, head="sibling"), tiny_data, tmp_path / "sibling", progress=False)
    other = with_train(config, seed=5)
    tsd = train(other, tiny_data, tmp_path / "tsd", progress=False, weights=sibling.weights)
    a, b = load_file(sibling.weights), load_file(tsd.weights)
    same = [name for name in a if name.startswith(("backbone.body.layer", "rpn.")) and a[name].dim() > 1]
    assert same and all(torch.equal(a[name], b[name]) for name in same)


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


def test_a_backbone_starts_from_a_local_file(
    tiny_config: Config,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without a network; a resumed run does not read the file again."""
    monkeypatch.setattr("socket.socket.connect", None)
    file = tmp_path / "mine.pth"
    state = get_model("resnet18", weights=None).state_dict()
    torch.save(state, file)
    frozen = replace(tiny_config.backbone, name="resnet18", norm="frozen", trainable_stages=0)
    config = replace(tiny_config, backbone=frozen)
    with pytest.raises(Killed):
        train(config, tiny_data, tmp_path / "run", progress=False, weights_backbone=file, on_step=dies_at(5))
    said = capfd.readouterr()
    assert f"starting the backbone from {file}: all 75 tensors of its network; not used: layer4.0" in said.out
    assert "random" not in said.out and "warning" not in said.out
    file.unlink()
    result = train(config, tiny_data, tmp_path / "run", progress=False, weights_backbone=file, resume=True)
    assert read_header(result.weights).origin["weights_backbone"] == str(file)
    weights = load_file(result.weights)
    for name in ("conv1.weight", "layer3.1.conv2.weight", "layer2.0.bn1.bias"):
        torch.testing.assert_close(weights[f"backbone.body.{name}"].float(), state[name].half().float())


@pytest.mark.parametrize("download", [True, False])
def test_another_normalization_than_the_weights_expect_is_noticed(
    download: bool,
    tiny_config: Config,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Published weights that are downloaded expect theirs; those in a file may be others, trained otherwise."""
    monkeypatch.setattr("socket.socket.connect", None)
    backbone = replace(tiny_config.backbone, name="resnet18")
    config = replace(tiny_config, backbone=backbone, image=replace(tiny_config.image, mean=(0.5, 0.5, 0.5)))
    config = with_train(config, steps=1, eval_every=0)
    if download:
        with pytest.raises(InputError, match=r"give --image\.mean 0\.485 0\.456 0\.406$"):
            train(config, tiny_data, tmp_path / "run", progress=False, weights_backbone="DEFAULT")
        assert not (tmp_path / "run/checkpoint.pt").exists()
    else:
        torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "mine.pth")
        train(config, tiny_data, tmp_path / "run", progress=False, weights_backbone=tmp_path / "mine.pth")
        assert "warning: the published weights of resnet18 were trained with" in capfd.readouterr().out


def test_a_file_that_does_not_fit_the_backbone_is_refused_before_the_run_begins(
    tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth is of a larger network than the backbone resnet10"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, weights_backbone=tmp_path / "other.pth")
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_weights_without_a_matching_tensor_are_refused(tiny_config: Config, tiny_data: Path, tmp_path: Path) -> None:
    save_file({"theirs": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="is not the state dict of a torchvision"):
        train(tiny_config, tiny_data, tmp_path / "run", progress=False, weights=tmp_path / "w.safetensors")
    assert not (tmp_path / "run").exists()


def test_the_allocator_of_the_calling_process_stays_as_it_is(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLibrary:
        def CDLL(self, name: str | None) -> None:
            raise AssertionError("train() changes the allocator")

    monkeypatch.setattr(memory, "ctypes", NoLibrary())
    train(with_train(tiny_config, steps=1, eval_every=0), tiny_data, tmp_path / "run", progress=False)


@pytest.mark.parametrize(("worth_saying", "said"), [(0.0, True), (1.0, False)])
def test_a_run_that_waits_for_images_says_so(
    worth_saying: float,
    said: bool,
    tiny_config: Config,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tsdlab.training.loop._WORTH_SAYING", worth_saying)
    train(with_train(tiny_config, steps=2, eval_every=0), tiny_data, tmp_path / "run", progress=False)
    assert ("% of the time went into waiting for images, with train.workers at 0; " in capsys.readouterr().out) == said


@pytest.mark.parametrize(("warmup", "said"), [(2, True), (1, False), (0, False)])
def test_a_warm_up_longer_than_the_run_is_noticed(
    warmup: int, said: bool, tiny_config: Config, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = replace(tiny_config.train, steps=2, warmup_steps=warmup)
    train(replace(tiny_config, train=schedule), tiny_data, tmp_path / "run", progress=False)
    assert ("note: train.warmup_steps is 2 in a run of 2 steps" in capsys.readouterr().out) == said
