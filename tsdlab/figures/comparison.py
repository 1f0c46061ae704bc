"""Heads, training runs and operators side by side: curves and bars.

The functions that take rows read what `experiments/compare_heads.py` writes. A row is one system (a head with its
settings) in one world: "system", "misalignment", "seeds", and for each number its {"mean", "sd"} over the seeds, in
percent; "per_iou" and "displacement" hold such numbers by name. For a single seed no deviation is drawn, because it is
unknown, not 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from tsdlab.analysis.columns import COLUMNS
from tsdlab.figures.names import drawn, find_fonts
from tsdlab.figures.style import PALETTE, color_of, plain_axes

Row = Mapping[str, Any]


def ap_by_iou(rows: Sequence[Row], ax: Axes | None = None, against: str | None = None) -> Axes:
    """AP at every IoU threshold: a line per system, with a band of one standard deviation.

    Args:
        rows: one per system.
        ax: where to draw.
        against: subtract the mean of this system, so that the lines show what is gained over it, in percentage points.
    """
    ax = ax or plt.gca()
    texts = drawn(row["system"] for row in rows)
    base = 0.0 if against is None else {row["system"]: _means(row["per_iou"]) for row in rows}[against]
    for i, row in enumerate(rows):
        color = color_of(row["system"], i)
        thresholds = [float(t) for t in row["per_iou"]]
        mean, sd = _means(row["per_iou"]) - base, _sds(row["per_iou"])
        ax.plot(thresholds, mean, marker=".", color=color, label=texts[i])
        ax.fill_between(thresholds, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)
    ax.set(xlabel="IoU threshold", ylabel="AP" if against is None else f"AP gained over {drawn([against])[0]}")
    plain_axes(ax, legend=False)
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3, frameon=False, fontsize=9)  # lines are everywhere
    find_fonts(ax)
    return ax


def dose_response(rows: Sequence[Row], number: str = "AP", ax: Axes | None = None, scale: float = 1.0) -> Axes:
    """A number against the misalignment of the world: a line per system, with error bars of one standard deviation.

    Args:
        rows: one per system and world; rows without the number are left out.
        number: name of a number, or "displacement.<name of a column>".
        ax: where to draw.
        scale: multiplies the values: 100 turns a share into percent.
    """
    ax = ax or plt.gca()
    group, _, name = number.rpartition(".")
    systems = list(dict.fromkeys(r["system"] for r in rows))
    for i, (system, text) in enumerate(zip(systems, drawn(systems))):
        found = [(r, (r[group] or {}).get(name) if group else r[name]) for r in rows if r["system"] == system]
        known = sorted(
            (row["misalignment"], value["mean"] * scale, _sd(row, value) * scale)
            for row, value in found
            if value is not None
        )
        if known:
            doses, means, sds = zip(*known)
            ax.errorbar(doses, means, sds, marker="o", markersize=4, capsize=3, color=color_of(system, i),
                        label=text)  # fmt: skip
    label = COLUMNS[name].title if name in COLUMNS else name.replace("_", " ")
    ax.set(xlabel="misalignment of badge and box", ylabel=f"{label} (percent)" if group and scale == 100 else label)
    plain_axes(ax)
    find_fonts(ax)
    return ax


def cost_against_ap(rows: Sequence[Row], costs: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """AP against cost: a named point for each system that has a cost, which is its time relative to a peer's."""
    ax = ax or plt.gca()
    ax.margins(x=0.2, y=0.15)
    points = {}
    for i, row in enumerate(rows):
        if row["system"] in costs:
            x, y = points[row["system"]] = costs[row["system"]], row["AP"]["mean"]
            ax.errorbar(x, y, _sd(row, row["AP"]), marker="o", color=color_of(row["system"], i), capsize=3)
    ax.autoscale_view()  # sets the limits now; which points are near each other depends on them
    places = dict(zip(points, ax.transLimits.transform(list(points.values())))) if points else {}
    for system, point in points.items():
        # The names of two points that are this near would overlap if both were above their points.
        gaps = [other - places[system] for name, other in places.items() if name != system]
        below = any(abs(dx) < 0.2 and 0 <= dy < 0.08 for dx, dy in gaps)
        text = drawn([system])[0]
        ax.annotate(text, point, (7, -3 if below else 3), textcoords="offset points", fontsize=9,
                    va="top" if below else "bottom")  # fmt: skip
    ax.set(xlabel="relative time", ylabel="AP")
    find_fonts(ax)
    return plain_axes(ax, legend=False)


