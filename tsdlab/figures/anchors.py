"""The boxes of a data set beside the anchors that shall find them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

from tsdlab.data.anchors import AnchorFit, Anchors
from tsdlab.figures.style import PALETTE, plain_axes

_BOXES = "#7A7A7A"


def anchors(fit: AnchorFit, ax: Axes | None = None) -> Axes:
    """Width and height of every box after resizing, and those of the anchors: the config's, and better ones if any.

    Args:
        fit: what `tsdlab.data.check.anchor_fit` returns.
        ax: where to draw.
    """
    ax = ax or plt.gca()
    ax.scatter(
        fit.boxes[:, 0],
        fit.boxes[:, 1],
        s=22,
        color=_BOXES,
        alpha=0.6,
        linewidths=0,
        label=f"boxes: {len(fit.boxes):,}",
    )
    _mark(fit.own, "x", "black", f"anchors: {fit.own.above_fg:.0%} of boxes have IoU ≥ 0.7", ax)
    if fit.suggested is not None:
        better = f"better anchors: {fit.suggested.above_fg:.0%} of boxes have IoU ≥ 0.7"
        _mark(fit.suggested, "P", PALETTE["truth"], better, ax)
    ax.set(xscale="log", yscale="log", aspect="equal", xlabel="width (pixels after resizing)", ylabel="height (pixels)")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(plt.FixedLocator([2.0**power for power in range(2, 12)]))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    plain_axes(ax, legend=False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9)  # points are everywhere
    return ax


def _mark(those: Anchors, marker: str, color: str, label: str, ax: Axes) -> None:
    sizes, ratios = (
        np.array(those.sizes),
        np.array(those.ratios),
    )  # an anchor has the area size²; ratio is height / width
    widths, heights = np.outer(sizes, ratios**-0.5).ravel(), np.outer(sizes, ratios**0.5).ravel()
    ax.scatter(widths, heights, s=45, marker=marker, color=color, linewidths=1.5 if marker == "x" else 0, label=label)
