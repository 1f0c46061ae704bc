"""The weights that a training run has kept on the way: `steps/step-000500.safetensors` in its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tsdlab.errors import MissingFileError, WeightsError
from tsdlab.models.detector import Detector
from tsdlab.models.weights import load_detector, read_header

STEPS = "steps"
_NAME = re.compile(r"step-(\d{6,})\.safetensors")


def step_file(run: Path, step: int) -> Path:
    """Where a run keeps its weights after `step` steps."""
    return run / STEPS / f"step-{step:06d}.safetensors"


class TrainingSteps:
    """The kept weights of a run. `tsdlab.explore` takes it as a model that is followed over its training.

    Attributes:
        files: step → weights file, ascending.
    """

    def __init__(self, files: dict[int, Path]) -> None:
        self.files = dict(sorted(files.items()))

    def __iter__(self) -> Iterator[int]:
        return iter(self.files)

    def load(self, step: int) -> Detector:
        """The detector after `step` steps; if those weights were not kept, with the last ones kept before."""
        return load_detector(self.files[max((kept for kept in self if kept <= step), default=min(self))])


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
    found = folder.iterdir() if folder.is_dir() else []
    files = {int(match[1]): path for path in found if (match := _NAME.fullmatch(path.name))}
    if not files:
        raise MissingFileError(f"{run} has no {STEPS}/step-….safetensors; train with --train.keep-every to keep them")
    for step, path in files.items():
        if (kept := read_header(path).origin.get("step")) != step:
            raise WeightsError(f"{path} holds the weights of step {kept!s:.30}; rename it, or move it away")
    return TrainingSteps(files)
