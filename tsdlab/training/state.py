"""What a run saves and resumes: everything that changes while it trains."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tsdlab.config import HEADS, Config, config_from_dict, config_to_dict
from tsdlab.data.fingerprint import Fingerprint, changes
from tsdlab.errors import CheckpointError, InputError, NonFiniteLossError
from tsdlab.models.detector import Detector
from tsdlab.randomness import drawing_from
from tsdlab.training.checkpoint import load_checkpoint, refuse_part, require_like, save_checkpoint
from tsdlab.training.logs import LOSSES, METRICS, Losses
from tsdlab.training.processes import gather
from tsdlab.training.schedule import build_optimizer

CHECKPOINT, CONFIG = "checkpoint.pt", "config.json"
WEIGHTS, LAST_WEIGHTS, RESULT = "weights.safetensors", "last.safetensors", "metrics.json"

# A resumed run may change these fields: they change neither the weights nor the logs. With another patience, a run that
# stopped early goes on.
_FREE_ON_RESUME = {"train.workers", "train.checkpoint_every", "train.keep_every", "train.patience"}


class TrainingState:
    """Everything that changes while a run trains.

    Attributes:
        model: the detector; `wrapped` is the same model as Fabric runs it (device, precision, processes).
        optimizer: of `model`; `wrapped_optimizer` is the same as Fabric steps it.
        average: the exponential moving average of `model`; None if `train.ema` is 0.
        step: completed steps.
        started_from: arguments of `train` that name the initial weights; empty for random weights.
        window: losses of the steps since the last row of `log.csv`.
        random: what this process draws from while it trains. No other thread of the process draws from it.

    Args:
        data: what the run reads, by split.
    """

    def __init__(self, fabric: Fabric, config: Config, data: list[Fingerprint], model: Detector) -> None:
        self._fabric, self._config, self._data = fabric, config, data
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
        self._generators = {"cpu": torch.Generator()}
        if fabric.device.type != "cpu":
            self._generators[fabric.device.type] = torch.Generator(fabric.device)
        for generator in self._generators.values():
            generator.manual_seed(config.train.seed + fabric.global_rank)
        self.random = drawing_from(self._generators)

    @property
    def evaluated_model(self) -> Detector:
        """The model that is evaluated and exported: the average if there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def save(self, out: Path) -> None:
        """Write `out/checkpoint.pt`. Every process must call this; the first one writes.

        Raises:
            NonFiniteLossError: a weight is not finite; the old checkpoint stays.
        """
        self.require_finite()
        generators = gather(self._fabric, self._generator_states())
        if not self._fabric.is_global_zero:
            return
        content = {
            "config": config_to_dict(self._config),
            "data": [split.as_dict() for split in self._data],
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

    def require_finite(self) -> None:
        """Raises NonFiniteLossError if a weight is not finite."""
        for tensor in self.model.state_dict().values():
            if not bool(torch.isfinite(tensor).all()):
                raise NonFiniteLossError(
                    f"weights are not finite after step {self.step}; the checkpoint was not replaced"
                )

    def restore(self, content: dict[str, Any], path: Path) -> None:
        """Continue from the content of the checkpoint at `path`, as `load_previous` returns it.

        Raises:
            CheckpointError: a part is missing, or of another type or shape than this run writes; nothing was changed.
        """
        self._require_parts(content, path)
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
            for device, state in generators[self._fabric.global_rank].items():
                generator = self._generators.get("cpu" if device == "torch" else device)
                if generator is not None and state is not None:
                    generator.set_state(state)
        else:
            self._fabric.print(
                f"saved by {len(generators)} processes, resumed by {self._fabric.world_size}: the run continues with "
                "new random numbers"
            )

    def _generator_states(self) -> dict[str, Tensor]:
        """The generators' states, by type of device; "torch" is that of the CPU."""
        return {"torch" if d == "cpu" else d: generator.get_state() for d, generator in self._generators.items()}

    def _require_parts(self, content: dict[str, Any], path: Path) -> None:
        """Check every part of a checkpoint."""
        needed = {"model", "optimizer", "precision", "ema", "rng", "window"}
        if not needed <= content.keys():
            refuse_part(path, f"it has no {', '.join(sorted(needed - content.keys()))}")
        start = content.get("start", {})
        if not isinstance(start, dict) or not all(isinstance(text, str) for pair in start.items() for text in pair):
            refuse_part(path, "start must hold texts by name")
        require_like(path, "model", content["model"], self.model.state_dict())
        self._require_optimizer(content["optimizer"], path)
        require_like(path, "ema", content["ema"], None if self.average is None else self.average.state_dict())
        precision = self._fabric.strategy.precision.state_dict()
        require_like(path, "precision", content["precision"], (precision and content["precision"] and precision) or {})
        self._require_window(content["window"], content["step"], path)
        generators = content["rng"]
        if not isinstance(generators, list) or not generators:
            refuse_part(path, "rng must be a list with the generators of each process")
        like = self._generator_states()
        for rank, states in enumerate(generators):
            if not isinstance(states, dict) or "torch" not in states:
                refuse_part(path, f"rng[{rank}] must hold the generators of a process")
            for device in like.keys() & states.keys():
                if states[device] is not None or device == "torch":
                    require_like(path, f"rng[{rank}][{device}]", states[device], like[device])

    def _require_optimizer(self, found: Any, path: Path) -> None:
        like = self.optimizer.state_dict()
        if not isinstance(found, dict) or not isinstance(found.get("state"), dict):
            refuse_part(path, "optimizer must be a dict with a state")
        require_like(path, "optimizer[param_groups]", found.get("param_groups"), like["param_groups"])
        for group, mine in zip(found["param_groups"], like["param_groups"]):
            if {**group, "lr": 0, "initial_lr": 0} != {**mine, "lr": 0, "initial_lr": 0}:
                refuse_part(path, "optimizer[param_groups] has other options than this run")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        names = _names_of_state(self.optimizer)
        for index, values in found["state"].items():
            name = f"optimizer[state][{index!s:.20}]"
            if type(index) is not int or not 0 <= index < len(parameters):
                refuse_part(path, f"{name} belongs to no parameter")
            scalar, full = torch.zeros(()), parameters[index].detach()
            require_like(path, name, values, {n: scalar if n == "step" else full for n in names})

    def _require_window(self, window: Any, step: int, path: Path) -> None:
        train = self._config.train
        if not isinstance(window, list) or len(window) != (step % train.log_every if step < train.steps else 0):
            refuse_part(path, "window must be a list of the losses since the last row of the log")
        for position, losses in enumerate(window):
            first = window[0] if isinstance(window[0], dict) else {}
            require_like(path, f"window[{position}]", losses, {"total": 0.0, **dict.fromkeys(first, 0.0)})


def _names_of_state(optimizer: torch.optim.Optimizer) -> list[str]:
    """What the optimizer remembers for each parameter that had a gradient."""
    scratch = torch.nn.Parameter(torch.zeros(1))
    scratch.grad = torch.zeros(1)
    options = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
    probe = type(optimizer)([{"params": [scratch], **options}])  # type: ignore[call-arg]
    probe.step()
    return list(probe.state[scratch])


# Whether a folder can be resumed ----------------------------------------------------------------------------


def refuse_existing(out: Path, others: Sequence[str] = ()) -> None:
    """Raises InputError if `out` holds a run already, or a file that a run would replace; `others` are more of them."""
    for name in (CHECKPOINT, CONFIG, WEIGHTS, LAST_WEIGHTS, LOSSES, METRICS, RESULT, *others):
        if os.path.lexists(out / name):
            raise InputError(f"{out} holds a run already ({name}); continue it with --resume, or choose another --out")


def load_previous(out: Path, config: Config, data: list[Fingerprint]) -> dict[str, Any] | None:
    """The content of the checkpoint in `out`; None if no run has started there.

    Raises:
        CheckpointError: the checkpoint cannot be read, or it is of another config or other data.
    """
    path = out / CHECKPOINT
    if not os.path.lexists(path):
        for name in (WEIGHTS, LAST_WEIGHTS, LOSSES, METRICS, RESULT, CONFIG):
            if os.path.lexists(out / name):
                raise CheckpointError(f"{out} has {name} but no {CHECKPOINT} to resume from; choose another --out")
        return None
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; --resume needs the checkpoint that the run wrote")
    content = load_checkpoint(path)
    for name, kind in (("config", dict), ("step", int), ("model", dict)):
        if not isinstance(content.get(name), kind) or isinstance(content[name], bool):
            found = f"is a {type(content[name]).__name__}" if name in content else "is missing"
            raise CheckpointError(f"{path} is not the checkpoint of a run: {name} {found}")
    changed = changed_fields(_config_in(path, content["config"]), config)
    if changed:
        raise CheckpointError(
            f"{out} was trained with another config: {'; '.join(changed)}. To continue it, give the options it was "
            "started with; to train further from its weights, start another run with --weights"
        )
    if not 0 <= content["step"] <= config.train.steps:
        refuse_part(path, f"step is {content['step']!s:.30}, and the run has {config.train.steps} steps")
    if "data" in content:
        different = changes(_fingerprints_in(path, content["data"]), data)
        if different:
            raise CheckpointError(
                f"{out} was trained on other data: {'; '.join(different)}. To continue it, restore the data; to train "
                "on the new data, start another run with --weights"
            )
    return content


def require_own(out: Path, config: Config) -> None:
    """Check config.json and metrics.json in `out`, which a resumed run replaces.

    Raises:
        CheckpointError: one is somebody else's, or of another run.
    """
    for name in (CONFIG, RESULT):
        path = out / name
        if not os.path.lexists(path):
            continue
        reason = "it is not a file"
        if path.is_file():
            try:
                content = json.loads(path.read_bytes())
                values = content if name == CONFIG else content["config"]
                reason = "; ".join(changed_fields(config_from_dict(values), config))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                reason = "it is not a file that a run wrote"
        if reason:
            raise CheckpointError(f"{path} is not of this run: {reason}. Move it away to go on without it")


def _config_in(path: Path, values: dict[str, Any]) -> Config:
    try:
        return config_from_dict(values)
    except (InputError, ValueError, TypeError, KeyError, AttributeError) as error:
        refuse_part(path, f"config cannot be read ({error})")


def _fingerprints_in(path: Path, values: Any) -> list[Fingerprint]:
    if not isinstance(values, list) or len(values) != 2:
        refuse_part(path, "data must describe two splits")
    try:
        return [Fingerprint.from_dict(split) for split in values]
    except InputError as error:
        refuse_part(path, f"data {error}")


def changed_fields(before: Config, now: Config) -> list[str]:
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
