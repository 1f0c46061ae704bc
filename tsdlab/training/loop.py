"""The training loop: one function, `train`, that can be killed at any moment and resumed exactly.

A run is a folder:

    config.json          what was asked for
    checkpoint.pt        the last saved step: everything that `resume` needs
    log.csv              losses, averaged over every `log_every` steps
    metrics.csv          one row per evaluation
    weights.safetensors  the best evaluated weights so far; their header records step and metrics
    last.safetensors     the last evaluated weights
    metrics.json         best and last metrics, once the run is complete
    steps/               with `train.keep_every`: the weights after every so many steps
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import torch
from lightning_fabric import Fabric
from torch import Tensor

from tsdlab.config import Config, config_to_dict
from tsdlab.data.check import require_trainable
from tsdlab.data.coco import CocoDataset, Target
from tsdlab.data.fingerprint import fingerprint
from tsdlab.data.loading import BatchLoader, batch_loader
from tsdlab.data.sampling import TrainingBatches
from tsdlab.data.transforms import train_transforms
from tsdlab.device import Device
from tsdlab.errors import InputError, NonFiniteLossError, shown
from tsdlab.evaluation import Metrics
from tsdlab.files import write_json
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.imagenet import DOWNLOAD, load_backbone, normalization_problem
from tsdlab.models.start import start_from
from tsdlab.models.steps import STEPS
from tsdlab.provenance import versions
from tsdlab.randomness import drawing_from
from tsdlab.ranges import NonEmptyText, check_value
from tsdlab.structures import Category
from tsdlab.training.checkpoint import refuse_part
from tsdlab.training.interrupt import StopRequest, TrainingInterrupted, catch_signals
from tsdlab.training.logs import Losses, ProgressLine, RunLogs, require_tensorboard
from tsdlab.training.processes import any_process, launch, only_run
from tsdlab.training.schedule import learning_rate
from tsdlab.training.state import (
    CHECKPOINT,
    CONFIG,
    RESULT,
    WEIGHTS,
    TrainingState,
    load_previous,
    refuse_existing,
    require_own,
)
from tsdlab.training.steps import is_kept, keep_step, require_own_steps
from tsdlab.training.validation import Validation

OnStep = Callable[[int, Losses], None]
_WORTH_SAYING = 0.1  # of the time of a run, that it waited for images


@dataclass(frozen=True)
class TrainResult:
    """What a complete run leaves behind."""

    out: Path
    weights: Path  # the best evaluated weights
    best_step: int
    best: Metrics
    last: Metrics  # after the last step


def train(
    config: Config,
    data: Path | str,
    out: Path | str,
    resume: bool = False,
    progress: bool = True,
    on_step: OnStep | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | Path | None = None,
    tensorboard: bool = False,
    device: Device = "auto",
    train_split: str = "train",
    val_split: str = "val",
) -> TrainResult:
    """Train a detector on one split of a COCO-format folder and evaluate it on another.

    Under torchrun every process calls this with the same arguments; the batch is divided among them. On the CPU a
    resumed run has exactly the weights and logs of a run that was never stopped. The allocator of the calling process
    stays as it is; see `tsdlab.memory` for a setting that some CPUs train faster with.

    Args:
        config: what to build and how to train it; `num_classes` is taken from the data.
        data: folder with `annotations/instances_<split>.json` and the images of both splits.
        out: folder of the run: checkpoint, logs and weights (docs/training.md lists the files).
        resume: continue the run in `out`; if there is none yet, start it.
        progress: print a progress bar and each evaluation.
        on_step: called after every step with the number of completed steps and the step's losses, "total" included.
        weights: what to start from: "torchvision" (its COCO detector; needs a network), a .pth state dict of it, a
            shipped name or a weights file. A class takes the output rows of the class of the same name; rows of other
            classes, and layers that do not fit, are initialized at random. A resumed run needs neither this nor
            `weights_backbone`: its checkpoint has the weights.
        weights_backbone: what the backbone starts from: "DEFAULT" downloads ImageNet weights (needs a network);
            anything else is a local file with such weights (see `tsdlab.models.imagenet.load_backbone`). Ignored if
            `weights` are given.
        tensorboard: also log to `out/tensorboard`; needs the tensorboard package.
        device: "auto" uses CUDA if it is available. Mixed precision needs CUDA.
        train_split: name of the split to train on.
        val_split: name of the split to evaluate on. If it is the same, the metrics say nothing about other images.

    Raises:
        BusyFolderError: another run writes to `out`.
        DataError: the data cannot be used.
        LoaderError: a process that loads images has died; the last checkpoint is intact.
        OSError: a file cannot be read or written, such as on a full disk; the last checkpoint is intact.
        InputError: the config, the device or the weights cannot be used, or `out` holds a run and `resume` is False.
        CheckpointError: with `resume`, the run in `out` has another config or other data, or cannot be read.
        NonFiniteLossError: training has diverged; the last checkpoint is from before that.
        TrainingInterrupted: Ctrl-C, SIGTERM or SIGHUP; the state was saved.
    """
    data, out = Path(data), Path(out)
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"out is {shown(out)}, which is not UTF-8: weights files cannot have such a name; rename it"
        ) from None
    check_value("train_split", train_split, NonEmptyText)
    check_value("val_split", val_split, NonEmptyText)
    if tensorboard:
        require_tensorboard()
    fabric = launch(config.train, device)
    with only_run(fabric, out):
        if not resume:
            refuse_existing(out, (STEPS,) if config.train.keep_every else ())
        dataset, val = _open_data(config, data, train_split, val_split)
        if train_split == val_split:
            fabric.print(f"note: {train_split} is the split for training and for evaluation; metrics will be too high")
        if config.train.warmup_steps >= config.train.steps:
            fabric.print(
                f"note: train.warmup_steps is {config.train.warmup_steps:,} in a run of {config.train.steps:,} steps: "
                "the learning rate never gets to train.lr; make it a tenth of the steps"
            )
        config = replace(config, num_classes=len(dataset.categories))
        read = [fingerprint(dataset), fingerprint(val)]
        previous = load_previous(out, config, read) if resume else None
        if resume and previous is None:
            fabric.print(f"nothing to resume in {out}: training from the start")
        if previous is not None and "data" not in previous:
            fabric.print("note: an older version saved this run, without what it read; the data may have changed")
        start = {} if previous else _starting_point(weights, weights_backbone)
        with drawing_from({"cpu": torch.Generator().manual_seed(config.train.seed)}):
            model = _build_model(fabric, config, start, dataset.categories, fresh=previous is None)
        model.categories = dataset.categories
        with catch_signals() as stop:
            state = TrainingState(fabric, config, read, model)
            run = _Run(fabric, config, dataset, val, state, out, stop, progress and fabric.is_global_zero, tensorboard)
            run.begin(start, previous)
            return run.finish(on_step)


def _open_data(config: Config, data: Path, train_split: str, val_split: str) -> tuple[CocoDataset, CocoDataset]:
    """The two splits, judged as by `tsdlab data check`."""
    transforms = train_transforms(config.train.flip, config.train.scale_jitter, fill=config.image.mean)
    dataset, val = CocoDataset(data, train_split, transforms), CocoDataset(data, val_split)
    require_trainable(dataset, val, config.image.max_size)
    return dataset, val


def _starting_point(weights: str | Path | None, weights_backbone: str | Path | None) -> dict[str, str]:
    """The one of the two arguments of `train` that takes effect, by name; empty for random weights."""
    if weights is not None:
        return {"weights": str(weights)}
    return {} if weights_backbone is None else {"weights_backbone": str(weights_backbone)}


def _build_model(
    fabric: Fabric, config: Config, start: dict[str, str], categories: Sequence[Category], fresh: bool
) -> Detector:
    """The detector with its initial weights; says what they are if the run is `fresh`, not resumed."""
    backbone = start.get("weights_backbone")
    wrong = normalization_problem(config) if backbone is not None else ""
    if wrong and backbone == DOWNLOAD:
        raise InputError(wrong)
    model = build_detector(config, DOWNLOAD if backbone == DOWNLOAD else None)
    if backbone is not None and backbone != DOWNLOAD:
        taken = load_backbone(model.backbone.body, Path(backbone), config.backbone.name)
        fabric.print(f"starting the backbone from {backbone}: {taken.line()}")
        if wrong:  # no error: a file may hold weights that were trained in another way than the published ones
            fabric.print(f"warning: {wrong}, unless the weights in this file were trained as you say")
    if fresh and not start and config.backbone.norm == "frozen":
        fabric.print("note: backbone.norm is frozen and the weights are random; --imagenet or --weights would help")
    if "weights" in start:
        found = start_from(model, start["weights"], categories)
        fabric.print(f"starting from {start['weights']}")
        for line in found.lines():
            fabric.print(f"note: {line}")
    return model


class _Run:
    """The loop of one run, from its current step to its end."""

    def __init__(
        self,
        fabric: Fabric,
        config: Config,
        dataset: CocoDataset,
        val: CocoDataset,
        state: TrainingState,
        out: Path,
        stop: StopRequest,
        progress: bool,
        tensorboard: bool,
    ) -> None:
        self.fabric, self.config, self.dataset, self.state, self.out = fabric, config, dataset, state, out
        self.stop, self.progress = stop, progress
        self.logs = RunLogs(out, fabric.is_global_zero, tensorboard)
        self.validation = Validation(fabric, config.train, val, out, self.logs, progress)

    def begin(self, start: dict[str, str], previous: dict | None) -> None:
        """Restore the `previous` checkpoint, or save a first one, after which resuming needs no `weights`."""
        if previous is not None:
            require_own(self.out, self.config)
            self.logs.check(self.config.train.steps)
            self.validation.check(self.config, previous["step"])
            require_own_steps(self.out, self.config, previous["step"] + 1)
            self.state.restore(previous, self.out / CHECKPOINT)
            self.logs.truncate(self.state.step)  # rows after the checkpoint
        else:
            self.state.started_from = start
            self.keep()
            self.save()
        if self.fabric.is_global_zero:
            write_json(self.out / CONFIG, config_to_dict(self.config))

    def finish(self, on_step: OnStep | None) -> TrainResult:
        """Train and evaluate until all steps are done."""
        train, state = self.config.train, self.state
        if state.step and self.validation.is_due(state.step) and not self.validation.is_done(state.step):
            self.evaluate()  # this evaluation was interrupted
        state.wrapped.train()
        if self.validation.is_exhausted():
            return self.result()
        batches = self.batches()
        with ProgressLine(train.steps, state.step, train.batch_size, self.progress) as line:
            for images, targets in batches:
                losses = self.step(images, targets)
                line.advance()
                if on_step is not None:
                    on_step(state.step, losses)
                if state.step % train.log_every == 0 or state.step == train.steps:
                    self.log(line)
                self.keep()
                stopping = any_process(self.fabric, self.stop.signum is not None)
                evaluating = self.validation.is_due(state.step)
                if stopping or evaluating or state.step % train.checkpoint_every == 0:
                    self.save()
                if stopping:
                    self.raise_interrupted()
                if evaluating:
                    self.evaluate()
                    if state.step < train.steps and self.validation.is_exhausted():
                        self.fabric.print(
                            f"stopped early after step {state.step:,}: {train.patience} evaluations without a better AP"
                        )
                        break
                    state.wrapped.train()
                    line.restart_clock()
        if batches.waited > _WORTH_SAYING:
            self.fabric.print(
                f"note: {batches.waited:.0%} of the time went into waiting for images, with train.workers at "
                f"{train.workers}; more workers help if processor cores are idle, smaller image files always do"
            )
        return self.result()

    def batches(self) -> BatchLoader:
        """This process's share of every remaining batch, its images on its device."""
        train = self.config.train
        batches = TrainingBatches(
            len(self.dataset),
            train.batch_size,
            train.steps,
            train.seed,
            start_step=self.state.step,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
        return batch_loader(self.dataset, batches, train.workers, self.fabric.device)

    def step(self, images: list[Tensor], targets: list[Target]) -> Losses:
        """Forward, backward, update. Returns the losses of this process."""
        train, state = self.config.train, self.state
        targets = [{k: self.fabric.to_device(t[k]) for k in ("boxes", "labels")} for t in targets]
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(train, state.step)
        with state.random:
            losses = state.wrapped(images, targets)
        total = torch.stack(list(losses.values())).sum()
        values = [float(v) for v in torch.stack([*losses.values(), total]).tolist()]
        named = dict(zip([*losses, "total"], values))
        if not all(map(math.isfinite, values)):
            self.raise_diverged("a loss", named)
        state.wrapped_optimizer.zero_grad()
        self.fabric.backward(total)
        if train.clip_norm > 0:
            norm = self.fabric.clip_gradients(
                state.wrapped, state.wrapped_optimizer, max_norm=train.clip_norm, error_if_nonfinite=False
            )
            # 16-mixed overflows now and then by design: its scaler skips such a step.
            if norm is not None and train.precision != "16-mixed" and not math.isfinite(float(norm)):
                self.raise_diverged("the gradient", named)
        state.wrapped_optimizer.step()
        if state.average is not None:
            state.average.update_parameters(state.model)
        state.step += 1
        state.window.append(named)
        return named

    def log(self, line: ProgressLine) -> None:
        """Log the mean losses since the last row, and start the next one."""
        window, step = self.state.window, self.state.step
        if any(losses.keys() != window[-1].keys() for losses in window):
            refuse_part(self.out / CHECKPOINT, "window has other losses than this model")
        mean = {name: math.fsum(losses[name] for losses in window) / len(window) for name in window[0]}
        self.state.window = []
        self.logs.add_losses(step, learning_rate(self.config.train, step - 1), mean, line.images_per_s())
        line.show(mean)
        line.restart_clock()

    def save(self) -> None:
        """Save the checkpoint, after the log rows up to its step are on the disk."""
        self.logs.flush()
        self.state.save(self.out)

    def keep(self) -> None:
        """Keep the weights of this step, if the run keeps them."""
        if self.fabric.is_global_zero and is_kept(self.config, self.state.step):
            keep_step(self.out, self.config, self.state)

    def evaluate(self) -> None:
        """Evaluate on val; a signal ends this at once, since the state is saved and a resumed run evaluates again."""
        with self.stop.immediately(self.raise_interrupted):
            detections = self.validation.detect(self.state)
        self.validation.keep(self.state, detections)

    def result(self) -> TrainResult:
        """Write metrics.json of the complete run."""
        self.logs.close()
        self.fabric.barrier()  # the weights files are complete
        best, last = self.validation.best_and_last()
        if self.fabric.is_global_zero:
            content = {"best": best.as_dict(), "last": last.as_dict(), "config": config_to_dict(self.config)}
            write_json(self.out / RESULT, {**content, "versions": versions()})
        return TrainResult(self.out, self.out / WEIGHTS, best.step, best.metrics, last.metrics)

    def raise_diverged(self, what: str, losses: Losses) -> NoReturn:
        self.logs.flush()
        values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        raise NonFiniteLossError(
            f"{what} is not finite at step {self.state.step + 1}: {values}. The last checkpoint in {self.out} is "
            "untouched; try a lower train.lr, a longer train.warmup_steps or a smaller train.clip_norm"
        )

    def raise_interrupted(self) -> NoReturn:
        raise TrainingInterrupted(self.stop.signum or signal.SIGTERM, self.state.step, self.out)
