"""`Detector`: a torchvision detector with a second stage of ours."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from tsdlab.config import Config, RoIConfig
from tsdlab.data.arrays import as_image
from tsdlab.data.images import vanishes
from tsdlab.errors import InputError
from tsdlab.models.torchvision_start import Parts
from tsdlab.structures import Category


class Detector(GeneralizedRCNN):
    """images → transform → backbone + FPN → RPN → RoI heads → detections, all as in torchvision.

    `model(images, targets)` returns a dict of losses in training mode and, in eval mode, a list of
    {"boxes" [D, 4], "labels" [D], "scores" [D]}. Images are [3, H, W] in 0…1, boxes xyxy in pixels of the input image.

    Attributes:
        config: the config that describes the detector.
        categories: what the labels mean: label i is categories[i − 1]. Empty while that is unknown.
    """

    categories: tuple[Category, ...] = ()

    def __init__(self, config: Config, parts: Parts) -> None:
        super().__init__(*parts)
        keep_in_full_precision(parts.rpn)
        self.transform.register_forward_pre_hook(_refuse_thin_images)
        self.config = config

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Losses by name in training mode (torchvision's forward, with its checks of the targets), else detections."""
        return super().forward(images, targets) if self.training else self.detect(images)

    def detect(
        self, images: Sequence[Any], postprocessing: RoIConfig | None = None, min_size: int | None = None
    ) -> list[dict[str, Tensor]]:
        """Detections of every image, best first.

        Args:
            images: each [3, H, W] in 0…1, or what else `tsdlab.data.arrays.as_image` takes. They are converted to the
                type and device of the model's parameters.
            postprocessing: its thresholds, NMS and limits replace those of `roi_heads.config`; its other fields are
                ignored.
            min_size: resize the shorter side of every image to this many pixels, and scale the bound on the longer side
                in proportion; None takes the size that the model was made for.

        Returns:
            Per image {"boxes" [D, 4] xyxy in pixels of the input image, "labels" [D] int64, "scores" [D]}.

        Raises:
            InputError: the model is in training mode, or an image cannot be used, such as one that is too thin to be
                resized.
        """
        if self.training:
            raise InputError("the detector is in training mode; call model.eval() before it detects")
        if not isinstance(images, list | tuple):
            raise InputError(f"images must be a list of images, got one {type(images).__name__}; give [image]")
        if not images:
            raise InputError("images must be a list of images, got an empty list")
        images = [self._usable(image) for image in images]
        transform = self.transform if min_size is None else _resizing_to(self.transform, min_size)
        seen, _ = transform(images)
        features = self.backbone(seen.tensors)
        proposals, _ = self.rpn(seen, features)
        detections = self.roi_heads.detect(features, proposals, seen.image_sizes, postprocessing)
        detections = [{k: v.float() if v.is_floating_point() else v for k, v in d.items()} for d in detections]
        return transform.postprocess(detections, seen.image_sizes, [image.shape[-2:] for image in images])

    def _usable(self, image: Any) -> Tensor:
        """[3, H, W] as the parameters are."""
        weights = next(self.parameters())
        if not (isinstance(image, Tensor) and image.is_floating_point() and image.dim() == 3 and len(image) == 3):
            return as_image(image).to(weights)
        # A GPU would have to wait until the values are known, and a compiler cannot know them.
        if (
            image.numel()
            and image.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
        ):
            as_image(image)  # raises if the values cannot be those of an image; the image itself keeps its gradient
        return image.to(weights)


def require_finite(model: nn.Module) -> None:
    """Raise InputError if a parameter or buffer is NaN or infinite: such a model finds nothing, and does not say so."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(f"the model's {name} has values that are NaN or infinite; load or train the model again")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _resizing_to(transform: GeneralizedRCNNTransform, min_size: int) -> GeneralizedRCNNTransform:
    """A copy of `transform` with another shorter side; the bound on the longer side is scaled in proportion."""
    resizing = copy.copy(transform)
    resizing.min_size = (min_size,)
    resizing.max_size = round(transform.max_size * min_size / transform.min_size[-1])
    return resizing


def _refuse_thin_images(transform: GeneralizedRCNNTransform, inputs: tuple[Any, ...]) -> None:
    """Before images are resized: an error that names the size, where torch would say that an output has size 0."""
    for image in inputs[0]:
        height, width = image.shape[-2:]
        if min(height, width) == 0:
            raise InputError(f"an image is {width}×{height} pixels; it must not be empty")
        is_resized = transform.fixed_size is None and not transform._skip_resize
        if is_resized and vanishes(width, height, transform.max_size):
            raise InputError(
                f"an image is {width}×{height} pixels; resized to at most {transform.max_size} on its longer side, its "
                "shorter side would vanish. Cut it into parts"
            )


def keep_in_full_precision(rpn: RegionProposalNetwork) -> None:
    """Make the RPN's boxes float32, whatever type its layers compute in: half precision cannot hold a box in pixels."""
    rpn.head.register_forward_hook(_output_to_float32)
    rpn.anchor_generator.register_forward_pre_hook(_maps_to_float32)


def _output_to_float32(head: nn.Module, inputs: Any, output: tuple[list[Tensor], list[Tensor]]) -> Any:
    objectness, deltas = output
    return [o.float() for o in objectness], [d.float() for d in deltas]


def _maps_to_float32(anchor_generator: nn.Module, inputs: tuple[ImageList, list[Tensor]]) -> Any:
    """torchvision gives anchors the type of the feature maps. Only the shapes of the maps matter otherwise."""
    image_list, maps = inputs
    return image_list, [f.new_empty((), dtype=torch.float32).expand(f.shape) for f in maps]
