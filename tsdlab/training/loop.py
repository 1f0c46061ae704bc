"""The training loop: one function, `train`, that can be killed at any moment and resumed exactly.

A run is a folder:

    config.json          what was asked for
    checkpoint.pt        the last saved step: everything `resume` needs
    log.csv              losses, averaged over every `log_every` steps
    metrics.csv          one row per evaluation
    weights.safetensors  the best evaluated weights so far; their header says which step and which metrics
    last.safetensors     the last evaluated weights
    metrics.json         best and last metrics, once the run is complete
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from tsdlab.config import HEADS, Config, TrainConfig, config_from_dict, config_to_dict
from tsdlab.data.coco import CocoDataset, collate
from tsdlab.data.sampling import TrainingBatches
from tsdlab.data.transforms import train_transforms
from tsdlab.device import Device, resolve_device
from tsdlab.errors import CheckpointError, DataError, InputError, NonFiniteLossError
from tsdlab.evaluation import Metrics, collect_detections, measure
from tsdlab.files import write_json
from tsdlab.memory import keep_freed_memory
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.weights import read_header, save_weights, start_from
from tsdlab.progress import PROGRESS_INTERVAL
from tsdlab.provenance import versions
from tsdlab.training.interrupt import Stop, catch_signals, leave_process_group
from tsdlab.training.logs import CsvLog
from tsdlab.training.state import load_checkpoint, rng_state, save_checkpoint, set_rng_state

Losses = dict[str, float]

# Fields that change neither the weights nor the logs: a resumed run may use others. So are the options of other heads.
_FREE_ON_RESUME = {"train.workers", "train.checkpoint_every"}


class TrainingInterrupted(Exception):
    """SIGTERM or Ctrl-C ended the run; everything up to `step` is saved."""

    def __init__(self, signum: int, step: int, out: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; resume {out} with --resume")
        self.signum = signum
        self.step = step


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
    on_step: Callable[[int, Losses], None] | None = None,
    weights: str | Path | None = None,
    weights_backbone: str | None = None,
    tensorboard: bool = False,
    device: Device = "auto",
) -> TrainResult:
    """Train a detector on the `train` split of a COCO-format folder and evaluate it on `val`.

    Under torchrun every process calls this with the same arguments; the batch is divided among them. A run
    resumed on the CPU continues exactly: its weights and logs are those of a run that was never stopped.

    Args:
        config: what to build and how to train it; `num_classes` is taken from the data.
        data: folder with `annotations/instances_{train,val}.json` and the images.
        out: folder of the run (see the module's docstring).
        resume: continue the run in `out`; where there is none yet, start it.
        progress: print a progress bar and each evaluation.
        on_step: called after every step with the step (from 1) and its losses, "total" included.
        weights: what to start from: "torchvision" (its COCO detector; network needed), a .pth state dict of it, a
            shipped name or a weights file; outputs for other classes, and of the latter two whatever does not fit,
            start from random. A resumed run needs neither this nor the next: what it started from is in its first
            checkpoint.
        weights_backbone: "DEFAULT" starts the backbone from ImageNet weights (network needed); `weights` go first.
        tensorboard: also log to `out/tensorboard`; needs the tensorboard package.
        device: "auto" takes a CUDA device where there is one. Mixed precision needs CUDA.

    Raises:
        DataError: the data cannot be used.
        ValueError: an impossible config or device; `weights` do not fit; `out` holds a run (without `resume`)
            or a different one (with it).
        NonFiniteLossError: training has diverged; the last checkpoint is a good one.
        TrainingInterrupted: SIGTERM or Ctrl-C; the state was saved.
    """
    keep_freed_memory()
    data, out = Path(data), Path(out)
    _check_schedule(config.train)
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("tensorboard is not installed; pip install 'tsdlab[tensorboard]'")
    dataset, val = _open_data(config, data)
    config = replace(config, num_classes=len(dataset.categories))
    if not resume:
        _refuse_existing(out)
    state = _previous_state(out, config, dataset) if resume else None

    fabric = _launch_fabric(config.train, device)
    if config.train.batch_size % fabric.world_size:
        raise InputError(
            f"train.batch_size {config.train.batch_size} cannot be divided by {fabric.world_size} processes"
        )
    torch.manual_seed(config.train.seed)  # every process builds the same model …
    if weights is not None:
        weights_backbone = None
    model = build_detector(config, weights_backbone if state is None else None)
    if config.backbone.norm == "frozen" and weights is None and weights_backbone is None and state is None:
        fabric.print("note: backbone.norm is frozen and the weights are random; --imagenet or --weights would help")
    if resume and state is None:
        fabric.print(f"nothing to resume in {out}: training from the start")
    if weights is not None and state is None:
        left = start_from(model, weights)
        fabric.print(f"starting from {weights}")
        if left:
            more = f" and {len(left) - 4} more" if len(left) > 4 else ""
            fabric.print(f"note: {', '.join(left[:4])}{more} do not fit these weights and start from random")
    torch.manual_seed(config.train.seed + fabric.global_rank)  # … and draws its own samples

    start = {"weights": None if weights is None else str(weights), "weights_backbone": weights_backbone}
    if fabric.is_global_zero:
        out.mkdir(parents=True, exist_ok=True)
    with catch_signals() as stop:
        run = _Run(fabric, config, model, dataset, val, out, stop, progress and fabric.is_global_zero, tensorboard)
        if state is None:
            run.start = {name: value for name, value in start.items() if value is not None}
            run.forget_logs()  # of a run whose checkpoint is gone
            run.save()  # from here on, resuming needs no `weights`
        else:
            run.restore(state)
        if fabric.is_global_zero:
            write_json(out / "config.json", config_to_dict(config))
        return run.complete(on_step)


def learning_rate(train: TrainConfig, step: int) -> float:
    """Learning rate after `step` completed steps: linear warm-up times the schedule; lr ∝ batch size."""
    lr = train.lr * train.batch_size / train.lr_batch_size
    if step < train.warmup_steps:
        lr *= train.warmup_factor + (1 - train.warmup_factor) * step / train.warmup_steps
    if train.schedule == "cosine":
        return lr * 0.5 * (1 + math.cos(math.pi * step / train.steps))
    return lr * 0.1 ** sum(step >= round(m * train.steps) for m in train.milestones)


def build_optimizer(train: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; vectors (biases and norms) are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    lr = learning_rate(train, 0)
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, momentum=train.momentum)
    return torch.optim.AdamW(groups, lr)


class _Run:
    """One training run; `step` counts completed steps."""

    def __init__(
        self,
        fabric: Fabric,
        config: Config,
        model: Detector,
        dataset: CocoDataset,
        val: CocoDataset,
        out: Path,
        stop: Stop,
        progress: bool,
        tensorboard: bool,
    ) -> None:
        self.fabric, self.config, self.dataset, self.val, self.out = fabric, config, dataset, val, out
        self.stop, self.progress = stop, progress
        self.step = 0
        self.start: dict[str, str] = {}  # what the run started from, where not from random weights
        self.model = model
        self.optimizer = build_optimizer(config.train, model)
        self.wrapped, self.wrapped_optimizer = fabric.setup(self.model, self.optimizer)
        self.ema: AveragedModel | None = None
        if config.train.ema:
            average = get_ema_multi_avg_fn(config.train.ema)
            self.ema = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.window: list[Losses] = []  # since the last row of the log
        self.log = CsvLog(out / "log.csv")
        self.metrics = CsvLog(out / "metrics.csv")
        self.board = _open_tensorboard(out / "tensorboard") if tensorboard and fabric.is_global_zero else None

    # State

    def save(self) -> None:
        """Write the checkpoint, after the rows of the log it stands for."""
        for tensor in self.model.state_dict().values():
            if not bool(torch.isfinite(tensor).all()):
                raise NonFiniteLossError(
                    f"weights are not finite after step {self.step}; the checkpoint was not replaced"
                )
        generators = _gather(self.fabric, rng_state())
        if not self.fabric.is_global_zero:
            return
        self.log.flush()
        self.metrics.flush()
        state = {
            "config": config_to_dict(self.config),
            "categories": [dataclasses.asdict(c) for c in self.dataset.categories],
            "images": len(self.dataset),
            "step": self.step,
            "start": self.start,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # the gradient scaler of 16-mixed
            "ema": None if self.ema is None else self.ema.state_dict(),
            "rng": generators,
            "window": self.window,
        }
        save_checkpoint(self.out / "checkpoint.pt", state)

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `save`; the logs forget what came after the checkpoint."""
        self.step = state["step"]
        # An older checkpoint has none, or calls the weights "init".
        self.start = {"weights" if name == "init" else name: value for name, value in state.get("start", {}).items()}
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["precision"]:  # empty when it was saved without a gradient scaler, as on the CPU
            self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.window = state["window"]
        generators = state["rng"]
        if len(generators) == self.fabric.world_size:
            set_rng_state(generators[self.fabric.global_rank])
        else:
            self.fabric.print(f"{len(generators)} processes became {self.fabric.world_size}: new random numbers")
        self.forget_logs()

    def forget_logs(self) -> None:
        """Drop the rows of the logs that come after the current step."""
        if self.fabric.is_global_zero:
            self.log.truncate(self.step)
            self.metrics.truncate(self.step)

    # Work

    def complete(self, on_step: Callable[[int, Losses], None] | None) -> TrainResult:
        """Do what is left of the run."""
        train = self.config.train
        if self.step and self._evaluation_due() and not self._agree(self._is_evaluated()):
            self.evaluate()  # it was interrupted
        self.wrapped.train()
        bar = tqdm(
            desc="train",
            total=train.steps,
            initial=self.step,
            disable=not self.progress,
            mininterval=PROGRESS_INTERVAL,
        )
        since, done = time.perf_counter(), self.step
        with bar:
            for images, targets in self._batches():
                losses = self.one_step(images, targets)
                self.window.append(losses)
                bar.update()
                if on_step is not None:
                    on_step(self.step, losses)
                if self.step % train.log_every == 0 or self.step == train.steps:
                    speed = (self.step - done) * train.batch_size / (time.perf_counter() - since)
                    row = self._write_log(speed)
                    shown = {name.removeprefix("loss_"): f"{value:.3g}" for name, value in row.items()}
                    bar.set_postfix(shown, refresh=False)
                    since, done = time.perf_counter(), self.step
                stopping = self._agree(self.stop.signum is not None)
                if stopping or self._evaluation_due() or self.step % train.checkpoint_every == 0:
                    self.save()
                if stopping:
                    self._interrupted()
                if self._evaluation_due():
                    self.evaluate()
                    self.wrapped.train()
                    since, done = time.perf_counter(), self.step
        return self._result()

    def _batches(self) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        train = self.config.train
        batches = TrainingBatches(
            len(self.dataset),
            train.batch_size,
            train.steps,
            train.seed,
            start_step=self.step,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
        loader = DataLoader(
            self.dataset,
            batch_sampler=batches,
            num_workers=train.workers,
            collate_fn=collate,
            worker_init_fn=leave_process_group,
            generator=torch.Generator(),  # a loader otherwise draws from the global one, just restored
        )
        for images, targets in loader:
            yield (
                [self.fabric.to_device(image) for image in images],
                [{k: self.fabric.to_device(t[k]) for k in ("boxes", "labels")} for t in targets],
            )

    def one_step(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """Forward, backward, update. Returns this process's losses, "total" included."""
        train = self.config.train
        lr = learning_rate(train, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        losses = self.wrapped(images, targets)
        total = torch.stack(list(losses.values())).sum()
        values = [float(v) for v in torch.stack([*losses.values(), total]).tolist()]
        named = dict(zip([*losses, "total"], values))
        if not all(map(math.isfinite, values)):
            self._diverged(f"a loss is not finite at step {self.step + 1}", named)
        self.wrapped_optimizer.zero_grad()
        self.fabric.backward(total)
        if train.clip_norm > 0:
            norm = self.fabric.clip_gradients(
                self.wrapped, self.wrapped_optimizer, max_norm=train.clip_norm, error_if_nonfinite=False
            )
            # 16-mixed overflows now and then by design: its scaler skips such a step.
            if norm is not None and train.precision != "16-mixed" and not math.isfinite(float(norm)):
                self._diverged(f"the gradient is not finite at step {self.step + 1}", named)
        self.wrapped_optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.step += 1
        return named

    def _diverged(self, what: str, losses: Losses) -> NoReturn:
        self.log.flush()
        said = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        raise NonFiniteLossError(
            f"{what}: {said}. The last checkpoint in {self.out} is untouched; try a lower train.lr, a longer "
            "train.warmup_steps or a smaller train.clip_norm"
        )

    def _write_log(self, images_per_s: float) -> Losses:
        """One row: the losses averaged since the last one."""
        mean = {name: math.fsum(losses[name] for losses in self.window) / len(self.window) for name in self.window[0]}
        self.window = []
        if self.fabric.is_global_zero:
            lr = learning_rate(self.config.train, self.step - 1)
            self.log.append({"step": self.step, "lr": lr, **mean, "images_per_s": round(images_per_s, 2)})
            if self.board is not None:
                for name, value in {"lr": lr, **mean}.items():
                    self.board.add_scalar(f"train/{name}", value, self.step)
        return mean

    # Evaluation

    def _evaluation_due(self) -> bool:
        train = self.config.train
        return self.step == train.steps or (train.eval_every > 0 and self.step % train.eval_every == 0)

    def _is_evaluated(self) -> bool:
        return self.metrics.last_step() == self.step

    def evaluate(self) -> None:
        """Measure the model (its average, if there is one) on val; keep it if it is the best.

        The row in metrics.csv comes last: without it a resumed run evaluates again. What is best is what
        `weights.safetensors` says of itself, so no order of writing and dying can make the two disagree.
        """
        model: Detector = self.model if self.ema is None else self.ema.module  # type: ignore[assignment]
        _same_buffers(self.fabric, model)
        with self.stop.at_once(self._interrupted):
            part = range(self.fabric.global_rank, len(self.val), self.fabric.world_size)
            found = collect_detections(
                model, self.val, workers=self.config.train.workers, progress=self.progress, indices=part
            )
            detections = [d for share in _gather(self.fabric, found) for d in share]
        if not self.fabric.is_global_zero:
            return
        metrics = measure(self.val, detections)
        origin = {"step": self.step, "metrics": metrics.as_dict(), **self.start}
        best = self._best()
        is_best = best is None or not _ap(best[1]) >= _ap(metrics)
        for name in ["weights.safetensors", "last.safetensors"] if is_best else ["last.safetensors"]:
            save_weights(self.out / name, model, self.dataset.categories, origin=origin)
        self.metrics.append({"step": self.step, **metrics.numbers()})
        self.metrics.flush()
        if self.board is not None:
            for number, value in metrics.numbers().items():
                self.board.add_scalar(f"val/{number}", value, self.step)
        if self.progress:
            tqdm.write(f"step {self.step}: {metrics.line()}" + ("  (best so far)" if is_best else ""))

    def _best(self) -> tuple[int, Metrics] | None:
        return _origin(self.out / "weights.safetensors")

    def _result(self) -> TrainResult:
        if self.board is not None:
            self.board.close()
        self.fabric.barrier()
        best, last = self._best(), _origin(self.out / "last.safetensors")
        if best is None or last is None:
            raise CheckpointError(f"{self.out} is complete, but its weights files are gone")
        if self.fabric.is_global_zero:
            write_json(
                self.out / "metrics.json",
                {
                    "best": {"step": best[0], **best[1].as_dict()},
                    "last": {"step": last[0], **last[1].as_dict()},
                    "config": config_to_dict(self.config),
                    "versions": versions(),
                },
            )
        return TrainResult(self.out, self.out / "weights.safetensors", best[0], best[1], last[1])

    # Stopping

    def _agree(self, decision: bool) -> bool:
        """True when any process says so: all must stop at the same step."""
        if self.fabric.world_size == 1:
            return decision
        return bool(self.fabric.strategy.reduce_boolean_decision(decision, all=False))

    def _interrupted(self) -> NoReturn:
        raise TrainingInterrupted(self.stop.signum or signal.SIGTERM, self.step, self.out)


def _ap(metrics: Metrics) -> float:
    """AP to compare by: a val split without objects has none."""
    return -1.0 if math.isnan(metrics.AP) else metrics.AP


def _origin(path: Path) -> tuple[int, Metrics] | None:
    if not path.is_file():
        return None
    origin = read_header(path).origin
    return origin["step"], Metrics.from_dict(origin["metrics"])


# Before the first step --------------------------------------------------------------------------------------


def _check_schedule(train: TrainConfig) -> None:
    for name in ("steps", "batch_size", "lr_batch_size", "checkpoint_every", "log_every"):
        if getattr(train, name) < 1:
            raise InputError(f"train.{name} must be at least 1, got {getattr(train, name)}")
    for name in ("lr", "warmup_steps", "weight_decay", "clip_norm", "eval_every", "workers", "seed"):
        if not getattr(train, name) >= 0:
            raise InputError(f"train.{name} must not be negative, got {getattr(train, name)}")
    if not 0 <= train.ema < 1:
        raise InputError(f"train.ema is a decay in 0…1 (1 excluded), got {train.ema}")


def _open_data(config: Config, data: Path) -> tuple[CocoDataset, CocoDataset]:
    transforms = train_transforms(config.train.flip, config.train.scale_jitter, fill=config.image.mean)
    dataset, val = CocoDataset(data, "train", transforms), CocoDataset(data, "val")
    if dataset.categories != val.categories:
        differing = sorted({c.name for c in {*dataset.categories} ^ {*val.categories}})
        raise DataError(f"{data}: train and val have different categories ({', '.join(differing)})")
    for split in (dataset, val):
        if len(split) == 0:
            raise DataError(f"{split.annotation_file} has no images")
    return dataset, val


def _refuse_existing(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out names the folder of the run")
    if any((out / name).exists() for name in ("checkpoint.pt", "config.json", "weights.safetensors")):
        raise InputError(f"{out} holds a run already; continue it with --resume, or choose another --out")


def _previous_state(out: Path, config: Config, dataset: CocoDataset) -> dict[str, Any] | None:
    """The checkpoint in `out`; None where no run has begun."""
    if not (out / "checkpoint.pt").is_file():
        if (out / "weights.safetensors").exists():
            raise CheckpointError(f"{out} has weights but no checkpoint.pt to resume from; choose another --out")
        return None
    state = load_checkpoint(out / "checkpoint.pt")
    if not {"config", "step", "model"} <= state.keys():
        raise CheckpointError(f"{out / 'checkpoint.pt'} is not the checkpoint of a run")
    # Through a Config, which gives fields that are younger than the run their defaults.
    before = _flat(config_to_dict(config_from_dict(state["config"])))
    now = _flat(config_to_dict(config))
    others = tuple(f"{head}." for head in HEADS if head != config.head)
    changed = [
        f"{name} was {before[name]!r}, is {now[name]!r}"
        for name in now
        if before[name] != now[name] and name not in _FREE_ON_RESUME and not name.startswith(others)
    ]
    if changed:
        raise CheckpointError(
            f"{out} was trained with another config: {'; '.join(changed)}. To go on with it, give the options it began "
            "with; to train on from its weights, start another run with --weights"
        )
    if state["categories"] != [dataclasses.asdict(c) for c in dataset.categories]:
        raise CheckpointError(f"{out} was trained on other categories than those of {dataset.annotation_file}")
    if state["images"] != len(dataset):
        raise CheckpointError(
            f"{out} was trained on {state['images']} images; {dataset.annotation_file} has {len(dataset)}"
        )
    return state


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _launch_fabric(train: TrainConfig, device: Device) -> Fabric:
    """One device, or one per process under torchrun."""
    cuda = resolve_device(device) == "cuda"
    processes = int(os.environ.get("WORLD_SIZE", 1))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        strategy="ddp" if processes > 1 else "auto",
        devices=here,
        num_nodes=processes // here,
        precision=train.precision if cuda else "32-true",
    )
    fabric.launch()
    if not cuda and train.precision != "32-true":
        fabric.print(f"{train.precision} needs CUDA; on the CPU training runs in 32-true")
    return fabric


# Between processes ------------------------------------------------------------------------------------------


def _gather(fabric: Fabric, value: Any) -> list[Any]:
    """`value` of every process, in order of rank."""
    if fabric.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def _same_buffers(fabric: Fabric, model: nn.Module) -> None:
    """Give every process the first one's batch statistics, so that all evaluate the model that is saved."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def _open_tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)
