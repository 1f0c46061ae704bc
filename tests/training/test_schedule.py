"""Learning rates of every schedule, and the optimizer's parameter groups."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tsdlab.config import SCHEDULES, Config, TrainConfig
from tsdlab.models.build import build_detector
from tsdlab.presets import PRESETS
from tsdlab.training import schedule
from tsdlab.training.schedule import build_optimizer, learning_rate


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


def test_the_optimizer_is_the_one_that_is_asked_for() -> None:
    layer = nn.Linear(3, 2)
    config = TrainConfig(lr=0.02, batch_size=8, lr_batch_size=16, warmup_factor=0.5, momentum=0.8, weight_decay=0.3)
    sgd = build_optimizer(replace(config, optimizer="sgd"), layer)
    assert type(sgd) is torch.optim.SGD and [group["momentum"] for group in sgd.param_groups] == [0.8, 0.8]
    adamw = build_optimizer(replace(config, optimizer="adamw"), layer)
    assert type(adamw) is torch.optim.AdamW
    for optimizer in (sgd, adamw):
        assert [group["params"] for group in optimizer.param_groups] == [[layer.weight], [layer.bias]]
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.005])  # of the first step


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_starts_at_the_full_rate_and_never_rises(name: str) -> None:
    config = TrainConfig(steps=100, batch_size=1, lr=0.5, lr_batch_size=1, warmup_steps=0, schedule=name)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == 0.5 and rates[-1] < 0.1 * rates[0]
    assert rates == sorted(rates, reverse=True)


def test_a_new_schedule_is_one_function_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(steps=100, batch_size=1, lr=0.5, lr_batch_size=1, warmup_steps=0)
    monkeypatch.setattr(schedule, "linear", lambda train, step: 1 - step / train.steps, raising=False)
    monkeypatch.setitem(SCHEDULES, config.schedule, "tsdlab.training.schedule:linear")
    assert learning_rate(config, 75) == pytest.approx(0.125)
