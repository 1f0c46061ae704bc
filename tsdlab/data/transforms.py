"""Training augmentation: flips and zooms of images and their boxes.

What happens to an image is drawn without its pixels. So a process that loads images draws it and changes the boxes; the
pixels, which are far more work, are changed wherever they are needed, such as on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from tsdlab.data.coco import DrawingTransforms, Target
from tsdlab.errors import InputError


def train_transforms(flip: float, scale_jitter: tuple[float, float], fill: tuple[float, ...]) -> DrawingTransforms:
    """The random changes of `(image, target)` in training; the image keeps its size.

    Args:
        flip: probability of a horizontal flip.
        scale_jitter: range of the zoom factor: above 1 crops, below 1 pads. (1, 1) turns it off. The factor is
            log-uniform in it, so that zooming in and out are equally likely for (1/f, f).
        fill: RGB in 0…1 of the padding. Pass the mean that the model subtracts: the padding is then zero, like that
            of a batch.

    Returns:
        A transform of image float32 `[3, H, W]` and a target as `CocoDataset` gives it. The new target holds
        "boxes", "labels" and "image_id", without the objects that are now outside the image. Random numbers come
        from torch's CPU generator alone.

    Raises:
        InputError: the probability or the range is not possible.
    """
    if not 0 <= flip <= 1:
        raise InputError(f"flip is a probability, 0…1, got {flip}")
    low, high = scale_jitter
    if not 0 < low <= high:
        raise InputError(f"scale_jitter is a range (low, high) of positive factors, got {scale_jitter}")
    return _FlipAndZoom(flip, (low, high), tuple(fill))


@dataclass(frozen=True)
class _FlipAndZoom(DrawingTransforms):
    """What `train_transforms` returns."""

    flip: float
    factors: tuple[float, float]
    fill: tuple[float, ...]

    def draw(self, height: int, width: int, target: Target) -> tuple[_Drawn, Target]:
        is_flipped = self.flip > 0 and bool(torch.rand(1) < self.flip)
        zoom = None if self.factors == (1, 1) else self._draw_zoom(height, width)
        drawn = _Drawn(is_flipped, zoom, self.fill)
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(height, width))
        # Sanitizing goes last: a step after it could leave boxes without an area.
        boxes, valid = F.sanitize_bounding_boxes(drawn(boxes))
        return drawn, {
            "boxes": boxes.as_subclass(Tensor),
            "labels": target["labels"][valid],
            "image_id": target["image_id"],
        }

    def _draw_zoom(self, height: int, width: int) -> _Zoom:
        low, high = torch.tensor(self.factors).log().tolist()
        draw = torch.rand(3).tolist()
        factor = torch.tensor(low + (high - low) * draw[0]).exp().item()
        new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
        return _Zoom(
            new_height, new_width, round((new_height - height) * draw[1]), round((new_width - width) * draw[2])
        )


class _Zoom(NamedTuple):
    """Resize to this size, then crop or pad to the original size."""

    height: int
    width: int
    # The corner of the crop in the enlarged image; negative: minus the corner of the shrunk image in its padding.
    top: int
    left: int


@dataclass(frozen=True)
class _Drawn:
    """What happens to one image and its boxes. It is a few numbers, which travel beside the image."""

    is_flipped: bool
    zoom: _Zoom | None
    fill: tuple[float, ...]

    def __call__(self, inpt: Tensor) -> Tensor:
        """An image float32 [3, H, W], or its boxes as `tv_tensors.BoundingBoxes`; of the same type and size."""
        height, width = F.get_size(inpt)
        if self.is_flipped:
            inpt = F.horizontal_flip(inpt)
        if self.zoom is None:
            return inpt
        new_height, new_width, top, left = self.zoom
        inpt = F.resize(inpt, [new_height, new_width], antialias=True)
        if new_height >= height and new_width >= width:
            return F.crop(inpt, top, left, height, width)
        padding = [-left, -top, width - new_width + left, height - new_height + top]
        return F.pad(inpt, padding, fill=list(self.fill))
