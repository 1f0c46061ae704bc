"""An image on its way from a file to a model: as few bytes as it has, and what is still to be done to them.

Processes that load images send bytes, a quarter of what floating-point numbers take. The process that trains makes
numbers of them, on the device of the model, and changes them there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]


class StoredImage(NamedTuple):
    """The pixels of an image, and what augmentation does to them."""

    pixels: Tensor  # [3, H, W], RGB: uint8, or floating-point numbers in 0…1 where a data set gives those
    change: Change | None = None  # of float32 [3, H, W] in 0…1, on any device; random numbers are drawn already

    def image(self, device: torch.device | str = "cpu") -> Tensor:
        """The changed image as float32 `[3, H, W]` in 0…1 on `device`."""
        is_cuda = torch.device(device).type == "cuda"  # which alone keeps the order of copies and kernels
        image = in_unit_range(self.pixels.to(device, non_blocking=is_cuda))
        return image if self.change is None else self.change(image)


def in_unit_range(pixels: Tensor) -> Tensor:
    """uint8 of 0…255 as float32 of 0…1; other types as they are."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
