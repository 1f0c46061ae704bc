"""Heads whose answer is known at every place, and a badges detector that uses them."""

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import nn
from torchvision.ops import box_iou

from tsdlab.models.boxes import encode
from tsdlab.models.build import build_detector
from tsdlab.models.heads import Head
from tsdlab.presets import PRESETS
from tsdlab.structures import HeadOutput

IMAGE = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
BOX = torch.tensor([32.0, 36.0, 96.0, 100.0])
LABEL, CLASSES = 2, 7
STRIDES = {"0": 4, "1": 8, "2": 16, "pool": 32}


def centres(rois):
    return (rois[:, 1:3] + rois[:, 3:5]) / 2


@dataclass
class KnownOutput(HeadOutput):
    """Its scores are given, and need not sum to 1."""

    known_scores: torch.Tensor

    def scores(self):
        return self.known_scores


class Known(Head):
    """Leaves every box as it is; what it says of the class is in `score`."""

    def score(self, pool, rois):
        return torch.full((len(rois),), 0.5)

    def deltas(self, pool, rois):
        return torch.zeros(len(rois), 4)

    def forward(self, pool, rois, all_branches=False):
        scores = torch.zeros(len(rois), CLASSES)
        scores[:, LABEL] = self.score(pool, rois)
        deltas = self.deltas(pool, rois)[:, None].expand(-1, CLASSES, -1)
        return KnownOutput(scores.logit(eps=1e-6), deltas, rois[:, 1:], scores)


class Spot(Known):
    """Knows the class when it looks from `spot`, and finds the object when it looks from `place`."""

    def __init__(self, spot=(64.0, 68.0), place=(64.0, 68.0)):
        super().__init__()
        self.spot, self.place = torch.tensor(spot), torch.tensor(place)

    def score(self, pool, rois):
        return (-(centres(rois) - self.spot).norm(dim=1) / 16).exp()

    def deltas(self, pool, rois):
        away = (centres(rois) - self.place).norm(dim=1, keepdim=True).expand(-1, 4)
        return encode(BOX + away, rois[:, 1:])


class Judge(Known):
    """Its score is the IoU of its box on the image: nothing could be better aligned."""

    def score(self, pool, rois):
        return box_iou(rois[:, 1:].clamp(0, 128), BOX[None])[:, 0]


class Levels(Known):
    """Its score is the mean of what it pools."""

    def score(self, pool, rois):
        return pool(rois).mean(dim=(1, 2, 3))


class Corners(Known):
    """Classifies from the first bin and localizes from the last one."""

    def forward(self, pool, rois, all_branches=False):
        bins = pool(rois).mean(dim=1)  # [K, 7, 7]
        logits = torch.zeros(len(rois), CLASSES)
        logits[:, LABEL] = bins[:, 0, 0]
        deltas = torch.zeros(len(rois), CLASSES, 4)
        deltas[:, LABEL, 2] = bins[:, -1, -1]
        return HeadOutput(logits, deltas, rois[:, 1:])


class Plain(nn.Module):
    """A pyramid whose levels hold one number each: 0.1, 0.2, …"""

    def forward(self, images):
        side = images.shape[-1]
        return OrderedDict(
            (name, torch.full((1, 64, side // s, side // s), 0.1 * i)) for i, (name, s) in enumerate(STRIDES.items(), 1)
        )


def make_model(head=None, backbone=None, plain_rpn=True):
    """A badges detector with another head; its RPN proposes the first anchor of every place, as it is."""
    torch.manual_seed(0)
    model = build_detector(replace(PRESETS["badges-tiny"], head="sibling")).eval()
    if head is not None:
        model.roi_heads.head = head
    if backbone is not None:
        model.backbone = backbone
    if plain_rpn:
        for parameter in model.rpn.parameters():
            nn.init.zeros_(parameter)
    return model
