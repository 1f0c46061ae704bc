"""`tsdlab data|train|eval|detect|analyze|weights`: a command is a dataclass with a `run`; tyro makes the options.

`run` is told the command line it was called by, for results that record it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union
from urllib.error import URLError

import torch
import tyro
from matplotlib.figure import Figure
from tyro.conf import CascadeSubcommandArgs, OmitSubcommandPrefixes, Positional, arg, subcommand

import tsdlab
from tsdlab.analysis.analyze import analyze
from tsdlab.analysis.examples import CANDIDATES, choose_examples
from tsdlab.config import Config, HeadName
from tsdlab.data.badges import BadgesConfig, make_badges
from tsdlab.data.coco import CocoDataset, check, read_image
from tsdlab.device import Device, joined_processes, resolve_device
from tsdlab.errors import DataError, ExistingFileError, MissingFileError, NonFiniteLossError
from tsdlab.evaluation import evaluate
from tsdlab.figures import plots
from tsdlab.files import atomic_write, write_json
from tsdlab.memory import keep_freed_memory
from tsdlab.models.augmented import AugmentedDetector
from tsdlab.models.torchvision_start import PublishedName
from tsdlab.models.weights import find_weights, import_torchvision, load_detector, read_header, shipped_weights
from tsdlab.presets import PRESETS
from tsdlab.provenance import versions
from tsdlab.report.page import Source
from tsdlab.report.write import write_report
from tsdlab.training.loop import TrainingInterrupted, train


@dataclass(frozen=True)
class MakeData:
    """Make the synthetic world: creatures whose limbs set the box and whose badge alone tells the class."""

    world: Annotated[Positional[Literal["badges"]], arg(metavar="badges", help="The world; there is one.")]
    dir: Annotated[Positional[Path], arg(metavar="DIR", help="Folder to make.")]
    config: Annotated[BadgesConfig, arg(name="")] = field(default_factory=BadgesConfig)

    def run(self, line: str) -> None:
        print(f"wrote {make_badges(self.dir, self.config)}")


@dataclass(frozen=True)
class CheckData:
    """Look for everything that could stop a training: reads every annotation and every image."""

    dir: Annotated[Positional[Path], arg(metavar="DIR", help="Folder in COCO format.")]

    def run(self, line: str) -> None:
        reports = check(self.dir)
        print(*reports, sep="\n")
        problems = sum(len(report.problems) for report in reports)
        if problems:
            raise DataError(f"{self.dir} has {problems} problem(s), listed above")


@dataclass(frozen=True)
class Train:
    """Train a detector."""

    config: Annotated[Config, arg(name="")]
    data: Path
    """Folder in COCO format, with splits train and val."""
    out: Path
    """Folder of the run: checkpoint, logs, weights."""
    resume: bool = False
    """Continue the run in OUT exactly where it was last saved."""
    weights: Annotated[str | None, arg(metavar="WEIGHTS")] = None
    """What to start from: "torchvision" (its COCO detector, network needed), a .pth state dict of it, a shipped name or
    a .safetensors file. Outputs for other classes start from random."""
    imagenet: bool = False
    """Start the backbone from ImageNet weights (network needed)."""
    tensorboard: bool = False
    """Log to OUT/tensorboard as well."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        result = train(
            self.config,
            self.data,
            self.out,
            resume=self.resume,
            weights=self.weights,
            weights_backbone="DEFAULT" if self.imagenet else None,
            tensorboard=self.tensorboard,
            device=self.device,
        )
        if os.environ.get("RANK", "0") == "0":  # torchrun's; its processes all have the same to say
            print(f"best of step {result.best_step}, in {result.weights}:\n{result.best}")


