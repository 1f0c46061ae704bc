"""The learning rate of every step, and the optimizer.

To add a learning-rate schedule, write a function `(train, step) -> factor` here, such as `cosine`, and name it in
`tsdlab.config.SCHEDULES`. The command line then offers it as `--train.schedule`.
"""

from __future__ import annotations

import math
import pkgutil

import torch
from torch import nn

from tsdlab.config import SCHEDULES, TrainConfig


def step_decay(train: TrainConfig, step: int) -> float:
    """1, divided by 10 at every milestone that has been reached."""
    return 0.1 ** sum(step >= round(milestone * train.steps) for milestone in train.milestones)


def cosine(train: TrainConfig, step: int) -> float:
    """Half a cosine: from 1 at step 0 down to 0 at the last step."""
    return 0.5 * (1 + math.cos(math.pi * step / train.steps))


def learning_rate(train: TrainConfig, step: int) -> float:
    """The learning rate of the step that follows `step` completed steps.

    It is the product of three factors: `train.lr` scaled linearly with the batch size, a linear warm-up, and the
    schedule that `train.schedule` names.
    """
    lr = train.lr * train.batch_size / train.lr_batch_size
    if step < train.warmup_steps:
        lr *= train.warmup_factor + (1 - train.warmup_factor) * step / train.warmup_steps
    return lr * pkgutil.resolve_name(SCHEDULES[train.schedule])(train, step)


def build_optimizer(train: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters of `model`, without weight decay for biases and norms."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    lr = learning_rate(train, 0)
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, momentum=train.momentum)
    return torch.optim.AdamW(groups, lr)
