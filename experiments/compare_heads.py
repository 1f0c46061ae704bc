"""Train and evaluate all systems with one recipe, and write `data/results/<table>.json`.

    python experiments/compare_heads.py heads       # the systems, three seeds each → heads.json
    python experiments/compare_heads.py dose        # three systems at `misalignment` 0 … 2, two seeds → dose.json
    python experiments/compare_heads.py leash       # four systems at 1.5, trained five times as long → leash.json
    python experiments/compare_heads.py ablations   # which part of TSD causes the gain, two seeds → ablations.json

Each run is a `tsdlab train` command that writes to runs/compare. Complete runs are not repeated, interrupted runs are
resumed, and the result file is updated after every run. `--jobs` sets how many runs train at a time. The default is one
per core, which on a CPU is faster than one run on all cores.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seeds import spread, spread_each

from tsdlab import shipped
from tsdlab.analysis.displacement import ALL_LEVELS, measure_displacement
from tsdlab.config import config_to_dict
from tsdlab.data.badges import BadgesConfig, make_badges
from tsdlab.data.coco import CocoDataset
from tsdlab.files import write_json
from tsdlab.models.weights import load_detector
from tsdlab.provenance import provenance, write_results

ROOT = Path(__file__).parents[1]
RUNS = Path("runs/compare")
PRESET = "badges-tiny"
# A sixth of the preset's schedule: the heads differ most before they converge, and a CPU can train dozens of runs.
STEPS = 800
RECIPE = ("--train.warmup-steps", "100", "--train.eval-every", "0")
MISALIGNMENTS = (0.0, 0.5, 1.0, 1.5, 2.0)

NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AR_100")

SYSTEMS: dict[str, tuple[str, ...]] = {
    "sibling": ("--head", "sibling"),
    "d_head": ("--head", "d_head"),
    "double": ("--head", "double"),
    "iou": ("--head", "iou"),
    "tsd": ("--head", "tsd"),
    "tsd, no constraint": ("--head", "tsd", "--tsd.no-progressive-constraint"),
    # Which part of TSD causes the gain: displacement, constraint, the sibling's losses, or the regions?
    "tsd, γ = 0": ("--head", "tsd", "--tsd.gamma", "0"),
    "tsd, γ = 1": ("--head", "tsd", "--tsd.gamma", "1"),
    "tsd, γ = 0, no constraint": ("--head", "tsd", "--tsd.gamma", "0", "--tsd.no-progressive-constraint"),
    "tsd, M_cls alone": ("--head", "tsd", "--tsd.localization-margin", "None"),
    "tsd, M_loc alone": ("--head", "tsd", "--tsd.classification-margin", "None"),
    "tsd, no sibling": ("--head", "tsd", "--tsd.no-joint-sibling", "--tsd.no-progressive-constraint"),
    "tsd, class by proposal": ("--head", "tsd", "--tsd.classification-region", "proposal"),
    "tsd, box by bins": ("--head", "tsd", "--tsd.localization-region", "bins"),
    # The same total weight of losses on the trunk. TSD without the constraint has two pairs of losses.
    "sibling, loss × 2": ("--head", "sibling", "--roi.loss-weight", "2"),
    "d_head, loss × 2": ("--head", "d_head", "--roi.loss-weight", "2"),
    "tsd, loss × ½": ("--head", "tsd", "--roi.loss-weight", "0.5"),
}


@dataclass(frozen=True)
class Run:
    """One training: a system, a world, a seed."""

    system: str
    misalignment: float
    seed: int
    steps: int = STEPS
    room: float | None = None  # of the world, see BadgesConfig

    @property
    def world(self) -> str:
        return f"{self.misalignment:g}" if self.room is None else f"{self.misalignment:g}-room{self.room:g}"

    @property
    def data(self) -> Path:
        return Path("data/generated") / f"badges-{self.world}"

    @property
    def out(self) -> Path:
        name = self.system.translate(str.maketrans({",": "-", " ": "", "=": "", "γ": "gamma", "×": "x", "½": "0.5"}))
        schedule = "" if self.steps == STEPS else f"-{self.steps}"
        return RUNS / self.world / f"{name}-{self.seed}{schedule}"

    @property
    def result(self) -> Path:
        return ROOT / self.out / "result.json"

    def command(self) -> list[str]:
        where = ("--data", str(self.data), "--out", str(self.out), "--resume", "--train.seed", str(self.seed))
        return ["tsdlab", "train", PRESET, *where, "--train.steps", str(self.steps), *RECIPE, *SYSTEMS[self.system]]


@dataclass(frozen=True)
class Table:
    """Which runs a result file holds."""

    systems: tuple[str, ...]
    misalignments: tuple[float, ...]
    seeds: int
    steps: int = STEPS
    room: float | None = None

    def runs(self) -> Iterator[Run]:
        """Seed by seed: if the sweep is stopped, the finished runs can be compared."""
        for seed in range(self.seeds):
            for misalignment in self.misalignments:
                for system in self.systems:
                    yield Run(system, misalignment, seed, self.steps, self.room)


TABLES = {
    "heads": Table(("tsd", "d_head", "sibling", "tsd, no constraint", "iou", "double"), (1.0,), 3),
    # All worlds leave the same room around the creatures, so that they differ only in the position of the badge.
    "dose": Table(("tsd", "d_head", "sibling"), MISALIGNMENTS, 2, room=max(MISALIGNMENTS)),
    # The badge is outside the box. 4000 steps, most of the preset's schedule, are enough to learn where. With γ = 1
    # a step moves the offsets ten times as far.
    "leash": Table(("tsd, γ = 1", "tsd", "d_head", "sibling"), (1.5,), 1, steps=4000, room=max(MISALIGNMENTS)),
    "ablations": Table(
        (
            *("sibling", "d_head", "tsd", "tsd, no constraint", "tsd, γ = 0", "tsd, γ = 1"),
            *("tsd, γ = 0, no constraint", "tsd, M_cls alone", "tsd, M_loc alone", "tsd, no sibling"),
            *("tsd, class by proposal", "tsd, box by bins"),
            *("sibling, loss × 2", "d_head, loss × 2", "tsd, loss × ½"),
        ),
        (1.0,),
        2,
    ),
}


# The columns of TSD's displacements that a result holds (tsdlab/analysis/displacement.py).
FOLLOWED = (
    *("grid_on_salient", "moved_on_salient", "towards_salient", "classification_offset", "localization_offset"),
    *("grid_spread", "moved_spread", "centre_distance", "classification_centre_distance"),
    "localization_centre_distance",
)


def ensure_world(data: Path, config: BadgesConfig) -> None:
    """Make a badges world, unless it exists. Raises ValueError if `data` holds a different one."""
    if not data.exists():
        make_badges(data, config)
    found = json.loads((data / "annotations" / "instances_val.json").read_text())["info"]["config"]
    if found != dataclasses.asdict(config):
        raise ValueError(f"{data} was made with {found}, not with {dataclasses.asdict(config)}; move it away")


def train(run: Run, threads: int) -> None:
    """Train `run`, or what is left of it; its output goes to a log file next to its folder."""
    log = ROOT / run.out.parent / f"{run.out.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        line = run.command()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "-m", "tsdlab.cli", *line[1:]], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(line)} failed; see {log}")


def result(run: Run, threads: int) -> Run:
    """Train `run` if necessary, and write its results to its folder as one flat record."""
    train(run, threads)
    if not run.result.exists():
        last = json.loads((ROOT / run.out / "metrics.json").read_text())["last"]
        model = load_detector(ROOT / run.out / "last.safetensors")
        tsd = model.config.tsd
        moves = model.config.head == "tsd" and tsd.gamma > 0 and tsd.localization_region == "proposal"
        found = measure_displacement(model, CocoDataset(ROOT / run.data, "val"), progress=False) if moves else None
        write_json(
            run.result,
            {
                **dataclasses.asdict(run),
                **{name: last[name] for name in NUMBERS},
                "per_iou": last["per_iou"],
                "displacement": None
                if found is None
                else {
                    "proposals": found.levels[ALL_LEVELS].proposals,
                    **{name: found.mean(name) for name in FOLLOWED},
                },
                "learning": learning_curve(ROOT / run.out / "log.csv"),
                "parameters": sum(p.numel() for p in model.parameters()),
                "train": shlex.join(run.command()),
                "config": config_to_dict(model.config),
            },
        )
    return run


def learning_curve(log: Path, window: int = 100) -> dict[str, list[float]]:
    """Mean classification loss per `window` steps, of the head and of TSD's sibling: when a run learns the classes."""
    with log.open() as file:
        rows = list(csv.DictReader(file))
    windows: dict[int, list[dict[str, str]]] = {}
    for row in rows:
        windows.setdefault(math.ceil(int(row["step"]) / window) * window, []).append(row)
    losses = [name for name in ("loss_classifier", "loss_sibling_classifier") if name in rows[0]]
    means = {name: [round(statistics.mean(float(r[name]) for r in w), 4) for w in windows.values()] for name in losses}
    return {"step": list(windows), **means}


