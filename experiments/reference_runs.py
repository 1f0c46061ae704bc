"""The reference results: train every head on one recipe, evaluate, write `data/results/<name>.json`.

    python experiments/reference_runs.py badges                # makes the data itself; three runs
    python experiments/reference_runs.py bccd --data DIR       # DIR: the BCCD data set in COCO format; two runs

Each run is an ordinary `tsdlab train` command, printed before it starts; a run that was interrupted is resumed, and
one that is complete is only evaluated. `--ship` copies the best weights to data/weights, where `tsdlab.load_detector`
finds them.
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
    """One table of results: the same preset and options for every head."""

    preset: str
    heads: tuple[str, ...]
    split: str  # evaluated; training watches "val"
    options: tuple[str, ...] = ()
    badges: BadgesConfig | None = None  # how to make the data, where it can be made


# The preset at two thirds of its image size and with fewer steps: half an hour on two cores instead of hours.
_BCCD_ON_TWO_CORES = (
    *("--image.min-size", "320", "--image.max-size", "427"),
    *("--rpn.anchor-sizes", "20", "40", "64", "104", "168"),
    *("--train.steps", "1200", "--train.eval-every", "300"),
)
REFERENCES = {
    "badges": Reference("badges-tiny", ("sibling", "d_head", "tsd"), "val", badges=BadgesConfig()),
    "bccd": Reference("bccd", ("sibling", "tsd"), "test", _BCCD_ON_TWO_CORES),
}


def train_command(name: str, head: str, data: Path) -> list[str]:
    reference = REFERENCES[name]
    where = ("--data", str(data), "--out", f"runs/{name}-{head}")
    return ["tsdlab", "train", reference.preset, *where, "--head", head, "--resume", *reference.options]


def run(name: str, data: Path, ship: bool) -> dict:
    reference = REFERENCES[name]
    models = {}
    for head in reference.heads:
        command = train_command(name, head, data)
        out = ROOT / "runs" / f"{name}-{head}"
        # --resume leaves a complete run alone, and refuses one that was trained with other options.
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
    """AP figures of every evaluation on the way, on the val split."""
    with path.open() as file:
        return [
            {key: round(float(row[key]), 2) for key in ("step", "AP", "AP50", "AP75")} for row in csv.DictReader(file)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(REFERENCES))
    parser.add_argument("--data", type=Path, help="COCO-format folder; badges are made in data/generated if not given")
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
        parser.error(f"{arguments.name} needs --data, a folder in COCO format")
    data = data.relative_to(ROOT) if data.is_relative_to(ROOT) else data
    result = run(arguments.name, data, arguments.ship)
    write_results(arguments.name, {**result, **provenance()})


if __name__ == "__main__":
    main()
