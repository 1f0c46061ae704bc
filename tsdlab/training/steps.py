"""Weights on the way: a run keeps those of every few steps, for views that follow the training."""

from __future__ import annotations

import os
from pathlib import Path

from tsdlab.config import Config
from tsdlab.errors import CheckpointError, WeightsError
from tsdlab.models.steps import step_file
from tsdlab.models.weights import read_header, save_weights
from tsdlab.training.state import TrainingState, changed_fields


def is_kept(config: Config, step: int) -> bool:
    """Whether a run keeps the weights after `step` steps: at the start, every `train.keep_every`, and at the end."""
    every = config.train.keep_every
    return every > 0 and (step % every == 0 or step == config.train.steps)


def keep_step(out: Path, config: Config, state: TrainingState) -> None:
    """Write the weights of the current step, before the checkpoint of this step: so none is missing after a resume."""
    state.require_finite()
    path = step_file(out, state.step)
    path.parent.mkdir(exist_ok=True)
    _require_own(path, config, state.step)
    model = state.evaluated_model
    save_weights(path, model, model.categories, origin={"step": state.step, **state.started_from})


def require_own_steps(out: Path, config: Config, step: int) -> None:
    """Check the files that a run will replace from `step` on; a run that was killed may have written them.

    Raises:
        CheckpointError: one is somebody else's, or of another run.
    """
    for coming in range(step, config.train.steps + 1):
        if is_kept(config, coming):
            _require_own(step_file(out, coming), config, coming)


def _require_own(path: Path, config: Config, step: int) -> None:
    if not os.path.lexists(path):
        return
    reason = "it is not a weights file of this step"
    if path.is_file() and not path.is_symlink():
        try:
            header = read_header(path)
        except WeightsError:
            pass
        else:
            changed = "; ".join(changed_fields(header.config, config))
            reason = changed if header.origin.get("step") == step else reason
    if reason:
        raise CheckpointError(f"{path} is not of this run: {reason}. Move it away to go on without it")
