"""The colours and axes that all pictures share.

The palette is Okabe and Ito's, which people with any kind of colour vision can tell apart.
"""

from __future__ import annotations

from matplotlib.axes import Axes

PALETTE = {
    "proposal": "#E69F00",  # P
    "classification": "#0072B2",  # P̂_c
    "localization": "#D55E00",  # P̂_r
    "truth": "#009E73",
    "sibling": "#7F7F7F",
    "d_head": "#CC79A7",
    "double": "#009E73",
    "iou": "#E69F00",
    "tsd": "#0072B2",
    "tsd, no constraint": "#56B4E9",
}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#F0E442")


def color_of(name: str, position: int) -> str:
    """The colour of a system, by its name or the first word of it; an unknown system takes one by its position."""
    return PALETTE.get(name) or PALETTE.get(name.split(" ")[0]) or CYCLE[position % len(CYCLE)]


def plain_axes(ax: Axes, legend: bool = True) -> Axes:
    """Remove the frame above and to the right; with `legend`, add a legend without a frame if there are labels."""
    ax.spines[["top", "right"]].set_visible(False)
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)
    return ax