@dataclass(frozen=True)
class Eval:
    """COCO metrics of weights on one split."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    data: Path
    """Folder in COCO format."""
    split: str = "val"
    score_thresh: Annotated[float | None, arg(metavar="FLOAT")] = None
    """Leave out detections below this score; by default the weights' own threshold."""
    nms: Annotated[Literal["hard", "linear", "gaussian"] | None, arg(metavar="RULE")] = None
    """How overlapping detections are suppressed: hard, or Soft-NMS (linear, gaussian), also in the place of IoU-guided
    NMS; by default the weights' own."""
    min_sizes: tuple[int, ...] = ()
    """Shorter sides to see every image at, in pixels; by default the weights' own."""
    flip: bool = False
    """See every image a second time, mirrored."""
    batch_size: int = 8
    workers: int = 0
    """Processes that load images."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """File for the metrics, this command and the versions it ran with."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        detector = load_detector(self.weights, resolve_device(self.device), nms=self.nms)
        model = AugmentedDetector(detector, self.min_sizes, self.flip)
        dataset = CocoDataset(self.data, self.split)
        metrics = evaluate(model, dataset, self.batch_size, self.score_thresh, workers=self.workers)
        print(metrics)
        if self.json is not None:
            write_json(
                self.json,
                {
                    "metrics": metrics.as_dict(),
                    "command": line,
                    "versions": versions(),
                },
            )


@dataclass(frozen=True)
class Detect:
    """Detect objects in images: draws them, and writes detections.json."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...", help="Image files.")]
    out: Path
    """Folder for the drawn images and detections.json."""
    score_thresh: float = 0.5
    """Leave out detections below this score."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        missing = [str(path) for path in self.images if not path.is_file()]
        if missing or not self.images:
            what = f"no image file at {', '.join(missing)}; give files, not folders"
            raise MissingFileError(what if missing else "give at least one image")
        device = resolve_device(self.device)
        model = load_detector(self.weights, device, self.score_thresh)
        names = [category.name for category in model.categories]
        self.out.mkdir(parents=True, exist_ok=True)
        listed = []
        for path, drawn in zip(self.images, _drawing_names(self.images)):
            image = read_image(path)
            with torch.inference_mode():
                found = {k: v.cpu() for k, v in model([image.to(device)])[0].items()}
            _draw(self.out / drawn, image, found, names)
            columns = zip(found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist())
            listed.append(
                {
                    "image": str(path),
                    "drawn": drawn,
                    "detections": [
                        {"box": box, "category": names[label - 1], "score": score} for box, label, score in columns
                    ],
                }
            )
            print(f"{path}: {len(found['scores'])} detections → {self.out / drawn}")
        write_json(self.out / "detections.json", {"boxes": "xyxy, pixels", "weights": self.weights, "images": listed})


@dataclass(frozen=True)
class Analyze:
    """Measure how far the two tasks of a detector lie apart, on every object of a split, and draw it."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    data: Path
    """Folder in COCO format."""
    out: Path
    """Folder for report.html, report.json and the figures."""
    split: str = "val"
    images: Annotated[int | None, arg(metavar="INT")] = None
    """Take the first so many; by default all."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise ExistingFileError(f"{self.out} is a file; --out names a folder")
        dataset = CocoDataset(self.data, self.split)
        with joined_processes() as speaks:
            model = load_detector(self.weights, resolve_device(self.device))
            analysis = analyze(model, dataset, self.images)
        if speaks:
            examples = choose_examples(model, dataset, min(CANDIDATES, analysis.misalignment.images))
            source = Source(self.weights, model.config.head, str(dataset.root), dataset.split, line)
            print(f"wrote {write_report(analysis, examples, source, self.out)}")


def _drawing_names(paths: Sequence[Path]) -> list[str]:
    """A name for each drawing; images of one name are numbered."""
    names: list[str] = []
    for path in paths:
        name, count = f"{path.stem}.png", 1
        while name in names:
            count += 1
            name = f"{path.stem}-{count}.png"
        names.append(name)
    return names


def _draw(path: Path, image: torch.Tensor, found: dict[str, torch.Tensor], names: Sequence[str]) -> None:
    height, width = image.shape[1:]
    scale = max(1, round(800 / max(height, width)))  # a label on a small image would hide what it names
    figure = Figure(figsize=(width * scale / 100, height * scale / 100), dpi=100)
    plots.detections(image, found, names, figure.add_axes((0, 0, 1, 1)), score_thresh=0.0)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


@dataclass(frozen=True)
class ListWeights:
    """The weights that come with the repository."""

    def run(self, line: str) -> None:
        shipped = shipped_weights()
        for name, path in shipped.items():
            header = read_header(path)
            ap = header.origin.get("metrics", {}).get("AP")
            print(
                f"{name:<20} {header.config.head:<8} {len(header.categories):>3} classes"
                f"  {path.stat().st_size / 2**20:5.1f} MiB" + (f"  AP {ap:.1f}" if ap is not None else "")
            )
        if not shipped:
            print("none")


