"""Images, and what is drawn over them: boxes, detections, and the regions that TSD makes of a proposal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from tsdlab.errors import InputError
from tsdlab.figures.style import CYCLE, PALETTE
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import Answer


def show_image(image: Tensor, ax: Axes | None = None, pixel: float = 1.0) -> Axes:
    """An image [3, H, W] in 0…1 without ticks; `pixel` is its pixels' side in data units.

    With a `pixel` of 1/8 a rendering at eight times the size takes boxes of the image the detector saw.
    """
    ax = ax or plt.gca()
    height, width = (side * pixel for side in image.shape[1:])
    ax.imshow(
        image.permute(1, 2, 0).clamp(0, 1).cpu().numpy(),
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def draw_box(box: Tensor, color: str, ax: Axes, label: str | None = None, **style) -> Axes:
    """One box (xyxy, pixels); further keywords go to matplotlib's Rectangle."""
    x1, y1, x2, y2 = box.tolist()
    outline = {"fill": False, "linewidth": 2.0} | style
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, edgecolor=color, label=label, **outline))
    return ax


def detections(
    image: Tensor,
    found: Mapping[str, Tensor],
    names: Sequence[str],
    ax: Axes | None = None,
    score_thresh: float = 0.5,
) -> Axes:
    """Detections (boxes, labels, scores) over the image; `names[i]` names label i + 1."""
    ax = show_image(image, ax)
    order = found["scores"].argsort()  # the best is drawn last, over the others
    order = order[found["scores"][order] >= score_thresh]
    for box, label, score in zip(*(found[key][order] for key in ("boxes", "labels", "scores"))):
        label, score = int(label), float(score)
        color = CYCLE[(label - 1) % len(CYCLE)]
        draw_box(box, color, ax)
        x, y = box[:2].tolist()
        above = y > 0.08 * image.shape[1]  # else there is no room: inside the box
        ax.text(
            x, y, f" {names[label - 1]} {score:.2f} ", fontsize=8, va="bottom" if above else "top", color="white",
            clip_on=True,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
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
    """Proposal `index` with what TSD makes of it: arrows from each bin of P to its place in P̂_c, and the box P̂_r.

    Args:
        truth: ground-truth box [4] to draw as well.
        margin: how much around the proposal is shown, as a fraction of its size.
        pixel: as in `show_image`.

    Raises:
        ValueError: the traced model does not displace its regions.
    """
    if trace.classification_points is None or trace.localization_proposals is None:
        raise InputError("this trace has no displacements; trace a model with the tsd head")
    ax = show_image(image, ax, pixel)
    proposal = trace.proposals[index]
    if truth is not None:
        draw_box(truth, PALETTE["truth"], ax, "ground truth", linestyle=(0, (1, 1)))
    draw_box(proposal, PALETTE["proposal"], ax, "P  proposal")
    draw_box(
        trace.localization_proposals[index],
        PALETTE["localization"],
        ax,
        "P̂_r  to localize from",
        linestyle="--",
    )
    moved = trace.classification_points[index].flatten(0, 1).cpu().numpy()  # [bins², 2]
    grid = bin_centres(proposal[None], bins=trace.classification_points.shape[1])[0].flatten(0, 1).cpu().numpy()
    ax.plot(*grid.T, ".", color=PALETTE["proposal"], markersize=3, alpha=0.9)
    ax.quiver(
        *grid.T, *(moved - grid).T, angles="xy", scale_units="xy", scale=1, width=0.004,
        color=PALETTE["classification"], alpha=0.8,
    )  # fmt: skip
    ax.plot(
        *moved.T, "o", color=PALETTE["classification"], markersize=4, markeredgecolor="white", markeredgewidth=0.5,
        label="P̂_c  to classify from",
    )  # fmt: skip
    x1, y1, x2, y2 = proposal.tolist()
    pad = margin * max(x2 - x1, y2 - y1)
    ax.set(xlim=(x1 - pad, x2 + pad), ylim=(y2 + pad, y1 - pad))
    return ax
