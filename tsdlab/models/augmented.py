"""Multi-scale and flip testing: one detector sees an image several times, and one NMS merges what it finds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tsdlab.config import Config, RoIConfig
from tsdlab.errors import InputError
from tsdlab.models.detector import Detector
from tsdlab.models.postprocess import suppress
from tsdlab.models.refinement import RefiningHead
from tsdlab.models.roi_heads import RoIHeads
from tsdlab.ranges import ImageSide, check_value
from tsdlab.structures import Category


class AugmentedDetector(nn.Module):
    """Detects with `model` at several image sizes, and in mirrored images too.

    Every pass gives its candidates before NMS: the `pre_nms_top_n` best above the score threshold, with their scores.
    The candidates of all passes enter one NMS, and the best `detections_per_image` remain. So a single pass at the
    model's own size gives the model's own detections. IoU-Net is an exception, because it refines detections, not
    candidates: each of its passes gives its detections, and NMS ranks them by their scores.

    Args:
        model: the detector. It is not copied: later changes of it have an effect here.
        min_sizes: the image's shorter side in each pass, pixels; the bound on the longer side is scaled in proportion.
            Empty means the size that the model was made for.
        flip: see every size a second time, mirrored left to right.

    Raises:
        ValueError: a size that is no `ImageSide`, or sizes for a model that does not resize by the shorter side.
    """

    def __init__(self, model: Detector, min_sizes: Sequence[int] = (), flip: bool = False) -> None:
        super().__init__()
        check_value("min_sizes", tuple(min_sizes), tuple[ImageSide, ...])
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
        """The model's second stage; its `config` holds the default thresholds."""
        return self.model.roi_heads

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """As `detect`, with the model's own post-processing."""
        return self.detect(images)

    def detect(self, images: list[Tensor], postprocessing: RoIConfig | None = None) -> list[dict[str, Tensor]]:
        """Detections of every image, best first. The model must be in eval mode.

        Args:
            images: each [3, H, W] in 0…1.
            postprocessing: its thresholds, NMS and limits replace those of the model's `roi_heads.config`.

        Returns:
            Per image {"boxes" [D, 4] xyxy in pixels of the input image, "labels" [D] int64, "scores" [D]}.
        """
        if not self.min_sizes and not self.flip:
            return self.model.detect(images, postprocessing)
        config = postprocessing or self.roi_heads.config
        sizes = self.min_sizes or (None,)
        passes = [
            self._candidates(images, config, size, mirrored)
            for size, mirrored in itertools.product(sizes, (False, True) if self.flip else (False,))
        ]
        return [_merge(of_image, config) for of_image in zip(*passes)]

    def _candidates(
        self, images: list[Tensor], config: RoIConfig, size: int | None, mirrored: bool
    ) -> list[dict[str, Tensor]]:
        """The candidates of one pass, in pixels of the input image."""
        if not isinstance(self.roi_heads.head, RefiningHead):
            # No IoU exceeds 1, and as many may remain as may enter: every candidate becomes a detection.
            config = replace(config, nms="hard", nms_thresh=1.0, detections_per_image=config.pre_nms_top_n)
        seen = [image.flip(-1) for image in images] if mirrored else images
        found = self.model.detect(seen, config, size)
        if mirrored:
            for image, candidates in zip(images, found):
                x1, y1, x2, y2 = candidates["boxes"].unbind(1)
                width = image.shape[-1]
                candidates["boxes"] = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        return found


def _merge(passes: Sequence[dict[str, Tensor]], config: RoIConfig) -> dict[str, Tensor]:
    """One image's detections from its candidates of all passes."""
    boxes, labels, scores = (torch.cat([found[name] for found in passes]) for name in ("boxes", "labels", "scores"))
    kept, scores = suppress(boxes, scores, labels, config)
    return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores}
