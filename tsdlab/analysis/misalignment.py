"""How far apart are the two tasks? Compares their sensitivity maps, and their scores with their boxes, over a data set.

The maps of an object are measured in a window of 1.5 times its box; only proposals that overlap it are used. What is
measured is listed in `measures.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from tsdlab.analysis.measures import AGREEMENT, MEASURES, ObjectMaps
from tsdlab.analysis.sensitivity import Grid, SensitivityMaps, ask_everywhere, build_maps, differentiate
from tsdlab.analysis.statistics import Estimate, Tally
from tsdlab.models.boxes import paired_iou
from tsdlab.models.probe import Probe
from tsdlab.structures import BranchTrace, DetectionTrace

WINDOW = 1.5  # of an object's box
CELLS = 32  # per side of the window
NEAR = 0.1  # smallest IoU with the object at which a proposal's answer counts as one about it
IOU_EDGES = np.linspace(0.5, 1.0, 11)  # bins of the survival of boxes

METHODS = {
    "proposals": "the answers to the proposal at every coordinate",
    "gradients": "the gradients of the answers with respect to the features",
}


@dataclass(frozen=True)
class Misalignment:
    """The misalignment of a detector's two tasks over a data set."""

    images: int
    objects: int
    # By method ("proposals", the paper's; "gradients"), level, branch and measure, as in MEASURES.
    maps: dict[str, dict[str, dict[str, dict[str, Estimate]]]]
    # The detecting branch minus the sibling, by method, level and measure; empty for models with one branch.
    moved: dict[str, dict[str, dict[str, Estimate]]]
    agreement: dict[str, dict[str, Estimate]]  # by branch and measure, as in AGREEMENT
    survival: dict[str, tuple[Estimate, ...]]  # by branch: share of boxes that NMS keeps, in each bin of IOU_EDGES
    # By level, for those that regions are pooled from: proposals whose IoU with an object is at least 0.5.
    proposals: dict[str, int] = field(default_factory=dict)

    def known(self, method: str) -> list[str]:
        """The names in MEASURES that have a value for at least one level and branch."""
        rows = [row for branches in self.maps.get(method, {}).values() for row in branches.values()]
        return [name for name in MEASURES if any(name in row and row[name].value is not None for row in rows)]


def tally_misalignment(tally: Tally, probe: Probe, trace: DetectionTrace, target: dict[str, Any]) -> None:
    """Add the objects of an image: their maps by both methods, their scores and boxes, and the boxes that NMS keeps."""
    tally.add(("misalignment", "images"), [1.0])
    boxes, labels = target["boxes"], target["labels"].tolist()
    _tally_proposals(tally, probe.pooled, trace, boxes)
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
            ("proposals", build_maps(everywhere, box, label, grid, min_iou=NEAR)),
            ("gradients", differentiate(probe, box, label, grid, proposals=trace.proposals)),
        ):
            _tally_maps(tally, method, maps, None if salient is None else salient[i])


def misalignment(tally: Tally) -> Misalignment:
    """The results of what `tally_misalignment` has added."""
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
                name: tally.mean(("agreement", branch, name))
                if of.pooled is None
                else of.pooled(tally, ("agreement", branch, "pairs"))
                for name, of in AGREEMENT.items()
            }
            for branch in dict.fromkeys(name[1] for name in tally.names("agreement"))
        },
        survival={
            branch: tuple(tally.survival(("survival", branch, "after"), ("survival", branch, "before")))
            for branch in dict.fromkeys(name[1] for name in tally.names("survival"))
        },
        proposals={name[1]: tally.mean(name).count for name in tally.names("proposals")},
    )


def window(box: Tensor, image_size: tuple[int, int]) -> Grid:
    """The grid around an object `box` [4] on which its maps are measured; it ends at the image's borders."""
    height, width = image_size
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * WINDOW
    (x1, y1), (x2, y2) = (centre - half).tolist(), (centre + half).tolist()
    return Grid((max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)), (CELLS, CELLS))


def _tally_maps(tally: Tally, method: str, maps: SensitivityMaps, salient: Tensor | None) -> None:
    for level, branches in maps.levels.items():
        for branch, pair in branches.items():
            measured = ObjectMaps(pair, maps.grid, maps.box, salient)
            for name, measure in MEASURES.items():
                tally.add(("maps", method, level, branch, name), [measure.compute(measured)])


def _tally_proposals(tally: Tally, levels: tuple[str, ...], trace: DetectionTrace, objects: Tensor) -> None:
    """Count the proposals that overlap an object by at least 0.5, for each level that they are pooled from."""
    overlap = box_iou(trace.proposals, objects.to(trace.proposals))
    good = (overlap >= 0.5).any(dim=1)
    for i, level in enumerate(levels):
        tally.add(("proposals", level), torch.ones(int((good & (trace.levels == i)).sum())))


def _tally_agreement(tally: Tally, trace: DetectionTrace, box: Tensor, label: int) -> None:
    """Add the scores and boxes of the proposals whose IoU with the object is at least 0.5."""
    near = box_iou(trace.proposals, box[None].to(trace.proposals))[:, 0] >= 0.5
    if not near.any():
        return
    for name, branch in trace.branches.items():
        score, boxes = branch.scores[near, label].cpu(), branch.boxes[near, label].cpu()
        iou = paired_iou(boxes, box.expand_as(boxes))
        tally.add_pairs(("agreement", name, "pairs"), score, iou)
        for measure, of in AGREEMENT.items():
            if of.of_object is not None:
                tally.add(("agreement", name, measure), [of.of_object(score, iou)])


def _tally_survival(
    tally: Tally, name: str, branch: BranchTrace, objects: Tensor, labels: list[int], threshold: float
) -> None:
    """Count the boxes that overlap an object of their class, before and after NMS."""
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
