"""Every system of the paper under one recipe: train, evaluate, write `data/results/{heads,dose,ablations}.json`.

    python benchmarks/compare_heads.py heads       # the systems, three seeds each → heads.json
    python benchmarks/compare_heads.py dose        # three of them over `misalignment` 0 … 2, two seeds → dose.json
    python benchmarks/compare_heads.py ablations   # what of TSD does it → ablations.json

A run is an ordinary `tsdlab train` command into runs/compare; what is complete is not run again, what was interrupted
goes on, and the result file is written anew after every run. `--jobs` trains several at a time: by default one per
core, which on a CPU is faster than one run on all of them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tsdlab.data.badges import BadgesConfig, make_badges

ROOT = Path(__file__).parents[1]
RUNS = Path("runs/compare")
PRESET = "badges-tiny"
# A fifth of the preset's schedule: the heads differ most on the way, and it lets a CPU train dozens of runs.
RECIPE = ("--train.steps", "1000", "--train.warmup-steps", "100", "--train.eval-every", "0")
# All worlds leave the same room around the creatures, so that the badge's place is all that differs between them.
MISALIGNMENTS = (0.0, 0.5, 1.0, 1.5, 2.0)
ROOM = max(MISALIGNMENTS)

SYSTEMS: dict[str, tuple[str, ...]] = {
    "sibling": ("--head", "sibling"),
    "d_head": ("--head", "d_head"),
    "tsd": ("--head", "tsd"),
    "tsd, no constraint": ("--head", "tsd", "--tsd.no-progressive-constraint"),
    "tsd, γ = 0": ("--head", "tsd", "--tsd.gamma", "0"),
    "tsd, γ = 0, no constraint": ("--head", "tsd", "--tsd.gamma", "0", "--tsd.no-progressive-constraint"),
}


@dataclass(frozen=True)
class Run:
    """One training: a system, a world, a seed."""

    system: str
    misalignment: float
    seed: int

    @property
    def data(self) -> Path:
        return Path("data/generated") / f"badges-{self.misalignment:g}"

    @property
    def out(self) -> Path:
        name = self.system.replace(", ", "-").replace(" ", "").replace("=", "").replace("γ", "gamma")
        return RUNS / f"{self.misalignment:g}" / f"{name}-{self.seed}"

    def command(self) -> list[str]:
        where = ("--data", str(self.data), "--out", str(self.out), "--resume", "--train.seed", str(self.seed))
        return ["tsdlab", "train", PRESET, *where, *RECIPE, *SYSTEMS[self.system]]


@dataclass(frozen=True)
class Table:
    """Which runs a result file holds."""

    systems: tuple[str, ...]
    misalignments: tuple[float, ...]
    seeds: int

    def runs(self) -> Iterator[Run]:
        """Seed by seed, so that what is there when the sweep is stopped can be compared."""
        for seed in range(self.seeds):
            for misalignment in self.misalignments:
                for system in self.systems:
                    yield Run(system, misalignment, seed)


TABLES = {
    "heads": Table(("tsd", "d_head", "sibling", "tsd, no constraint", "tsd, γ = 0"), (1.0,), 3),
    "dose": Table(("tsd", "d_head", "sibling"), MISALIGNMENTS, 2),
    "ablations": Table(("tsd", "tsd, γ = 0", "tsd, no constraint", "tsd, γ = 0, no constraint"), (1.0,), 2),
}


def train(run: Run, threads: int) -> Run:
    """Do what is left of `run`; its output goes to a log beside it."""
    log = ROOT / run.out.parent / f"{run.out.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        line = run.command()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "-m", "tsdlab.cli", *line[1:]], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(line)} failed; see {log}")
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    arguments = parser.parse_args()
    runs = list(TABLES[arguments.table].runs())
    for misalignment, data in {run.misalignment: ROOT / run.data for run in runs}.items():
        if not data.exists():
            make_badges(data, BadgesConfig(misalignment=misalignment, room=ROOM))
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        waiting = [pool.submit(train, run, threads) for run in runs]
        for number, future in enumerate(as_completed(waiting), 1):
            print(f"{number}/{len(runs)} {future.result().out}", flush=True)


if __name__ == "__main__":
    main()
