"""Images, and what is drawn over them: boxes, detections, and the regions that a head makes of a proposal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from torch import Tensor

from tsdlab.errors import InputError
from tsdlab.figures.names import drawn, families
from tsdlab.figures.style import CYCLE, PALETTE
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import Answer, RegionTrace, map_tensors

_NAMES = {"classification": ("P̂c", "the class"), "localization": ("P̂r", "the box")}
_PHOTOGRAPH = 1000  # pixels; a longer image is smoothed where it is reduced, and the pixels of others stay squares


def show_image(image: Tensor, ax: Axes | None = None, pixel: float = 1.0) -> Axes:
    """An image [3, H, W] in 0…1, without ticks.

    `pixel` is the size of one of its pixels in data units: with 1/8, boxes of the image that a detector saw fit on a
    rendering that is eight times as large.
    """
    ax = ax or plt.gca()
    height, width = (side * pixel for side in image.shape[1:])
    ax.imshow(
        image.permute(1, 2, 0).clamp(0, 1).cpu().numpy(),
        extent=(0, width, height, 0),
        interpolation="nearest" if max(image.shape[1:]) < _PHOTOGRAPH else "auto",
    )
    ax.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def draw_box(box: Tensor, color: str, ax: Axes, label: str | None = None, **style) -> Axes:
    """One box [4] (xyxy, pixels), with a light edge around its line; other keywords go to matplotlib's Rectangle."""
    x1, y1, x2, y2 = box.tolist()
    outline: dict[str, Any] = {"fill": False, "linewidth": 2.0} | style
    edge = Stroke(linewidth=outline["linewidth"] + 1.6, foreground="white", alpha=0.7)
    outline.setdefault("path_effects", [edge, Normal()])
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, edgecolor=color, label=label, **outline))
    return ax


def detections(
    image: Tensor,
    found: Mapping[str, Tensor],
    names: Sequence[str],
    ax: Axes | None = None,
    score_thresh: float = 0.5,
) -> Axes:
    """Detections over the image, each with its class and score.

    Args:
        image: [3, H, W] in 0…1.
        found: "boxes" [K, 4] in pixels, "labels" [K] in 1…C, "scores" [K] in 0…1.
        names: of the classes; `names[0]` is that of label 1.
        ax: where to draw.
        score_thresh: detections with a lower score are not drawn.
    """
    order = found["scores"].argsort(descending=True)
    order = order[found["scores"][order] >= score_thresh]
    boxes, labels, scores = (found[key][order] for key in ("boxes", "labels", "scores"))
    return _labelled(image, boxes, labels.tolist(), [f" {score:.2f}" for score in scores.tolist()], names, ax)


def objects(image: Tensor, target: Mapping[str, Tensor], names: Sequence[str], ax: Axes | None = None) -> Axes:
    """The objects of an image, each with its class.

    Args:
        image: [3, H, W] in 0…1.
        target: "boxes" [N, 4] in pixels, "labels" [N] in 1…C; as `CocoDataset` has them.
        names: of the classes; `names[0]` is that of label 1.
        ax: where to draw.
    """
    return _labelled(image, target["boxes"], target["labels"].tolist(), [""] * len(target["boxes"]), names, ax)


def _labelled(
    image: Tensor,
    boxes: Tensor,
    labels: Sequence[int],
    notes: Sequence[str],
    names: Sequence[str],
    ax: Axes | None,
) -> Axes:
    """Boxes over the image, the first on top, each with its class and a note behind it."""
    ax = show_image(image, ax)
    ax.apply_aspect()  # now, because the size of labels in pixels of the image depends on it
    taken: list[Bbox] = []
    texts = drawn(names)
    for place, (box, label, note) in enumerate(zip(boxes, labels, notes)):
        color = CYCLE[(label - 1) % len(CYCLE)]
        draw_box(box, color, ax, zorder=2 - place / 1000)
        name = texts[label - 1]
        text = ax.text(
            0, 0, f" {name}{note} ", fontsize=8, color="white", clip_on=True, zorder=3,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.0}, fontfamily=families(name),
        )  # fmt: skip
        taken.append(place_label(text, box, taken, ax))
    return ax


