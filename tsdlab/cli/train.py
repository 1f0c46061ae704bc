"""`tsdlab train <preset>`: train a detector."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from tsdlab.config import Config
from tsdlab.device import Device
from tsdlab.ranges import NonEmptyText


def _file_or_download(words: list[str]) -> str:
    if len(words) > 1:
        raise ValueError(f"--imagenet takes one file, got {len(words)}")
    return words[0] if words else "DEFAULT"


# `--imagenet` downloads, `--imagenet FILE` does not.
_FILE_OR_DOWNLOAD = PrimitiveConstructorSpec[str | None](
    nargs="*",
    metavar="[FILE]",
    instance_from_str=_file_or_download,
    is_instance=lambda value: value is None or isinstance(value, str),
    str_from_instance=lambda value: [] if value is None else [value],
)


@dataclass(frozen=True)
class Train:
    """Train a detector."""

    config: Annotated[Config, arg(name="")]
    data: Path
    """Folder in COCO format."""
    out: Path
    """Folder of the run: checkpoint, logs, weights."""
    train_split: NonEmptyText = "train"
    """Name of the split to train on."""
    val_split: NonEmptyText = "val"
    """Name of the split to evaluate on."""
    resume: bool = False
    """Continue the run in OUT exactly where it was last saved."""
    weights: Annotated[str | None, arg(metavar="WEIGHTS", help_behavior_hint="(default: nothing)")] = None
    """What to start from: "torchvision" (its COCO detector, network needed), a .pth state dict of that detector, a
    shipped name or a .safetensors file. Output rows of other classes are re-initialized."""
    imagenet: Annotated[
        str | None, _FILE_OR_DOWNLOAD, arg(metavar="[FILE]", help_behavior_hint="(default: nothing)")
    ] = None
    """Start the backbone from ImageNet weights: those in FILE, torchvision's or timm's (.pth or .safetensors); without
    FILE they are downloaded."""
    tensorboard: bool = False
    """Log to OUT/tensorboard as well."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        from tsdlab.training import TrainingInterrupted, train

        try:
            result = train(
                self.config,
                self.data,
                self.out,
                resume=self.resume,
                weights=self.weights,
                weights_backbone=self.imagenet,
                tensorboard=self.tensorboard,
                device=self.device,
                train_split=self.train_split,
                val_split=self.val_split,
            )
        except TrainingInterrupted as stopped:
            print(f"tsdlab: {stopped}", file=sys.stderr)
            sys.exit(128 + stopped.signum)
        if os.environ.get("RANK", "0") == "0":  # all processes of torchrun have the same result
            print(f"best of step {result.best_step}, in {result.weights}:\n{result.best}")


def summary(preset: Config) -> str:
    """One sentence about a preset, for the list of presets."""
    return (
        f"{preset.backbone.name} at {preset.image.min_size} px, {preset.train.steps:,} steps of "
        f"{preset.train.batch_size} images. Every field of the config is an option, shown with its value."
    )
