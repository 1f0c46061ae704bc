"""Do the anchors of a config cover the boxes of a data set? And which ones would?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from tsdlab.config import Config

_MOST_BOXES = 5_000  # that are looked at, evenly chosen from all
_QUANTILES = {"least": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "largest": 1.0}
_BETTER = 0.02  # mean IoU that other anchors must gain to be suggested
_SAME = 0.005  # share of boxes that anchors may leave uncovered which others cover: no rare size is given up
_LEAST_SIZE = 8  # pixels: thinner anchors than 2 pixels are not allowed


@dataclass(frozen=True)
class Anchors:
    """One size for each level of a pyramid, the same aspect ratios for all, and how well they cover some boxes.

    The IoU of a box is that with the best of all anchors, each at its place on the grid of its level.
    """

    sizes: tuple[float, ...]  # pixels of the resized image
    ratios: tuple[float, ...]  # height / width
    mean_iou: float
    above_half: float  # share of the boxes with an IoU of at least 0.5
    above_fg: float  # share with an IoU of at least 0.7, the default of rpn.fg_iou

    def options(self) -> str:
        """These anchors as options of `tsdlab train`."""
        sizes, ratios = (" ".join(f"{value:g}" for value in values) for values in (self.sizes, self.ratios))
        return f"--rpn.anchor-sizes {sizes} --rpn.aspect-ratios {ratios}"

    def covered(self) -> str:
        """How well they cover the boxes."""
        return f"{self.above_half:.0%} of the boxes have an anchor with IoU ≥ 0.5, {self.above_fg:.0%} with IoU ≥ 0.7"


@dataclass(frozen=True)
class AnchorFit:
    """How the anchors of a config fit the boxes of a split; `str()` is what `tsdlab data check` prints."""

    min_size: int  # to which images are resized: `image.min_size` and `image.max_size`
    max_size: int
    sides: dict[str, float]  # quantiles of √(width × height) of the resized boxes, pixels
    ratios: dict[str, float]  # quantiles of height / width
    own: Anchors  # those of the config
    suggested: Anchors | None  # better ones; None if those of the config are as good
    boxes: np.ndarray = field(compare=False, repr=False)  # [N, 2] widths and heights that were looked at, pixels

    def improve(self, config: Config) -> Config:
        """`config` with the anchors that are suggested, if there are any."""
        best = self.suggested or self.own
        return replace(config, rpn=replace(config.rpn, anchor_sizes=best.sizes, aspect_ratios=best.ratios))

    def __str__(self) -> str:
        lines = [
            f"  boxes after resizing to image.min_size {self.min_size} and image.max_size {self.max_size}:",
            f"  {'':<16}{''.join(f'{name:>9}' for name in self.sides)}",
            f"  {'side, pixels':<16}{''.join(f'{value:>9.0f}' for value in self.sides.values())}",
            f"  {'height / width':<16}{''.join(f'{value:>9.2f}' for value in self.ratios.values())}",
            f"  anchors {self.own.options()}",
            f"    {self.own.covered()}",
        ]
        if self.suggested is None:
            return "\n".join([*lines, "  no other anchors were found that cover them much better"])
        resized = f"--image.min-size {self.min_size} --image.max-size {self.max_size}"
        lines += [f"  better {resized} {self.suggested.options()}", f"    {self.suggested.covered()}"]
        return "\n".join(lines)


def fit_anchors(boxes: np.ndarray, image_sizes: np.ndarray, config: Config) -> AnchorFit | None:
    """Compare boxes with the anchors of `config`, and look for better ones.

    Args:
        boxes: [N, 4], [x, y, width, height] in pixels of their images.
        image_sizes: [N, 2], width and height of the image of each box.
        config: its backbone says which levels there are; not a detector of torchvision.

    Returns:
        None without boxes that have an area.
    """
    usable = (boxes[:, 2:] >= 1).all(1) & (image_sizes > 0).all(1)
    boxes, image_sizes = boxes[usable].astype(float), image_sizes[usable].astype(float)
    if not len(boxes):
        return None
    image = config.image
    scale = np.minimum(image.min_size / image_sizes.min(1), image.max_size / image_sizes.max(1))
    boxes = boxes * scale[:, None]
    image_sizes = image_sizes * scale[:, None]
    sides, ratios = np.sqrt(boxes[:, 2] * boxes[:, 3]), boxes[:, 3] / boxes[:, 2]
    few = np.linspace(0, len(boxes) - 1, min(len(boxes), _MOST_BOXES)).round().astype(int)
    strides = [2 ** (stage + 1) for stage in config.backbone.stages]
    strides.append(2 * strides[-1])  # the pooled level

    def measured(sizes: Sequence[float], aspect: Sequence[float]) -> Anchors:
        best = best_iou(boxes[few], image_sizes[few], sizes, aspect, strides)
        return Anchors(
            tuple(map(float, sizes)),
            tuple(map(float, aspect)),
            float(best.mean()),
            float((best >= 0.5).mean()),
            float((best >= 0.7).mean()),
        )

    own = measured(config.rpn.anchor_sizes, config.rpn.aspect_ratios)
    aspect = sorted({_rounded_ratio(float(value)) for value in np.quantile(ratios, (0.1, 0.5, 0.9))})
    best = own
    for shapes in (own.ratios, aspect):  # other ratios only if they gain much once more
        candidates = [measured(sizes, shapes) for sizes in _sizes(sides, strides)]
        best = max([best, *candidates], key=lambda anchors: _worth(anchors, best))
    return AnchorFit(
        image.min_size,
        image.max_size,
        _quantiles(sides),
        _quantiles(ratios),
        own,
        None if best is own else best,
        boxes[few, 2:],
    )


def best_iou(
    boxes: np.ndarray,
    image_sizes: np.ndarray,
    sizes: Sequence[float],
    ratios: Sequence[float],
    strides: Sequence[int],
) -> np.ndarray:
    """The IoU of each box with the best anchor, [N].

    The best place of an anchor of equal centre lines is the nearest point of its level's grid, which begins at the
    image's corner (0, 0), as in torchvision.
    """
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    best = np.zeros(len(boxes))
    for (size, stride), ratio in product(zip(sizes, strides), ratios):
        last = np.ceil(image_sizes / stride) - 1
        away = centres - stride * np.clip(np.round(centres / stride), 0, last)
        half = size * np.array([ratio**-0.5, ratio**0.5]) / 2
        low, high = np.maximum(-half, away - boxes[:, 2:] / 2), np.minimum(half, away + boxes[:, 2:] / 2)
        shared = (high - low).clip(0).prod(1)
        best = np.maximum(best, shared / (4 * half.prod() + boxes[:, 2:].prod(1) - shared))
    return best


def _worth(anchors: Anchors, before: Anchors) -> float:
    """What to choose by: mean IoU, if it is much more than before and no more boxes are left uncovered."""
    if anchors is before:
        return before.mean_iou + _BETTER
    return anchors.mean_iou if anchors.above_half >= before.above_half - _SAME else 0.0


def _sizes(sides: np.ndarray, strides: Sequence[int]) -> list[list[float]]:
    """Sizes to try: steps of equal factors between two quantiles of the boxes, none far below its level's stride."""
    found = []
    for low, high, strides_long in product((0.0, 0.02, 0.05, 0.1), (0.9, 0.95, 0.98, 1.0), (0.0, 1.0, 2.0)):
        even = np.geomspace(float(np.quantile(sides, low)), float(np.quantile(sides, high)), len(strides))
        at_least = np.maximum(strides_long * np.array(strides), _LEAST_SIZE)
        found.append([_rounded_size(float(size)) for size in np.maximum(even, at_least)])
    return found


def _rounded_size(pixels: float) -> float:
    """To a multiple of 4, or of 8 from 128 on."""
    step = 4 if pixels < 128 else 8
    return float(max(_LEAST_SIZE, step * round(pixels / step)))


def _rounded_ratio(ratio: float) -> float:
    """To two digits, and no longer than 10 : 1."""
    return float(f"{min(max(ratio, 0.1), 10.0):.2g}")


def _quantiles(values: np.ndarray) -> dict[str, Any]:
    return dict(zip(_QUANTILES, np.quantile(values, list(_QUANTILES.values())).tolist()))
