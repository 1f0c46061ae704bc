"""Evaluating during training, and keeping the best weights."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fabric import Fabric

from tsdlab.config import Config, TrainConfig
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import CheckpointError
from tsdlab.evaluation import Metrics, collect_detections, measure
from tsdlab.models.weights import read_header, save_weights
from tsdlab.training.logs import METRICS, RunLogs, print_above_bar
from tsdlab.training.processes import any_process, gather, share_buffers
from tsdlab.training.state import LAST_WEIGHTS, WEIGHTS, TrainingState, changed_fields


class Evaluated(NamedTuple):
    """Weights that were evaluated: after which step, and with which metrics."""

    step: int
    metrics: Metrics

    def as_dict(self) -> dict[str, Any]:
        return {"step": self.step, **self.metrics.as_dict()}


class Validation:
    """Evaluates a run on a split and keeps two weights files: the best so far and the last.

    Args:
        val: the data that decide which weights are the best.
        out: folder of the run, where the weights files go.
        logs: get a row for each evaluation.
        progress: print a progress bar and the result.
    """

    def __init__(
        self, fabric: Fabric, train: TrainConfig, val: CocoDataset, out: Path, logs: RunLogs, progress: bool
    ) -> None:
        self._fabric, self._train, self._val, self._out = fabric, train, val, out
        self._logs, self._progress = logs, progress

    def check(self, config: Config, step: int) -> None:
        """Check the weights files of a run that was saved after `step` steps, before it is resumed.

        Raises:
            CheckpointError: one is missing, is of another run, or does not say how it was evaluated.
            WeightsError: one cannot be read.
        """
        evaluated = max(self._logs.evaluated_steps(), default=None)
        for name in (WEIGHTS, LAST_WEIGHTS):
            path = self._out / name
            if os.path.lexists(path):
                found = _evaluated(path)
                changed = changed_fields(read_header(path).config, config)
                if changed or found is None or not 0 <= found.step <= config.train.steps:
                    reason = changed[0] if changed else "its step is not one of this run"
                    raise CheckpointError(f"{path} belongs to another run ({reason}); restore the file from a copy")
            elif evaluated is not None and evaluated <= step:
                raise CheckpointError(
                    f"{path} is missing, and {METRICS} says that it was evaluated; restore it, or remove {METRICS} to "
                    "look for the best weights anew"
                )

    def is_due(self, step: int) -> bool:
        """Whether the run is evaluated after `step` steps: every `train.eval_every` steps, and at the end."""
        every = self._train.eval_every
        return step == self._train.steps or (every > 0 and step % every == 0)

    def is_done(self, step: int) -> bool:
        """Whether the evaluation after `step` steps is complete; a process may have died during it."""
        return any_process(self._fabric, step in self._logs.evaluated_steps()[-1:])

    def is_exhausted(self) -> bool:
        """Whether the last `train.patience` evaluations, or more, had no better AP than the best before them."""
        if not self._train.patience:
            return False
        best = self.best()
        since = sum(step > best.step for step in self._logs.evaluated_steps()) if best else 0
        return any_process(self._fabric, since >= self._train.patience)

    def detect(self, state: TrainingState) -> list[dict[str, Any]]:
        """What the model detects in `val`, in COCO's result format; the processes divide the images among them."""
        model = state.evaluated_model
        share_buffers(self._fabric, model)
        share = range(self._fabric.global_rank, len(self._val), self._fabric.world_size)
        found = collect_detections(
            model, self._val, workers=self._train.workers, progress=self._progress, indices=share
        )
        return [detection for detections in gather(self._fabric, found) for detection in detections]

    def keep(self, state: TrainingState, detections: list[dict[str, Any]]) -> None:
        """Measure the detections and save the weights; as the best ones if none had a higher AP.

        Each weights file records its own step and metrics, so the two cannot disagree, whenever the process dies.
        The row in metrics.csv is written last: without it a resumed run evaluates again.
        """
        if not self._fabric.is_global_zero:
            return
        model = state.evaluated_model
        metrics = measure(self._val, detections)
        best = self.best()
        is_best = best is None or not _ap(best.metrics) >= _ap(metrics)
        origin = {"step": state.step, "metrics": metrics.as_dict(), **state.started_from}
        for name in (WEIGHTS, LAST_WEIGHTS) if is_best else (LAST_WEIGHTS,):
            save_weights(self._out / name, model, model.categories, origin=origin)
        self._logs.add_metrics(state.step, metrics.numbers())
        if self._progress:
            print_above_bar(f"step {state.step}: {metrics.line()}" + ("  (best so far)" if is_best else ""))

    def best(self) -> Evaluated | None:
        """The best weights so far; None before the first evaluation."""
        return _evaluated(self._out / WEIGHTS)

    def best_and_last(self) -> tuple[Evaluated, Evaluated]:
        """The best and the last weights of a complete run.

        Raises:
            CheckpointError: a weights file was removed.
        """
        best, last = self.best(), _evaluated(self._out / LAST_WEIGHTS)
        if best is None or last is None:
            raise CheckpointError(f"{self._out} is complete, but {WEIGHTS} or {LAST_WEIGHTS} is missing")
        return best, last


def _ap(metrics: Metrics) -> float:
    """AP to compare by; −1 if a split without objects has none."""
    return -1.0 if math.isnan(metrics.AP) else metrics.AP


def _evaluated(weights: Path) -> Evaluated | None:
    if not weights.is_file():
        return None
    origin = read_header(weights).origin
    try:
        step, metrics = origin["step"], Metrics.from_dict(origin["metrics"])
    except (KeyError, TypeError, ValueError, AttributeError):
        step, metrics = None, None
    if type(step) is not int or metrics is None:
        raise CheckpointError(f"{weights} does not say after which step it was evaluated; restore it from a copy")
    return Evaluated(step, metrics)
