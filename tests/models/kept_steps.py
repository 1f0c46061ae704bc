"""A run that has kept its weights on the way, made of a shipped model."""

from __future__ import annotations

from pathlib import Path

import torch

import tsdlab
from tsdlab.models.steps import TrainingSteps, step_file
from tsdlab.models.weights import save_weights


def keep_steps(run: Path, steps: tuple[int, ...] = (0, 500, 1000)) -> TrainingSteps:
    """A run whose offsets grow from nothing to those of the shipped model."""
    for step in steps:
        model = tsdlab.load_detector("badges-tsd")
        with torch.no_grad():
            for net in (model.roi_heads.head.classification_offset, model.roi_heads.head.localization_offset):
                for parameter in net[-1].parameters():
                    parameter *= step / max(steps)
        step_file(run, step).parent.mkdir(parents=True, exist_ok=True)
        save_weights(step_file(run, step), model, model.categories, origin={"step": step})
    return tsdlab.steps_of(run)
