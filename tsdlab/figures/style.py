"""The colours and axes that all pictures share.

Blue is classification and orange is localization, in every picture; so no system, branch or level has these colours.
The colours are Okabe and Ito's, and wine and teal of Paul Tol: people with any kind of colour vision can tell them
apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # pages have these colours too, and are shown before matplotlib is imported
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap

PALETTE = {
    "proposal": "#333333",  # P belongs to no task; over an image its line has a white edge
    "classification": "#0072B2",  # class scores, ΔC, P̂c
    "localization": "#D55E00",  # boxes, IoU, ΔR, P̂r
    "truth": "#009E73",
    "sibling": "#7F7F7F",
    "d_head": "#CC79A7",
    "double": "#8C6D31",
    "iou": "#E69F00",
    "tsd": "#882255",
    "tsd, no constraint": "#56B4E9",
}
CYCLE = ("#882255", "#56B4E9", "#E69F00", "#CC79A7", "#8C6D31", "#44AA99", "#7F7F7F", "#F0E442")
# Levels of the pyramid, from fine to coarse. Found by a search: each has a contrast of 3 with a white and with a dark
# page (#212121), and is as far as possible from the others, the tasks and the truth in four kinds of colour vision.
LEVEL_COLORS = ("#8B633B", "#7C40F7", "#C4169C", "#C87D90", "#8B8AEE")


def color_of(name: str, position: int) -> str:
    """The colour of a system, by its name or the first word of it; an unknown system takes one by its position."""
    return PALETTE.get(name) or PALETTE.get(name.split(" ")[0]) or CYCLE[position % len(CYCLE)]


def clear_to(color: str) -> ListedColormap:
    """From transparent to a colour: a sensitivity map hides nothing of the image where its task gets low answers.

    The page of the explorer draws its maps in the same way, see `veil_url`.
    """
    from matplotlib.colors import ListedColormap, to_rgb

    rgba = np.tile([*to_rgb(color), 1.0], (256, 1))
    rgba[:, 3] = np.linspace(0, 0.9, 256)  # the image is seen everywhere
    return ListedColormap(rgba)


def white_to(color: str) -> ListedColormap:
    """What `clear_to` gives over white: for a map without an image, and for a colour bar, which draws them opaque."""
    from matplotlib.colors import ListedColormap

    rgba = clear_to(color)(np.linspace(0, 1, 256))
    return ListedColormap(1 - rgba[:, 3:] * (1 - rgba[:, :3]))


def plain_axes(ax: Axes, legend: bool = True) -> Axes:
    """Remove the frame above and to the right; with `legend`, add a legend without a frame if there are labels."""
    ax.spines[["top", "right"]].set_visible(False)
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)
    return ax
