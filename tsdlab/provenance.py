"""How a number was measured: the command, the device and the versions that are recorded with every result.

`provenance` and `write_results` are for the scripts in `benchmarks/` and `experiments/`, which run in a clone of the
repository and write `data/results/`. Documentation and notebooks read the results from there.
"""

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
    """The running script with its arguments, the device, the number of CPU threads and the versions.

    Args:
        device: where the number was measured, "cpu" or "cuda".
    """
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
    """Update `data/results/<name>.json` and print its name; entries that are not in `results` stay as they are."""
    path = shipped.RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {**before, **results})
    print(f"\nwrote data/results/{name}.json")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that can change a result."""
    packages = ("tsdlab", "torch", "torchvision", "faster-coco-eval")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }
