"""Where measured numbers are recorded, for the documentation and the notebooks, and what they were measured by."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import sys
from pathlib import Path

import torch

from tsdlab import shipped
from tsdlab.files import write_json

_REPOSITORY = Path(__file__).resolve().parents[1]


def provenance(device: str = "cpu") -> dict:
    """What a number was measured by and on."""
    script = Path(sys.argv[0]).resolve()
    if script.is_relative_to(_REPOSITORY):
        script = script.relative_to(_REPOSITORY)
    return {
        "command": shlex.join(["python", str(script), *sys.argv[1:]]),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def write_results(name: str, results: dict) -> None:
    """`data/results/<name>.json`: entries that were not measured again stay as they are."""
    path = shipped.RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {**before, **results})
    print(f"\nwritten: data/results/{name}.json")


def versions() -> dict[str, str]:
    """What a measured number depends on besides the data and the weights."""
    packages = ("tsdlab", "torch", "torchvision", "faster-coco-eval")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }
