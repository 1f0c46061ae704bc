"""How far apart are the two tasks? Numbers of the sensitivity maps, and of how scores and boxes agree, over a data set.

The maps of an object are measured around it, in a window of 1.5 times its box, and count proposals that overlap it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torchvision.ops import box_iou, nms

from tsdlab.analysis.sensitivity import Grid, SensitivityMaps, TaskMaps, ask_everywhere, differentiate, draw_maps
from tsdlab.analysis.statistics import Estimate, Tally
from tsdlab.models.boxes import paired_iou
from tsdlab.models.probe import Probe
from tsdlab.structures import BranchTrace, DetectionTrace

WINDOW = 1.5  # of an object's box
CELLS = 32  # per side of the window
NEAR = 0.1  # IoU of a proposal with the object from which on its answer is about this object
TOP = 0.1  # share of the window whose best cells are compared
IOU_EDGES = np.linspace(0.5, 1.0, 11)  # of the survival of boxes

METHODS = {
    "proposals": "every coordinate's proposal is asked",
    "gradients": "gradients of the answers with respect to the features",
}

# What is measured of an object's two maps, and how a person would call it.
MEASURES = {
    "peak_distance": "distance between the two peaks, in box sizes",
    "classification_centre": "share of classification's energy in the middle half of the box (0.25 is even)",
    "localization_centre": "share of localization's energy in the middle half of the box (0.25 is even)",
    "top_overlap": "IoU of the two tasks' best 10% of places",
    "spearman": "rank correlation of the two maps",
    "classification_peak_on_salient": "classification peaks on the salient part",
    "classification_energy_on_salient": "classification's energy on the salient part (1 is even)",
    "localization_peak_on_salient": "localization peaks on the salient part",
    "localization_energy_on_salient": "localization's energy on the salient part (1 is even)",
    "salient_area": "share of the window that is the salient part: how often chance would hit it",
}

# What is measured of the scores and boxes of an object's proposals.
AGREEMENT = {
    "pearson": "of score and IoU over all proposals",
    "spearman": "of score and IoU over all proposals",
    "spearman_within": "of score and IoU over the proposals of an object, mean over objects",
    "best_iou": "IoU of an object's best box",
    "iou_of_best_score": "IoU of its best-scored box",
    "gap": "IoU lost by taking the best-scored box instead of the best",
}


@dataclass(frozen=True)
class Misalignment:
    """What was measured over a data set."""

    images: int
    objects: int
    # By method ("proposals", the paper's; "gradients"), level, branch and measure, as in MEASURES.
    maps: dict[str, dict[str, dict[str, dict[str, Estimate]]]]
    # How much more the detecting branch has than the sibling, by method, level and measure; of models with both.
    moved: dict[str, dict[str, dict[str, Estimate]]]
    agreement: dict[str, dict[str, Estimate]]  # by branch and measure, as in AGREEMENT
    survival: dict[str, tuple[Estimate, ...]]  # by branch: share of boxes that NMS keeps, between IOU_EDGES

    def known(self, method: str) -> list[str]:
        """The MEASURES that have a value at some level, of some branch."""
        rows = [row for branches in self.maps.get(method, {}).values() for row in branches.values()]
        return [name for name in MEASURES if any(name in row and row[name].value is not None for row in rows)]


def tally_misalignment(tally: Tally, probe: Probe, trace: DetectionTrace, target: dict[str, Any]) -> None:
    """Add the objects of an image: their maps by both methods, scores against boxes, and what NMS keeps."""
    tally.add(("misalignment", "images"), [1.0])
    boxes, labels = target["boxes"], target["labels"].tolist()
    for name, branch in trace.branches.items():
        _tally_survival(tally, name, branch, boxes, labels, probe.model.config.roi.nms_thresh)
    if not labels:
        return
    everywhere = ask_everywhere(probe)
    salient = target.get("salient_boxes")
    for i, (box, label) in enumerate(zip(boxes, labels)):
        tally.add(("misalignment", "objects"), [1.0])
        _tally_agreement(tally, trace, box, label)
        grid = window(box, probe.image_size)
        for method, maps in (
            ("proposals", draw_maps(everywhere, box, label, grid, min_iou=NEAR)),
            ("gradients", differentiate(probe, box, label, grid, proposals=trace.proposals)),
        ):
            _tally_maps(tally, method, maps, None if salient is None else salient[i])


def misalignment(tally: Tally) -> Misalignment:
    """What `tally_misalignment` has gathered."""
    maps: dict[str, dict[str, dict[str, dict[str, Estimate]]]] = {}
    moved: dict[str, dict[str, dict[str, Estimate]]] = {}
    names = tally.names("maps")
    for name in names:
        _, method, level, branch, measure = name
        maps.setdefault(method, {}).setdefault(level, {}).setdefault(branch, {})[measure] = tally.mean(name)
        sibling = ("maps", method, level, "sibling", measure)
        if branch != "sibling" and sibling in names:
            moved.setdefault(method, {}).setdefault(level, {})[measure] = tally.difference(name, sibling)
    return Misalignment(
        images=tally.mean(("misalignment", "images")).count,
        objects=tally.mean(("misalignment", "objects")).count,
        maps=maps,
        moved=moved,
        agreement={
            branch: {
                "pearson": tally.pearson(("agreement", branch, "pairs")),
                "spearman": tally.spearman(("agreement", branch, "pairs")),
                **{name: tally.mean(("agreement", branch, name)) for name in list(AGREEMENT)[2:]},
            }
            for branch in dict.fromkeys(name[1] for name in tally.names("agreement"))
        },
        survival={
            branch: tuple(tally.survival(("survival", branch, "after"), ("survival", branch, "before")))
            for branch in dict.fromkeys(name[1] for name in tally.names("survival"))
        },
    )


def window(box: Tensor, image_size: tuple[int, int]) -> Grid:
    """The grid around an object on which its maps are measured: no larger than the image."""
    height, width = image_size
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * WINDOW
    (x1, y1), (x2, y2) = (centre - half).tolist(), (centre + half).tolist()
    return Grid((max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)), (CELLS, CELLS))


def measure_maps(maps: TaskMaps, grid: Grid, box: Tensor, salient: Tensor | None = None) -> dict[str, float]:
    """MEASURES of an object `box` [4]; NaN where a map is flat or a part of the object has no cell."""
    ys, xs = grid.axes()
    tasks = {"classification": maps.classification, "localization": maps.localization}
    size = (box[2:] - box[:2]).clamp(min=1e-6)
    found = dict.fromkeys(MEASURES, math.nan)
    places = {}
    for task, values in tasks.items():
        if not values.max() > values.min():
            continue
        row, column = divmod(int(values.argmax()), values.shape[1])
        places[task] = torch.stack([xs[column], ys[row]])
        on_box = _share(values, _cover(box, grid))
        middle = torch.cat([box[:2] + size / 4, box[2:] - size / 4])
        if on_box > 0:
            found[f"{task}_centre"] = _share(values, _cover(middle, grid)) / on_box
        if salient is not None:
            on_salient = _cover(salient, grid)
            found["salient_area"] = on_salient.mean().item()
            x, y = places[task].tolist()
            x1, y1, x2, y2 = salient.tolist()
            found[f"{task}_peak_on_salient"] = float(x1 <= x <= x2 and y1 <= y <= y2)
            if on_salient.any():
                found[f"{task}_energy_on_salient"] = _share(values, on_salient) / on_salient.mean().item()
    if len(places) == 2:
        apart = (places["classification"] - places["localization"]) / size
        found["peak_distance"] = torch.linalg.vector_norm(apart).item()
        first, second = (v.flatten() for v in tasks.values())
        found["spearman"] = float(spearmanr(first.numpy(), second.numpy()).statistic)
        best = [set(v.topk(round(TOP * v.numel())).indices.tolist()) for v in (first, second)]
        found["top_overlap"] = len(best[0] & best[1]) / len(best[0] | best[1])
    return found


def _cover(box: Tensor, grid: Grid) -> Tensor:
    """[rows, columns] what share of each cell lies in `box` [4]: counted whole, an even map would not be even."""
    x1, y1, x2, y2 = grid.extent
    rows, columns = grid.shape
    along_y = _overlap(torch.linspace(y1, y2, rows + 1), *box[1::2].tolist())
    along_x = _overlap(torch.linspace(x1, x2, columns + 1), *box[::2].tolist())
    return along_y[:, None] * along_x[None]


def _overlap(edges: Tensor, low: float, high: float) -> Tensor:
    """Share of every cell between neighbouring `edges` that lies in low…high."""
    return (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0) / (edges[1:] - edges[:-1])


def _share(values: Tensor, weights: Tensor) -> float:
    total = values.sum().item()
    return (values * weights).sum().item() / total if total > 0 else math.nan


def _tally_maps(tally: Tally, method: str, maps: SensitivityMaps, salient: Tensor | None) -> None:
    for level, branches in maps.levels.items():
        for branch, pair in branches.items():
            for measure, value in measure_maps(pair, maps.grid, maps.box, salient).items():
                tally.add(("maps", method, level, branch, measure), [value])


def _tally_agreement(tally: Tally, trace: DetectionTrace, box: Tensor, label: int) -> None:
    """Scores and boxes of the proposals that overlap an object by at least half."""
    near = box_iou(trace.proposals, box[None].to(trace.proposals))[:, 0] >= 0.5
    if not near.any():
        return
    for name, branch in trace.branches.items():
        score, boxes = branch.scores[near, label].cpu(), branch.boxes[near, label].cpu()
        iou = paired_iou(boxes, box.expand_as(boxes))
        best, chosen = iou.max().item(), iou[score.argmax()].item()
        tally.add_pairs(("agreement", name, "pairs"), score, iou)
        tally.add(("agreement", name, "spearman_within"), [_rank_correlation(score, iou)])
        tally.add(("agreement", name, "best_iou"), [best])
        tally.add(("agreement", name, "iou_of_best_score"), [chosen])
        tally.add(("agreement", name, "gap"), [best - chosen])


def _rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's; NaN of fewer than five pairs, or where one of them does not vary."""
    if len(x) < 5 or x.min() == x.max() or y.min() == y.max():
        return math.nan
    return float(spearmanr(x.numpy(), y.numpy()).statistic)


def _tally_survival(
    tally: Tally, name: str, branch: BranchTrace, objects: Tensor, labels: list[int], threshold: float
) -> None:
    """Boxes of each class in the image that overlap an object of it, before and after NMS by score."""
    ids = torch.tensor(labels, dtype=torch.int64)
    before, after = [torch.empty(0)], [torch.empty(0)]
    for label in ids.unique().tolist():
        boxes, scores = branch.boxes[:, label].cpu(), branch.scores[:, label].cpu()
        iou = box_iou(boxes, objects[ids == label]).amax(dim=1)
        kept = torch.zeros(len(boxes), dtype=torch.bool)
        kept[nms(boxes, scores, threshold)] = True
        good = iou >= IOU_EDGES[0]
        before.append(iou[good])
        after.append(iou[good & kept])
    tally.add_counts(("survival", name, "before"), torch.cat(before), IOU_EDGES)
    tally.add_counts(("survival", name, "after"), torch.cat(after), IOU_EDGES)
