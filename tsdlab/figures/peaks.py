"""The places where each task is answered best: marked in the same way in every picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from tsdlab.figures.style import PALETTE
from tsdlab.structures import TASKS

_HALO = [Stroke(linewidth=4.5, foreground="white"), Normal()]
# The peaks have different shapes, for readers who cannot tell the colours; if both are in one place, the dot is inside
# the diamond and both are seen.
MARKS: dict[str, dict[str, Any]] = {
    "classification": {
        "marker": "o", "markersize": 6, "color": PALETTE["classification"], "markeredgecolor": "white", "zorder": 6,
    },
    "localization": {
        "marker": "D", "markersize": 10, "color": PALETTE["localization"], "markerfacecolor": "none",
        "markeredgewidth": 2, "path_effects": _HALO, "zorder": 5,
    },
}  # fmt: skip


def mark_peaks(places: Mapping[str, Tensor], ax: Axes, labels: bool = False) -> None:
    """Mark the peaks [2] (x, y) of tasks, and join those of both: classification's is a dot, the other's a diamond."""
    if len(places) == len(TASKS):
        way = zip(*(place.tolist() for place in places.values()))
        ax.plot(*way, color=PALETTE["proposal"], linewidth=1.5, path_effects=_HALO, zorder=4)
    for task, place in places.items():
        label = f"{task} peak" if labels else None
        ax.plot(*place.tolist(), linestyle="", label=label, clip_on=False, **MARKS[task])


def write_below(text: str, ax: Axes) -> None:
    """A line in the lower left corner of a map."""
    ax.text(0.03, 0.03, text, transform=ax.transAxes, ha="left", va="bottom", color=PALETTE["proposal"], fontsize=8,
            path_effects=[Stroke(linewidth=2.5, foreground="white"), Normal()], zorder=7)  # fmt: skip
