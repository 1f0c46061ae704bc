"""Multi-scale and flip testing: one detector sees an image several times, and its candidates compete together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from tsdlab.config import Config
from tsdlab.errors import InputError
from tsdlab.models.detector import Detector
from tsdlab.models.postprocess import suppress
from tsdlab.models.refinement import RefiningHead
from tsdlab.models.roi_heads import RoIHeads
from tsdlab.structures import Category


class AugmentedDetector(nn.Module):
    """Detects as `model` does, at several sizes and mirrored as well.

    Every pass delivers its candidates before they are suppressed: the `pre_nms_top_n` best above the score threshold,
    whose scores are taken as they are. The candidates of all passes enter one suppression, that of the model's config,
    and the best `detections_per_image` remain. A single pass at the model's own size so is the model itself. IoU-Net,
    whose head decides by itself which boxes are detections to refine, delivers these; they compete by their scores.

    Args:
        model: the detector; what changes in it later changes here.
        min_sizes: the image's shorter side in each pass, pixels; the bound on the longer side is scaled in proportion.
            Empty: the model's own size.
        flip: see every size a second time, mirrored left to right.

    Raises:
        ValueError: a size below one pixel, or sizes for a model that does not resize by the shorter side.
    """

    def __init__(self, model: Detector, min_sizes: Sequence[int] = (), flip: bool = False) -> None:
        super().__init__()
        for size in min_sizes:
            if size < 1:
                raise InputError(f"min_sizes are shorter sides in pixels, at least 1; got {size}")
        if min_sizes and (model.transform.fixed_size is not None or model.transform._skip_resize):
            raise InputError("min_sizes need a model whose transform resizes images by their shorter side")
        self.model = model
        self.min_sizes = tuple(min_sizes)
        self.flip = flip
        self.train(model.training)

    @property
    def config(self) -> Config:
        return self.model.config

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.model.categories

    @property
    def roi_heads(self) -> RoIHeads:
        """The model's: its `config` holds the score threshold, here too."""
        return self.model.roi_heads

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Detections of every image, best first.

        Args:
            images: each [3, H, W] in 0…1. The model is in eval mode.

        Returns:
            Per image {"boxes" [D, 4] xyxy in the input's pixels, "labels" [D], "scores" [D]}.
        """
        if not self.min_sizes and not self.flip:
            return self.model(images)
        sizes = self.min_sizes or (self.model.transform.min_size[-1],)
        passes = [
            self._candidates(images, size, mirrored)
            for size, mirrored in itertools.product(sizes, (False, True) if self.flip else (False,))
        ]
        return [self._merge(of_image) for of_image in zip(*passes)]

    def _candidates(self, images: list[Tensor], size: int, mirrored: bool) -> list[dict[str, Tensor]]:
        """What one pass delivers, in the input's pixels."""
        seen = [image.flip(-1) for image in images] if mirrored else images
        with _at_size(self.model, size), _unsuppressed(self.roi_heads):
            found = self.model(seen)
        if mirrored:
            for image, candidates in zip(images, found):
                x1, y1, x2, y2 = candidates["boxes"].unbind(1)
                width = image.shape[-1]
                candidates["boxes"] = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        return found

    def _merge(self, passes: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """One image's candidates of all passes, suppressed together."""
        boxes, labels, scores = (torch.cat([found[name] for found in passes]) for name in ("boxes", "labels", "scores"))
        kept, scores = suppress(boxes, scores, labels, self.roi_heads.config)
        return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores}


@contextmanager
def _at_size(model: Detector, size: int) -> Iterator[None]:
    """The transform brings images to `size`, and in proportion bounds their longer side."""
    transform = model.transform
    before = transform.min_size, transform.max_size
    transform.min_size = (size,)
    transform.max_size = round(before[1] * size / before[0][-1])
    try:
        yield
    finally:
        transform.min_size, transform.max_size = before


@contextmanager
def _unsuppressed(heads: RoIHeads) -> Iterator[None]:
    """All candidates become detections: no IoU exceeds 1, and as many may remain as may enter."""
    before = heads.config
    if not isinstance(heads.head, RefiningHead):
        heads.config = replace(before, nms="hard", nms_thresh=1.0, detections_per_image=before.pre_nms_top_n)
    try:
        yield
    finally:
        heads.config = before
