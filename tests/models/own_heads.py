"""Heads of a reader's own, which pool their tasks from regions that no head of the package has."""

import torch

from tsdlab.models.heads.base import Branch, Head
from tsdlab.models.heads.double import enlarge
from tsdlab.structures import TASKS, HeadOutput, Region


class OwnHead(Head):
    """`find` makes the regions of its tasks from rois [K, 5]; a task without one is pooled from P."""

    def __init__(self, config, find):
        super().__init__()
        self.find = find
        self.classification = Branch(config, 1 + config.num_classes)
        self.localization = Branch(config, 4 * (1 + config.num_classes))

    def forward(self, pool, rois, all_branches=False):
        levels, regions = pool.assign_levels(rois), self.find(rois)
        features = {}
        for task in TASKS:
            region = regions.get(task, Region(rois[:, 1:]))
            features[task] = pool(torch.cat([rois[:, :1], region.boxes], dim=1), levels, region.offsets)
        deltas = self.localization(features["localization"]).unflatten(1, (-1, 4))
        return HeadOutput(self.classification(features["classification"]), deltas, rois[:, 1:], regions=regions)


def surroundings(rois):
    """P and as much around it, for the class."""
    return {"classification": Region(enlarge(rois, 2.0)[:, 1:])}


def both_deformed(rois):
    """P with its bins moved for the class, and the right half of P with its bins moved for the box."""
    boxes = rois[:, 1:]
    half = torch.cat([(boxes[:, :1] + boxes[:, 2:3]) / 2, boxes[:, 1:]], dim=1)
    places = torch.arange(49.0).view(7, 7)
    moves = torch.stack([places.sin(), places.cos()], dim=-1).expand(len(rois), 7, 7, 2)
    return {"classification": Region(boxes, 0.3 * moves), "localization": Region(half, 0.2 * moves.flip(1))}
