"""The region that each of the two tasks reads: a proposal, and where its bins are moved to."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from tsdlab.errors import InputError
from tsdlab.figures.overlays import draw_box, show_image
from tsdlab.figures.style import PALETTE
from tsdlab.structures import Answer

REGION_NAMES = {"classification": "P̂c", "localization": "P̂r"}  # where the class and where the box is read
_PALE = 0.775  # how much of the image is left, so that colours stand out
_HALO: dict[str, Any] = {"path_effects": [Stroke(linewidth=4, foreground="white"), Normal()]}


def task_region(answer: Answer, index: int, task: str, image: Tensor, truth: Tensor, ax: Axes | None = None) -> Axes:
    """A proposal P with the region that one task is read from instead.

    Bins that are moved one by one are dots, and the ring is their mean; a region that is moved as a whole is a dashed
    box. An arrow leads from P's centre to the centre of the region.

    Args:
        answer: what a model says about proposals.
        index: of the proposal.
        task: "classification" or "localization".
        image: [3, H, W] in 0…1.
        truth: the object's box [4].
        ax: where to draw.

    Raises:
        InputError: this task is read from the proposal itself.
    """
    if task not in answer.regions:
        raise InputError(f"there is no region of {task}: it is pooled from the proposal itself")
    box, color = answer.proposals[index].cpu(), PALETTE[task]
    ax = show_proposal(box, image, truth, ax)
    region = answer.regions[task]
    points = region.points[index].cpu().flatten(0, 1)
    if region.deformed:
        ax.plot(*points.numpy().T, "o", color=color, markersize=5, markeredgecolor="white", markeredgewidth=0.7)
    else:
        draw_box(region.boxes[index].cpu(), color, ax, linestyle="--", **_HALO)
    start, end = (box[:2] + box[2:]) / 2, points.mean(dim=0)
    ax.plot(*end.numpy(), "o", markerfacecolor="white", markeredgecolor=color, markersize=7, markeredgewidth=2)
    arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 2, **_HALO}
    ax.annotate("", (float(end[0]), float(end[1])), (float(start[0]), float(start[1])), arrowprops=arrow)
    return ax


def show_proposal(proposal: Tensor, image: Tensor, truth: Tensor, ax: Axes | None = None) -> Axes:
    """A proposal P [4] over the pale image [3, H, W], with the object's box `truth` [4]."""
    ax = show_image(1 - _PALE * (1 - image), ax)
    draw_box(truth, PALETTE["truth"], ax, **_HALO)
    return draw_box(proposal, PALETTE["proposal"], ax, **_HALO)


def around(boxes: Tensor, image: Tensor, margin: float) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of a square around boxes [K, 4] with a margin (a fraction of its side), moved into the image.

    Where the image is narrower than that, the whole of its width or height.
    """
    height, width = image.shape[1:]
    low, high = boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)
    half = float((high - low).max()) * (0.5 + margin)
    (x1, x2), (y1, y2) = (
        _moved_into(float(centre) - half, float(centre) + half, side)
        for centre, side in zip((low + high) / 2, (width, height))
    )
    return x1, y1, x2, y2


def _moved_into(low: float, high: float, side: int) -> tuple[float, float]:
    if high - low >= side:
        return 0.0, float(side)
    shift = max(0.0, -low) - max(0.0, high - side)
    return low + shift, high + shift
