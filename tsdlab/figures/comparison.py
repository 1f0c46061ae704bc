"""Systems side by side as pictures, from the rows that `experiments/compare_heads.py` writes.

A row is one system in one world: "system", "misalignment", "seeds", and for each number {"mean", "sd"} over its seeds,
in percent; "per_iou" and "displacement" hold such numbers by name. Of a single seed no deviation is drawn: it is not 0,
it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from tsdlab.figures.plots import color_of, plain_axes

Row = Mapping[str, Any]


def ap_by_iou(rows: Sequence[Row], ax: Axes | None = None, against: str | None = None) -> Axes:
    """AP at every IoU threshold, a line per system with a band of one standard deviation.

    Args:
        rows: one per system.
        ax: where to draw.
        against: a system whose mean is subtracted: what is gained over it, in percentage points.
    """
    ax = ax or plt.gca()
    base = 0.0 if against is None else {row["system"]: _means(row["per_iou"]) for row in rows}[against]
    for i, row in enumerate(rows):
        color = color_of(row["system"], i)
        thresholds = [float(t) for t in row["per_iou"]]
        mean, sd = _means(row["per_iou"]) - base, _sds(row["per_iou"])
        ax.plot(thresholds, mean, marker=".", color=color, label=row["system"])
        ax.fill_between(thresholds, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)
    ax.set(xlabel="IoU threshold", ylabel="AP" if against is None else f"AP gained over {against}")
    plain_axes(ax, legend=False)
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3, frameon=False, fontsize=9)  # lines are everywhere
    return ax


def dose_response(rows: Sequence[Row], number: str = "AP", ax: Axes | None = None, scale: float = 1.0) -> Axes:
    """A number against the world's misalignment: a line per system, error bars of one standard deviation.

    Args:
        rows: one per system and world; a row without the number is left out.
        number: name of a number, or "displacement.<name>".
        ax: where to draw.
        scale: factor on the values: 100 turns a share into percent.
    """
    ax = ax or plt.gca()
    group, _, name = number.rpartition(".")
    for i, system in enumerate(dict.fromkeys(r["system"] for r in rows)):
        found = [(r, (r[group] or {}).get(name) if group else r[name]) for r in rows if r["system"] == system]
        known = sorted(
            (row["misalignment"], value["mean"] * scale, _sd(row, value) * scale)
            for row, value in found
            if value is not None
        )
        if known:
            doses, means, sds = zip(*known)
            ax.errorbar(doses, means, sds, marker="o", markersize=4, capsize=3, color=color_of(system, i),
                        label=system)  # fmt: skip
    ax.set(xlabel="misalignment of badge and box", ylabel=name.replace("_", " "))
    return plain_axes(ax)


def cost_against_ap(rows: Sequence[Row], costs: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """AP of each system that has a cost against it (time relative to a peer), with its name beside it."""
    ax = ax or plt.gca()
    ax.margins(x=0.2, y=0.15)
    points = {}
    for i, row in enumerate(rows):
        if row["system"] in costs:
            x, y = points[row["system"]] = costs[row["system"]], row["AP"]["mean"]
            ax.errorbar(x, y, _sd(row, row["AP"]), marker="o", color=color_of(row["system"], i), capsize=3)
    ax.autoscale_view()  # else limits, and with them what is near, are known only when the figure is drawn
    places = dict(zip(points, ax.transLimits.transform(list(points.values())))) if points else {}
    for system, point in points.items():
        # Two names above points this near would lie on each other.
        gaps = [other - places[system] for name, other in places.items() if name != system]
        below = any(abs(dx) < 0.2 and 0 <= dy < 0.08 for dx, dy in gaps)
        ax.annotate(system, point, (7, -3 if below else 3), textcoords="offset points", fontsize=9,
                    va="top" if below else "bottom")  # fmt: skip
    ax.set(ylabel="AP")
    return plain_axes(ax, legend=False)


def _sd(row: Row, value: Mapping[str, float]) -> float:
    """NaN, which is not drawn, of a single seed."""
    return value["sd"] if len(row["seeds"]) > 1 else float("nan")


def _means(numbers: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    return np.array([value["mean"] for value in numbers.values()])


def _sds(numbers: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    return np.array([value["sd"] for value in numbers.values()])
