"""What a run saves and resumes: everything that changes while it trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tsdlab.config import HEADS, Config, config_from_dict, config_to_dict
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import CheckpointError, InputError, NonFiniteLossError
from tsdlab.models.detector import Detector
from tsdlab.training.checkpoint import load_checkpoint, rng_state, save_checkpoint, set_rng_state
from tsdlab.training.logs import Losses
from tsdlab.training.processes import gather
from tsdlab.training.schedule import build_optimizer

CHECKPOINT = "checkpoint.pt"

# A resumed run may change these fields: they change neither the weights nor the logs.
_FREE_ON_RESUME = {"train.workers", "train.checkpoint_every"}


class TrainingState:
    """Everything that changes while a run trains.

    Attributes:
        model: the detector; `wrapped` is the same model as Fabric runs it (device, precision, processes).
        optimizer: of `model`; `wrapped_optimizer` is the same as Fabric steps it.
        average: the exponential moving average of `model`; None if `train.ema` is 0.
        step: completed steps.
        started_from: arguments of `train` that name the initial weights; empty for random weights.
        window: losses of the steps since the last row of `log.csv`.
    """

    def __init__(self, fabric: Fabric, config: Config, dataset: CocoDataset, model: Detector) -> None:
        self._fabric, self._config, self._dataset = fabric, config, dataset
        self.model = model
        self.optimizer = build_optimizer(config.train, model)
        self.wrapped, self.wrapped_optimizer = fabric.setup(model, self.optimizer)
        self.average: AveragedModel | None = None
        if config.train.ema:
            update = get_ema_multi_avg_fn(config.train.ema)
            self.average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
        self.step = 0
        self.started_from: dict[str, str] = {}
        self.window: list[Losses] = []

    @property
    def evaluated_model(self) -> Detector:
        """The model that is evaluated and exported: the average if there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def save(self, out: Path) -> None:
        """Write `out/checkpoint.pt`. Every process must call this; the first one writes.

        Raises:
            NonFiniteLossError: a weight is not finite; the old checkpoint stays.
        """
        for tensor in self.model.state_dict().values():
            if not bool(torch.isfinite(tensor).all()):
                raise NonFiniteLossError(
                    f"weights are not finite after step {self.step}; the checkpoint was not replaced"
                )
        generators = gather(self._fabric, rng_state())
        if not self._fabric.is_global_zero:
            return
        content = {
            "config": config_to_dict(self._config),
            "categories": [dataclasses.asdict(c) for c in self._dataset.categories],
            "images": len(self._dataset),
            "step": self.step,
            "start": self.started_from,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),  # the gradient scaler of 16-mixed
            "ema": None if self.average is None else self.average.state_dict(),
            "rng": generators,
            "window": self.window,
        }
        save_checkpoint(out / CHECKPOINT, content)

    def restore(self, content: dict[str, Any]) -> None:
        """Continue from the content of a checkpoint, as `load_previous` returns it."""
        self.step = content["step"]
        # An older checkpoint has no "start", or calls the weights "init".
        start = content.get("start", {})
        self.started_from = {"weights" if name == "init" else name: value for name, value in start.items()}
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if content["precision"]:  # empty if it was saved without a gradient scaler, as on the CPU
            self._fabric.strategy.precision.load_state_dict(content["precision"])
        if self.average is not None:
            self.average.load_state_dict(content["ema"])
        self.window = content["window"]
        generators = content["rng"]
        if len(generators) == self._fabric.world_size:
            set_rng_state(generators[self._fabric.global_rank])
        else:
            self._fabric.print(
                f"saved by {len(generators)} processes, resumed by {self._fabric.world_size}: the run continues with "
                "new random numbers"
            )


# Whether a folder can be resumed ----------------------------------------------------------------------------


def refuse_existing(out: Path) -> None:
    """Raises InputError if `out` is a file or holds a run already."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out names the folder of the run")
    if any((out / name).exists() for name in (CHECKPOINT, "config.json", "weights.safetensors")):
        raise InputError(f"{out} holds a run already; continue it with --resume, or choose another --out")


def load_previous(out: Path, config: Config, dataset: CocoDataset) -> dict[str, Any] | None:
    """The content of the checkpoint in `out`; None if no run has started there.

    Raises:
        CheckpointError: the checkpoint cannot be read, or it is of another config or other data.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        if (out / "weights.safetensors").exists():
            raise CheckpointError(f"{out} has weights but no {CHECKPOINT} to resume from; choose another --out")
        return None
    content = load_checkpoint(path)
    if not {"config", "step", "model"} <= content.keys():
        raise CheckpointError(f"{path} is not the checkpoint of a run")
    changed = _changed_fields(config_from_dict(content["config"]), config)
    if changed:
        raise CheckpointError(
            f"{out} was trained with another config: {'; '.join(changed)}. To continue it, give the options it was "
            "started with; to train further from its weights, start another run with --weights"
        )
    if content["categories"] != [dataclasses.asdict(c) for c in dataset.categories]:
        raise CheckpointError(f"{out} was trained on other categories than those of {dataset.annotation_file}")
    if content["images"] != len(dataset):
        raise CheckpointError(
            f"{out} was trained on {content['images']} images; {dataset.annotation_file} has {len(dataset)}"
        )
    return content


def _changed_fields(before: Config, now: Config) -> list[str]:
    """The fields that a resumed run must not change and that differ, in words.

    Fields added to `Config` after the run was saved have their defaults in `before`. Options of other heads may differ.
    """
    old, new = _flat(config_to_dict(before)), _flat(config_to_dict(now))
    other_heads = tuple(f"{head}." for head in HEADS if head != now.head)
    return [
        f"{name} was {old[name]!r}, is {new[name]!r}"
        for name in new
        if old[name] != new[name] and name not in _FREE_ON_RESUME and not name.startswith(other_heads)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
