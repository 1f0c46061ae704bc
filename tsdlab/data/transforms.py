"""Training augmentation with torchvision's v2 transforms: flips and zooms of images and their boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from tsdlab.data.coco import Target, Transforms
from tsdlab.errors import InputError


def train_transforms(flip: float, scale_jitter: tuple[float, float], fill: tuple[float, ...]) -> Transforms:
    """The random changes of `(image, target)` in training; the image keeps its size.

    Args:
        flip: probability of a horizontal flip.
        scale_jitter: range of the zoom factor: above 1 crops, below 1 pads. (1, 1) turns it off.
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
    steps: list[nn.Module] = [_WithBoxes()]
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if (low, high) != (1, 1):
        steps.append(RandomZoom((low, high), fill))
    # Sanitizing goes last: a step after it could leave boxes without an area.
    return v2.Compose([*steps, v2.SanitizeBoundingBoxes(), v2.ToPureTensor()])


class _WithBoxes(nn.Module):
    """Gives image and boxes the types that v2 transforms recognize, and drops what training does not need."""

    def forward(self, image: Tensor, target: Target) -> tuple[tv_tensors.Image, Target]:
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[-2:])
        return tv_tensors.Image(image), {
            "boxes": boxes,
            "labels": target["labels"],
            "image_id": target["image_id"],
        }


class RandomZoom(v2.Transform):
    """Resizes by a random factor, then crops or pads to the original size at a random place.

    The factor is log-uniform in `factors`, so that zooming in and out are equally likely for (1/f, f).
    """

    def __init__(self, factors: tuple[float, float], fill: tuple[float, ...]) -> None:
        super().__init__()
        self.factors, self.fill = factors, list(fill)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        low, high = torch.tensor(self.factors).log().tolist()
        draw = torch.rand(3).tolist()
        factor = torch.tensor(low + (high - low) * draw[0]).exp().item()
        new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
        # The corner of the crop in the enlarged image; negative: minus the corner of the shrunk image in its padding.
        top, left = round((new_height - height) * draw[1]), round((new_width - width) * draw[2])
        return {"size": [new_height, new_width], "top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        (new_height, new_width), height, width = params["size"], params["height"], params["width"]
        inpt = self._call_kernel(F.resize, inpt, [new_height, new_width], antialias=True)
        if new_height >= height and new_width >= width:
            return self._call_kernel(F.crop, inpt, params["top"], params["left"], height, width)
        left, top = -params["left"], -params["top"]
        padding = [left, top, width - new_width - left, height - new_height - top]
        return self._call_kernel(F.pad, inpt, padding, fill=self.fill)
