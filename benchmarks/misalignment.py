"""The misalignment of the two tasks on badges, against truth → `data/results/misalignment.json`.

    python benchmarks/misalignment.py            # the shipped weights, and what `compare_heads.py dose` has trained

The shipped weights are measured on the 500 validation images of the default world, the models of the dose (each in its
own world, in runs/compare) on 100. What is measured, and how, is said in tsdlab/analysis/misalignment.py.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from compare_heads import ROOT, TABLES, ensure_world
from measure import provenance, write_results

from tsdlab.analysis.report import analyze
from tsdlab.data.badges import BadgesConfig
from tsdlab.data.coco import CocoDataset
from tsdlab.memory import keep_freed_memory
from tsdlab.weights import load_detector, shipped_weights

DOSE_IMAGES = 100


def main() -> None:
    keep_freed_memory()
    world = Path("data/generated/badges")
    ensure_world(ROOT / world, BadgesConfig())
    results: dict[str, Any] = {"shipped": {}, "dose": [], **provenance()}
    for name in shipped_weights():
        report = analyze(load_detector(name), CocoDataset(ROOT / world, "val"))
        results["shipped"][name] = report.as_dict()
        write_results("misalignment", results)
    for run in TABLES["dose"].runs():
        if run.result.exists():
            model = load_detector(ROOT / run.out / "last.safetensors")
            report = analyze(model, CocoDataset(ROOT / run.data, "val"), DOSE_IMAGES)
            results["dose"].append({**dataclasses.asdict(run), **dataclasses.asdict(report.misalignment)})
            write_results("misalignment", results)


if __name__ == "__main__":
    main()
