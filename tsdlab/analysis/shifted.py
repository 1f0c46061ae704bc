"""A box shifted off its object, where detectors disagree: the place to look first in an image.

On a box that fits already, every branch of every detector gives the same answer. On a copy of it that is shifted until
it overlaps the object only by half, the branches have something to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from tsdlab.models.boxes import paired_iou
from tsdlab.models.probe import Probe
from tsdlab.structures import BranchTrace

OVERLAP = 0.55  # IoU of a shifted copy with its object: a proposal that training calls the object, but only just
_COPIES = 96  # asked about in one image
_DIRECTIONS = (4, 24)  # fewest and most for each object


@dataclass(frozen=True)
class Shifted:
    """A shifted copy of an object's box, and how far the answers about it are apart."""

    object: int  # index among the objects
    box: Tensor  # [4] xyxy, pixels
    disagreement: float  # 0…2: the largest difference of the scores of the object's class, plus that of the boxes' IoUs


def shift_box(box: Tensor, overlap: float, directions: int) -> Tensor:
    """Copies [directions, 4] of `box` [4], shifted into evenly spread directions to an IoU of `overlap` with it."""
    angles = torch.arange(directions, dtype=torch.float64) * (2 * math.pi / directions)
    towards = torch.stack([angles.cos(), angles.sin()], dim=1)
    # A shift by a · (x, y), in fractions of width and height, leaves (1 − a|x|)(1 − a|y|) of the box in common. That is
    # 2 · IoU / (1 + IoU) of it; solved for a.
    lost = 1 - 2 * overlap / (1 + overlap)
    reach, both = towards.abs().sum(dim=1), towards.abs().prod(dim=1)
    far = 2 * lost / (reach + (reach.square() - 4 * both * lost).clamp(min=0).sqrt())
    moved = far[:, None] * towards * (box[2:] - box[:2]).double()
    return (box.double() + moved.repeat(1, 2)).to(box)


def find_disagreement(probes: Iterable[Probe], boxes: Tensor, labels: Tensor) -> Shifted | None:
    """The shifted copy of an object's box about which the branches of all detectors disagree most.

    A detector with a single branch, alone, is asked where its two tasks disagree: where the score of the object's class
    is far from the IoU of the decoded box. All copies are asked about in one pass of each detector.

    Args:
        probes: one image inside each detector.
        boxes: [N, 4] the objects, xyxy in pixels. In a crowded image only the largest ones are tried.
        labels: [N] 1…C.

    Returns:
        None if there are no objects with an area.
    """
    probes = list(probes)
    tried, copies = _copies(boxes, probes[0].image_size)
    if not len(tried):
        return None
    truth, label = boxes[tried], labels[tried]
    branches = [branch for probe in probes for branch in probe.ask(copies).branches.values()]
    scores = torch.stack([branch.scores.cpu()[torch.arange(len(tried)), label] for branch in branches])
    ious = torch.stack([_fit(branch, label, truth) for branch in branches])
    apart = _spread(scores) + _spread(ious) if len(branches) > 1 else (scores - ious)[0].abs()
    best = int(apart.argmax())
    return Shifted(int(tried[best]), copies[best], apart[best].item())


def _copies(boxes: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Indices [K] of objects, and a shifted copy [K, 4] for each of them.

    Copies that hang over the image's border, or that lie nearer to another object, are left out where there are others.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    fewest, most = _DIRECTIONS
    largest = areas.argsort(descending=True)[: _COPIES // fewest].sort().values
    objects = largest[areas[largest] > 0]
    if not len(objects):
        return objects, boxes[objects]
    directions = min(max(_COPIES // len(objects), fewest), most)
    copies = torch.cat([shift_box(boxes[i], OVERLAP, directions) for i in objects.tolist()])
    owners = objects.repeat_interleave(directions)
    own = box_iou(copies, boxes).argmax(dim=1) == owners
    height, width = image_size
    inside = own & (copies >= 0).all(dim=1) & (copies <= copies.new_tensor([width, height] * 2)).all(dim=1)
    kept = inside if inside.any() else own if own.any() else torch.ones_like(own)
    return owners[kept], copies[kept]


def _fit(branch: BranchTrace, label: Tensor, truth: Tensor) -> Tensor:
    """[K] IoU of the box that is decoded for each proposal's class with its object."""
    return paired_iou(branch.boxes.cpu()[torch.arange(len(label)), label], truth)


def _spread(values: Tensor) -> Tensor:
    """[K] the largest difference between the rows of [branches, K]."""
    return values.amax(dim=0) - values.amin(dim=0)
