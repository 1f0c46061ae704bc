"""The time of the sensitivity maps of one object, relative to one inference and to a loop over locations.

    python benchmarks/sensitivity.py [--rounds 5]

The image is the first one of the sample, and the models are the shipped ones. `maps` is one call of `sensitivity_maps`:
backbone, RPN, the answer to a proposal at every coordinate of every level, and the maps of both tasks for every branch.
`loop` is the simple version: it computes the features once, and then for each coordinate calls the head with a single
proposal and adds a Gaussian over the whole map. Both give the same maps; their largest difference is recorded. The loop
takes long, so it runs in one round only, side by side with the maps.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median

import torch
from measure import against, print_table, side_by_side
from torch import Tensor
from tqdm import tqdm

from tsdlab.analysis.sensitivity import SIGMA, TASKS, Grid, SensitivityMaps, TaskMaps, gradient_maps, sensitivity_maps
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.memory import keep_freed_memory
from tsdlab.models.boxes import paired_iou
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe
from tsdlab.models.weights import load_detector
from tsdlab.provenance import provenance, write_results

MODELS = ("badges-sibling", "badges-tsd")
INFERENCE = "inference"


def loop_over_locations(model: Detector, image: Tensor, box: Tensor, label: int) -> SensitivityMaps:
    """The maps of `sensitivity_maps`, one proposal at a time."""
    probe = Probe(model, image)
    grid = Grid.over_image(probe.image_size)
    ys, xs = grid.axes()
    levels: dict[str, dict[str, TaskMaps]] = {}
    for name, proposals in tqdm(probe.propose_everywhere().items(), "levels", leave=False):
        weight = torch.zeros(grid.shape)
        sums: dict[str, list[Tensor]] = {}
        for proposal in tqdm(proposals.boxes.flatten(0, 1), name, leave=False):
            answer = probe.ask(proposal[None])
            x1, y1, x2, y2 = proposal.tolist()
            width, height = max(x2 - x1, 1e-6), max(y2 - y1, 1e-6)
            dy, dx = torch.meshgrid((ys - (y1 + y2) / 2) / height, (xs - (x1 + x2) / 2) / width, indexing="ij")
            inside = (dy.abs() <= 0.5) & (dx.abs() <= 0.5)
            s = torch.where(inside, torch.exp(-(dx**2 + dy**2) / (2 * SIGMA**2)), 0.0)
            weight += s
            for branch, said in answer.branches.items():
                total = sums.setdefault(branch, [torch.zeros(grid.shape), torch.zeros(grid.shape)])
                total[0] += s * said.scores[0, label]
                total[1] += s * paired_iou(said.boxes[:, label], box[None])[0]
        shown = weight > 0
        levels[name] = {b: TaskMaps(*(torch.where(shown, t / weight, 0.0) for t in two)) for b, two in sums.items()}
    return SensitivityMaps(box, label, grid, levels)


def largest_difference(one: SensitivityMaps, other: SensitivityMaps) -> float:
    """The largest difference between two maps of the same kind, whose values are in 0…1."""
    return max(
        (getattr(maps, task) - getattr(other.levels[level][branch], task)).abs().max().item()
        for level, branches in one.levels.items()
        for branch, maps in branches.items()
        for task in TASKS
    )


def measure(name: str, rounds: int) -> dict:
    model, (image, target) = load_detector(name), CocoDataset(SAMPLE, "val")[0]
    asked = (model, image, target["boxes"][0], int(target["labels"][0]))
    contestants = {
        INFERENCE: torch.inference_mode()(lambda: model([image])),
        "maps": partial(sensitivity_maps, *asked),
        "maps, max": partial(sensitivity_maps, *asked, aggregation="max"),
        "maps, slide": partial(sensitivity_maps, *asked, source="slide"),
        "gradient maps": partial(gradient_maps, *asked),
    }
    times = against(side_by_side(contestants, rounds), INFERENCE)
    print_table(f"{name}: one object, all levels, both tasks", times)
    kept: dict[str, SensitivityMaps] = {}
    slow = side_by_side(
        {
            "loop": lambda: kept.update(loop=loop_over_locations(*asked)),
            "maps": lambda: kept.update(maps=sensitivity_maps(*asked)),
        },
        rounds=1,
    )
    loop = {
        "median_s": round(median(slow["loop"]), 3),
        "times_maps": round(median(a / b for a, b in zip(slow["loop"], slow["maps"])), 1),
        "largest_difference": float(f"{largest_difference(kept['loop'], kept['maps']):.2g}"),
    }
    print(f"\nloop over locations: {loop}")
    proposals = sum(level.objectness.numel() for level in Probe(model, image).propose_everywhere().values())
    return {"image": list(image.shape[1:]), "proposals": proposals, "rounds": rounds, "times": times, "loop": loop}


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for name in MODELS:
        write_results("sensitivity", {name: {**measure(name, arguments.rounds), **provenance()}})


if __name__ == "__main__":
    main()
