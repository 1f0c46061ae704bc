"""Measure the misalignment of the two tasks on badges → `data/results/misalignment.json`.

    python experiments/misalignment.py shipped    # the shipped weights, on the 500 validation images of their world
    python experiments/misalignment.py dose       # the models of `compare_heads.py dose`, on 100 images each

tsdlab/analysis/measures.py lists what is measured.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from compare_heads import ROOT, TABLES, ensure_world

from tsdlab.analysis.analyze import analyze
from tsdlab.data.badges import BadgesConfig
from tsdlab.data.coco import CocoDataset
from tsdlab.memory import keep_freed_memory
from tsdlab.models.weights import load_detector, shipped_weights
from tsdlab.provenance import provenance, write_results

DOSE_IMAGES = 100


def measure_shipped() -> dict[str, Any]:
    """The whole analysis of every shipped model."""
    world = Path("data/generated/badges")
    ensure_world(ROOT / world, BadgesConfig())
    dataset = CocoDataset(ROOT / world, "val")
    return {name: analyze(load_detector(name), dataset).as_dict() for name in shipped_weights()}


def measure_dose() -> list[dict[str, Any]]:
    """The misalignment of every model that `compare_heads.py dose` has trained."""
    found = []
    for run in TABLES["dose"].runs():
        if run.result.exists():
            model = load_detector(ROOT / run.out / "last.safetensors")
            analysis = analyze(model, CocoDataset(ROOT / run.data, "val"), DOSE_IMAGES)
            found.append({**dataclasses.asdict(run), **dataclasses.asdict(analysis.misalignment)})
            print(run.out, flush=True)
    return found


PARTS = {"shipped": measure_shipped, "dose": measure_dose}


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    part = parser.parse_args().part
    write_results("misalignment", {part: PARTS[part](), f"{part} from": provenance()})


if __name__ == "__main__":
    main()
