"""`Detector`: a torchvision detector whose second stage is ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from tsdlab.config import Config
from tsdlab.models.torchvision_start import Parts
from tsdlab.structures import Category


class Detector(GeneralizedRCNN):
    """images → transform → backbone + FPN → RPN → RoI heads → detections, all as in torchvision.

    `model(images, targets)` returns a dict of losses in training mode and, in eval mode, a list of
    {"boxes" [D, 4], "labels" [D], "scores" [D]}; images are [3, H, W] in 0…1, boxes xyxy in the input's pixels.
    `model.config` is what it was built from, `model.categories` what its labels mean: label i is categories[i − 1]
    (empty until somebody knows).
    """

    categories: tuple[Category, ...] = ()

    def __init__(self, config: Config, parts: Parts) -> None:
        super().__init__(*parts)
        keep_in_full_precision(parts.rpn)
        self.config = config


def keep_in_full_precision(rpn: RegionProposalNetwork) -> None:
    """Make any RPN's boxes float32 whatever its layers compute in: half precision cannot name the pixels of a box."""
    rpn.head.register_forward_hook(_answer_in_float32)
    rpn.anchor_generator.register_forward_pre_hook(_ask_in_float32)


def _answer_in_float32(head: nn.Module, inputs: Any, output: tuple[list[Tensor], list[Tensor]]) -> Any:
    objectness, deltas = output
    return [o.float() for o in objectness], [d.float() for d in deltas]


def _ask_in_float32(anchor_generator: nn.Module, inputs: tuple[ImageList, list[Tensor]]) -> Any:
    """torchvision's anchors take the feature maps' type, of which only the shapes matter."""
    image_list, maps = inputs
    return image_list, [f.new_empty((), dtype=torch.float32).expand(f.shape) for f in maps]
