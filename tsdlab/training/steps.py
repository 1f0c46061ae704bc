"""Weights on the way: a run keeps those of every few steps, for views that follow the training.

They are `steps/step-000500.safetensors` in the folder of the run, matrices and kernels in float16.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tsdlab.config import Config
from tsdlab.errors import CheckpointError, MissingFileError, WeightsError
from tsdlab.models.detector import Detector
from tsdlab.models.weights import load_detector, read_header, save_weights
from tsdlab.training.state import TrainingState, changed_fields

STEPS = "steps"
_NAME = re.compile(r"step-(\d{6,})\.safetensors")


class TrainingSteps(Mapping[int, Path]):
    """The kept weights of a run: step → file, ascending. `steps_of` makes one; `tsdlab.explore` takes it as a model."""

    def __init__(self, files: Mapping[int, Path]) -> None:
        self._files = dict(sorted(files.items()))

    def __getitem__(self, step: int) -> Path:
        return self._files[step]

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def load(self, step: int) -> Detector:
        """The detector after `step` steps; after the last ones that were kept before it, if it was not kept itself."""
        before = [kept for kept in self if kept <= step]
        return load_detector(self[before[-1] if before else next(iter(self))])


def steps_of(run: str | Path) -> TrainingSteps:
    """The weights that a run has kept with `train.keep_every`.

    Args:
        run: the folder of the run, or its folder `steps`.

    Raises:
        MissingFileError: there are none.
        WeightsError: one of them says that it is of another step.
    """
    run = Path(run)
    folder = run / STEPS if (run / STEPS).is_dir() else run
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    files = {int(match[1]): path for path in found if (match := _NAME.fullmatch(path.name))}
    if not files:
        raise MissingFileError(f"{run} has no {STEPS}/step-….safetensors; train with --train.keep-every to keep them")
    for step, path in files.items():
        if (kept := read_header(path).origin.get("step")) != step:
            raise WeightsError(f"{path} holds the weights of step {kept!s:.30}; rename it, or move it away")
    return TrainingSteps(files)


def is_kept(config: Config, step: int) -> bool:
    """Whether a run keeps the weights after `step` steps: at the start, every `train.keep_every`, and at the end."""
    every = config.train.keep_every
    return every > 0 and (step % every == 0 or step == config.train.steps)


def keep_step(out: Path, config: Config, state: TrainingState) -> None:
    """Write the weights of the current step, before the checkpoint of this step: so none is missing after a resume."""
    state.require_finite()
    path = out / STEPS / f"step-{state.step:06d}.safetensors"
    path.parent.mkdir(exist_ok=True)
    _require_own(path, config, state.step)
    model = state.evaluated_model
    save_weights(path, model, model.categories, origin={"step": state.step, **state.started_from})


def require_own_steps(out: Path, config: Config, step: int) -> None:
    """Check the files that a run after `step` steps will replace; a run that was killed may have written them.

    Raises:
        CheckpointError: one is somebody else's, or of another run.
    """
    for coming in range(step, config.train.steps + 1):
        if is_kept(config, coming):
            _require_own(out / STEPS / f"step-{coming:06d}.safetensors", config, coming)


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