def write_table(table: str, record: dict[str, Any], threads: int) -> None:
    """Put the record of one run into `data/results/<table>.json`. It replaces an older one; other records are kept."""
    path = shipped.RESULTS / f"{table}.json"
    before = json.loads(path.read_text()) if path.exists() else {"runs": [], "configs": {}}
    runs = list(TABLES[table].runs())
    config = record.pop("config")
    known = {Run(**{f.name: r[f.name] for f in dataclasses.fields(Run)}): r for r in [*before["runs"], record]}
    records = [known[run] for run in runs if run in known]
    write_results(
        table,
        {
            "recipe": {"preset": PRESET, "steps": runs[0].steps, "options": shlex.join(RECIPE)},
            "summary": summary(records),
            "runs": records,
            "configs": {**before["configs"], record["system"]: config},
            **provenance(),
            "command": f"python experiments/compare_heads.py {table}",
            "threads": threads,
        },
    )


def summary(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, one row per system and world."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["system"], record["misalignment"]), []).append(record)
    return [
        {
            "system": system,
            "misalignment": misalignment,
            "seeds": sorted(r["seed"] for r in group),
            "parameters": group[0]["parameters"],
            **{name: spread([r[name] for r in group]) for name in NUMBERS},
            **{
                name: None if group[0][name] is None else spread_each([r[name] for r in group])
                for name in ("per_iou", "displacement")
            },
        }
        for (system, misalignment), group in groups.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="train only these; others keep their results")
    parser.add_argument("--seeds", type=int, help="train only this many of the table's seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs to train at a time")
    arguments = parser.parse_args()
    runs = list(TABLES[arguments.table].runs())
    unknown = set(arguments.only or ()) - {run.system for run in runs}
    if unknown:
        parser.error(f"no system {', '.join(unknown)} in {arguments.table}; it has {TABLES[arguments.table].systems}")
    wanted = [
        run
        for run in runs
        if (arguments.only is None or run.system in arguments.only)
        and (arguments.seeds is None or run.seed < arguments.seeds)
    ]
    for run in {run.world: run for run in wanted}.values():
        ensure_world(ROOT / run.data, BadgesConfig(misalignment=run.misalignment, room=run.room))
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        try:
            for number, future in enumerate(as_completed([pool.submit(result, run, threads) for run in wanted]), 1):
                run = future.result()
                write_table(arguments.table, json.loads(run.result.read_text()), threads)
                print(f"{number}/{len(wanted)} {run.out}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # waiting runs do not start
            raise


if __name__ == "__main__":
    main()
