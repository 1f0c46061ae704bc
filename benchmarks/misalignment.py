"""The misalignment of the two tasks on badges, against truth → `data/results/misalignment.json`.

    python benchmarks/misalignment.py            # the shipped weights, and what `compare_heads.py dose` has trained

The shipped weights are measured on the 500 validation images of the default world, the models of the dose (each in its
own world, in runs/compare) on 100. What is measured, and how, is said in tsdlab/analysis/misalignment.py.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from compare_heads import ROOT, TABLES, ensure_world
from measure import provenance, write_results

from tsdlab.analysis.report import analyze
from tsdlab.data.badges import BadgesConfig
from tsdlab.data.coco import CocoDataset
from tsdlab.memory import keep_freed_memory
from tsdlab.weights import load_detector, shipped_weights

DOSE_IMAGES = 100


def measure(weights: str, data: str, images: int | None = None) -> dict[str, Any]:
    """The misalignment part of a report, and the displacements' means."""
    report = analyze(load_detector(weights), CocoDataset(ROOT / data, "val"), images)
    moved = report.displacement
    return {
        "weights": weights,
        "data": data,
        **dataclasses.asdict(report.misalignment),
        "displacement": None if moved is None else {
            level: {name: dataclasses.asdict(mean) for name, mean in found.means.items()}
            for level, found in moved.levels.items()
        },
    }  # fmt: skip


def main() -> None:
    keep_freed_memory()
    world = "data/generated/badges"
    ensure_world(ROOT / world, BadgesConfig())
    results: dict[str, Any] = {"shipped": {}, "dose": [], **provenance()}
    for name in shipped_weights():
        results["shipped"][name] = measure(name, world)
        write_results("misalignment", results)
    for run in TABLES["dose"].runs():
        weights = run.out / "last.safetensors"
        if (ROOT / run.out / "result.json").exists():
            found = measure(str(ROOT / weights), str(run.data), DOSE_IMAGES)
            results["dose"].append({**dataclasses.asdict(run), **found, "weights": str(weights)})
            write_results("misalignment", results)
            print(f"{weights}", flush=True)


if __name__ == "__main__":
    main()