@dataclass(frozen=True)
class ShowWeights:
    """What a weights file says about itself, as JSON."""

    weights: Annotated[Positional[str], arg(metavar="NAME", help="A shipped name, or a file.")]

    def run(self, line: str) -> None:
        print(json.dumps(read_header(find_weights(self.weights)).as_dict(), indent=2, ensure_ascii=False))


@dataclass(frozen=True)
class ImportTorchvision:
    """Turn a Faster R-CNN of torchvision into a weights file."""

    out: Annotated[Positional[Path], arg(metavar="OUT", help="The .safetensors file to write.")]
    source: str = "torchvision"
    """"torchvision" downloads its COCO weights; otherwise a local .pth state dict."""
    head: HeadName = "sibling"
    """Branches like torchvision's begin as copies of it, what else a head has from random."""
    model: PublishedName = "fasterrcnn_resnet50_fpn"
    """Which of torchvision's detectors."""

    def run(self, line: str) -> None:
        import_torchvision(self.out, self.source, self.head, self.model)
        print(f"wrote {self.out}")


# What tyro reads: a union is a choice of subcommands, a wrapper around a union one more level of them.


@dataclass(frozen=True)
class _Data:
    """Make a data set, or check one."""

    command: Annotated[
        Annotated[MakeData, subcommand("make")] | Annotated[CheckData, subcommand("check")], arg(name="")
    ]


def _summary(preset: Config) -> str:
    return (
        f"{preset.backbone.name} at {preset.image.min_size} px, {preset.train.steps:,} steps of "
        f"{preset.train.batch_size} images. Every field of the config is an option, shown with its value."
    )


_Preset: Any = Union[  # noqa: UP007 (made from a table)
    tuple(
        Annotated[
            Train,
            subcommand(name, default=Train(preset, tyro.MISSING, tyro.MISSING), description=_summary(preset)),
        ]
        for name, preset in PRESETS.items()
    )
]


@dataclass(frozen=True)
class _Train:
    """Train a detector: choose a preset, then override any field of its config."""

    command: Annotated[_Preset, arg(name="")]


@dataclass(frozen=True)
class _Weights:
    """List the shipped weights, show what is in a file, or import torchvision's."""

    command: Annotated[
        Annotated[ListWeights, subcommand("list")]
        | Annotated[ShowWeights, subcommand("show")]
        | Annotated[ImportTorchvision, subcommand("import-torchvision")],
        arg(name=""),
    ]


_Command = (
    Annotated[_Data, subcommand("data")]
    | Annotated[_Train, subcommand("train")]
    | Annotated[Eval, subcommand("eval")]
    | Annotated[Detect, subcommand("detect")]
    | Annotated[Analyze, subcommand("analyze")]
    | Annotated[_Weights, subcommand("weights")]
)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: exits 0, 1 after an expected error, 2 on wrong usage, 128 + signal when stopped."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"tsdlab: warning: {message}", file=sys.stderr)
        keep_freed_memory()
        _run(sys.argv[1:] if args is None else list(args))


def _run(args: list[str]) -> None:
    try:
        command: Any = tyro.cli(
            _Command,
            prog="tsdlab",
            description=tsdlab.__doc__,
            args=args,
            config=(CascadeSubcommandArgs, OmitSubcommandPrefixes),
        )
        while hasattr(command, "command"):
            command = command.command
        command.run(shlex.join(["tsdlab", *args]))
    except TrainingInterrupted as stopped:
        print(f"tsdlab: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signum)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError, NonFiniteLossError) as error:
        if not _is_expected(error):
            raise
        print(f"tsdlab: {_message(error)}", file=sys.stderr)
        sys.exit(1)


def _is_expected(error: Exception) -> bool:
    """Whether we raised it, or the file system: a ValueError of a library is a bug, and keeps its traceback."""
    if not isinstance(error, ValueError) or isinstance(error, DataError):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] == "tsdlab"


def _message(error: Exception) -> str:
    """What happened, without the traceback that a loader's process puts around it."""
    if isinstance(error, URLError):
        return f"cannot download: {error.reason}. Without a network give a local file: --weights or --source FILE.pth"
    text = str(error)
    if "in DataLoader worker process" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return text


if __name__ == "__main__":
    main()