def place_label(text: Text, box: Tensor, taken: Sequence[Bbox], ax: Axes) -> Bbox:
    """Move a label to a corner of its box [4] where it is on the image and covers no other label, if there is one.

    Returns:
        What it covers, in pixels of the image.
    """
    x1, y1, x2, y2 = box.tolist()
    width, height = max(ax.get_xlim()), max(ax.get_ylim())
    corners = [(x, y, side, end)
               for x, side in ((x1, "left"), (x2, "right"))
               for y, end in ((y1, "bottom"), (y1, "top"), (y2, "top"), (y2, "bottom"))]  # fmt: skip
    covered = []
    for x, y, side, end in corners:
        text.set(position=(x, y), ha=side, va=end)
        extent = text.get_window_extent().transformed(ax.transData.inverted())
        covered.append(Bbox.from_extents(extent.xmin, extent.ymin, extent.xmax, extent.ymax))
        left, top, right, bottom = covered[-1].extents
        on_image = left >= -1 and top >= 0 and right <= width + 1 and bottom <= height
        if on_image and not any(covered[-1].overlaps(other) for other in taken):
            return covered[-1]
    x, y, side, end = corners[0]
    text.set(position=(x, y), ha=side, va=end)
    return covered[0]


def proposal(
    image: Tensor,
    trace: Answer,
    index: int,
    ax: Axes | None = None,
    truth: Tensor | None = None,
    margin: float = 0.35,
    pixel: float = 1.0,
) -> Axes:
    """Proposal `index` and, for each task that is pooled from another region, this region.

    Bins that are moved one by one have an arrow each, from their place in P. A region that is moved or resized as a
    whole is a dashed box.

    Args:
        image: [3, H, W] in 0…1.
        trace: what a model answers, of any head.
        index: of the proposal.
        ax: where to draw.
        truth: ground-truth box [4] to draw as well.
        margin: how much around the proposal is shown, as a fraction of its size.
        pixel: as in `show_image`.
    """
    ax = show_image(image, ax, pixel)
    if truth is not None:
        draw_box(truth, PALETTE["truth"], ax, "ground truth", linestyle=(0, (1, 1)))
    box = trace.proposals[index]
    draw_box(box, PALETTE["proposal"], ax, "P: proposal")
    for task in reversed(trace.regions):  # the bins of P̂c over the outline of P̂r
        region: RegionTrace = map_tensors(lambda of_all: of_all[index].cpu(), trace.regions[task])
        _draw_region(box.cpu(), region, task, ax)
    x1, y1, x2, y2 = box.tolist()
    pad = margin * max(x2 - x1, y2 - y1)
    ax.set(xlim=(x1 - pad, x2 + pad), ylim=(y2 + pad, y1 - pad))
    return ax


def displacement(
    image: Tensor,
    trace: Answer,
    index: int,
    ax: Axes | None = None,
    truth: Tensor | None = None,
    margin: float = 0.35,
    pixel: float = 1.0,
) -> Axes:
    """As `proposal`, but a head that does not move its regions is refused.

    Raises:
        InputError: both tasks of the traced model are pooled from the proposal itself.
    """
    if not trace.regions:
        raise InputError("this trace has no displacements; trace a model whose head moves its regions, such as tsd")
    return proposal(image, trace, index, ax, truth, margin, pixel)


def _draw_region(box: Tensor, region: RegionTrace, task: str, ax: Axes) -> None:
    """The region of a task for a proposal `box` [4]; the tensors of `region` are those of this proposal alone."""
    color, symbol, aim = PALETTE[task], *_NAMES[task]
    if not region.deformed:
        draw_box(region.boxes, color, ax, f"{symbol}: region for {aim}", linestyle="--")
        return
    moved = region.points.flatten(0, 1).numpy()  # [bins², 2]
    grid = bin_centres(box[None], bins=len(region.points))[0].flatten(0, 1).numpy()
    ax.plot(*grid.T, ".", color=PALETTE["proposal"], markersize=3, alpha=0.9)
    ax.quiver(*grid.T, *(moved - grid).T, angles="xy", scale_units="xy", scale=1, width=0.004, color=color, alpha=0.8)
    ax.plot(
        *moved.T, "o", color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.5,
        label=f"{symbol}: bins for {aim}",
    )  # fmt: skip
