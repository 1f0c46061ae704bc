"""Proposals that two detectors read differently: where to look first when one head is compared with another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from tsdlab.data.items import as_items
from tsdlab.errors import InputError
from tsdlab.models.boxes import paired_iou
from tsdlab.models.build import as_detector
from tsdlab.models.probe import trace

BELONGS = 0.5  # a proposal belongs to the object it overlaps most, from this IoU on


@dataclass(frozen=True)
class Reading:
    """What one detector says about a proposal."""

    score: float  # of the object's class, 0…1
    label: int  # the class with the best score, 1…C, or 0 for background
    iou: float  # of the box decoded for the object's class, with the object's box


@dataclass(frozen=True)
class ReadProposal:
    """A proposal that belongs to an object, and how two detectors read it. Boxes are xyxy in pixels of the image."""

    image: int  # index among the images
    object: int  # index in the image's target
    label: int  # the object's class, 1…C
    proposal: Tensor  # [4]
    overlap: float  # IoU of the proposal with the object
    moved_overlap: float  # IoU of the second detector's P̂r with the object; `overlap` if its head moves no region
    first: Reading
    second: Reading


def read_proposals(first: nn.Module, second: nn.Module, images: Any) -> Iterator[ReadProposal]:
    """Every RPN proposal of `second` that belongs to an object, read by both detectors.

    Args:
        first, second: detectors with the same classes; both are asked about the same boxes.
        images: images with their objects, such as a `CocoDataset`; see `tsdlab.data.items.Items`.

    Raises:
        InputError: the detectors or the images cannot be used, or name their classes differently.
    """
    first, second = as_detector(first), as_detector(second)
    own = [[category.name for category in model.categories] for model in (first, second)]
    if first.config.num_classes != second.config.num_classes or (all(own) and own[0] != own[1]):
        raise InputError("first and second must know the same classes in the same order")
    items = as_items(images).for_model(first if first.categories else second)
    for index in range(len(items)):
        image, target = items[index]
        if len(target["boxes"]) == 0:
            continue
        by_second = trace(second, image)
        proposals = by_second.proposals
        by_first = trace(first, image, proposals)
        truth = target["boxes"].to(proposals)
        overlap, owner = box_iou(proposals, truth).max(dim=1)
        labels = target["labels"].to(owner)[owner]
        moved = by_second.regions.get("localization")
        moved_overlap = overlap if moved is None else paired_iou(moved.boxes, truth[owner])
        for k in torch.where(overlap >= BELONGS)[0].tolist():
            label = int(labels[k])
            readings = []
            for branch in (by_first.detection, by_second.detection):
                iou = paired_iou(branch.boxes[k, label][None], truth[owner[k]][None]).item()
                readings.append(Reading(branch.scores[k, label].item(), int(branch.scores[k].argmax()), iou))
            yield ReadProposal(
                index, int(owner[k]), label, proposals[k].cpu(), overlap[k].item(), moved_overlap[k].item(), *readings
            )