def training_curve(
    logs: Mapping[str, Sequence[Mapping[str, float]]],
    key: str = "total",
    smooth: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """One curve per run: `key` against "step", as a running mean over `smooth` rows."""
    ax = ax or plt.gca()
    texts = drawn(logs)
    for i, (run, rows) in enumerate(logs.items()):
        steps = np.array([row["step"] for row in rows], dtype=float)
        values = np.array([row[key] for row in rows], dtype=float)
        window = min(smooth, len(values))
        if window:
            mean = np.convolve(values, np.ones(window) / window, mode="valid")
            ax.plot(steps[window - 1 :], mean, color=color_of(run, i), label=texts[i])
    ax.set(xlabel="step", ylabel=drawn([key])[0])
    plain_axes(ax)
    find_fonts(ax)
    return ax


def average_precision(
    results: Mapping[str, Mapping[str, float]],
    keys: Sequence[str] = ("AP", "AP50", "AP75"),
    ax: Axes | None = None,
    errors: Mapping[str, Mapping[str, float]] | None = None,
) -> Axes:
    """AP of several models as grouped bars, with their values, or with whiskers if `errors` are given.

    Args:
        results: model → metric → percent.
        keys: the metrics to show, by name as in `tsdlab.evaluation.Metrics`.
        ax: where to draw.
        errors: model → metric → half the length of its whisker.
    """
    ax = ax or plt.gca()
    columns = np.arange(len(keys))
    width = 0.8 / len(results)
    texts = drawn(results)
    for i, (model, values) in enumerate(results.items()):
        at = columns + (i - (len(results) - 1) / 2) * width
        heights = [values[key] for key in keys]
        bars = ax.bar(at, heights, width * 0.94, label=texts[i], color=color_of(model, i))
        if errors is None:
            ax.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
        else:
            spread = [errors[model][key] for key in keys]
            ax.errorbar(at, heights, spread, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
    ax.set_xticks(columns, [key.replace("_", " ") for key in keys])
    ax.set_ylabel("percent")
    ax.set_ylim(0)  # up to the highest whisker or label
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 100])
    plain_axes(ax, legend=False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(results), frameon=False, fontsize=9)
    find_fonts(ax)
    return ax


def speedup(
    settings: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]],
    passes: str,
    ax: Axes | None = None,
    peer: str = "torchvision",
) -> Axes:
    """How many times as fast as a peer each contestant is: bars that start at the peer's 1×, on a log axis.

    Args:
        settings: setting → passes → contestant → numbers, as `benchmarks/roi_ops.py` writes them.
        passes: "forward" or "forward + backward".
    """
    ax = ax or plt.gca()
    results = {setting: {c: v for c, v in by[passes].items() if c != peer} for setting, by in settings.items()}
    contestants = list(dict.fromkeys(c for rows in results.values() for c in rows))
    ours = cycle(PALETTE[key] for key in ("tsd", "iou", "d_head", "double"))
    for contestant in contestants:
        color = next(ours) if contestant.startswith("tsdlab") else PALETTE["sibling"]
        places = [g + 0.2 * (list(rows).index(contestant) - (len(rows) - 1) / 2)
                  for g, rows in enumerate(results.values()) if contestant in rows]  # fmt: skip
        times = np.array([rows[contestant][f"times_{peer}"] for rows in results.values() if contestant in rows])
        ax.barh(places, times - 1, 0.18, left=1, color=color, label=contestant)
        for place, value in zip(places, times):
            gap, side = (4, "left") if value >= 1 else (-4, "right")
            ax.annotate(f"{value:.1f}", (value, place), (gap, 0), textcoords="offset points", ha=side, va="center",
                        fontsize=7.5)  # fmt: skip
    ax.axvline(1, color="black", linewidth=1)
    low, high = ax.dataLim.intervalx
    ax.set(xscale="log", xlim=(low / 1.6, high * 1.6), xlabel=f"times as fast as {peer}", title=passes)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low / 1.6 <= t <= high * 1.6]
    ax.set_xticks(ticks, [f"{t:g}×" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_yticks(range(len(results)), list(results))
    ax.set_ylim(len(results) - 0.5, -0.5)  # the first on top, also where axes share their y
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def _sd(row: Row, value: Mapping[str, float]) -> float:
    """The standard deviation; NaN, which is not drawn, for a single seed."""
    return value["sd"] if len(row["seeds"]) > 1 else float("nan")


def _means(numbers: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    return np.array([value["mean"] for value in numbers.values()])


def _sds(numbers: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    return np.array([value["sd"] for value in numbers.values()])
