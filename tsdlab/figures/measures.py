"""Plots of a whole analysis: misalignment, agreement of scores and boxes, displacements.

Whiskers are bootstrap 95% intervals. Missing values are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MaxNLocator

from tsdlab.analysis.columns import COLUMNS, DIRECTIONS, EDGES
from tsdlab.analysis.displacement import ALL_LEVELS, Displacements
from tsdlab.analysis.measures import AGREEMENT, MEASURES
from tsdlab.analysis.misalignment import IOU_EDGES, Misalignment
from tsdlab.analysis.statistics import Estimate
from tsdlab.errors import InputError
from tsdlab.figures.overlays import draw_box
from tsdlab.figures.style import PALETTE, color_of, plain_axes
from tsdlab.ops.sampling import bin_centres

_SHOWN_AGREEMENT = ("pearson", "spearman", "spearman_within", "gap")
_LEVEL_COLORS = colormaps["plasma"].reversed()  # light for the finest level, dark for the coarsest
_LINE = 34  # characters of an axis label


def measures(misalignment: Misalignment, method: str, measure: str, ax: Axes | None = None) -> Axes:
    """A measure of the maps at every level, with a point per branch; the dotted line is its value for even maps.

    Args:
        misalignment: of an analysis.
        method: "proposals" or "gradients".
        measure: one of MEASURES.
        ax: where to draw.
    """
    ax = ax or plt.gca()
    levels = misalignment.maps.get(method, {})
    for i, branch in enumerate(branches := _branches(misalignment)):
        found = _in_unit([levels[level].get(branch, {}).get(measure) for level in levels], measure)
        places = np.arange(len(levels)) + _beside(i, len(branches))
        _points(places, found, ax, color_of(branch, i), branch)
    if (even := MEASURES[measure].even) is not None:
        _reference(even, ax)
    known = [level for level in levels if any(_known(row.get(measure)) for row in levels[level].values())]
    _level_axis(list(levels), known, ax)
    ax.set_ylabel(_in_lines(MEASURES[measure].title, measure))
    _include_zero(ax)
    return _with_legend(ax)


def moved(misalignment: Misalignment, method: str, measure: str, ax: Axes | None = None) -> Axes:
    """The difference of a measure between the detecting branch and the sibling, at every level.

    Args:
        misalignment, method, measure, ax: as in `measures`. For a model with one branch, the axes stay empty.
    """
    ax = ax or plt.gca()
    levels = misalignment.moved.get(method, {})
    if not levels:
        ax.text(0.5, 0.5, "only one branch: nothing to compare", ha="center", color="grey", transform=ax.transAxes)
        ax.set_axis_off()
        return ax
    branch = _branches(misalignment)[-1]
    found = _in_unit([row.get(measure) for row in levels.values()], measure)
    _points(np.arange(len(levels)), found, ax, color_of(branch, 0), branch)
    _reference(0, ax)
    _level_axis(list(levels), [level for level, row in levels.items() if _known(row.get(measure))], ax)
    ax.set_ylabel(_in_lines(f"{branch} − sibling: {MEASURES[measure].title}", measure))
    return plain_axes(ax, legend=False)


def survival(misalignment: Misalignment, ax: Axes | None = None) -> Axes:
    """The share of boxes that NMS keeps, by their IoU with the object they overlap most (IoU-Net's figure)."""
    ax = ax or plt.gca()
    centres = (IOU_EDGES[:-1] + IOU_EDGES[1:]) / 2
    width = IOU_EDGES[1] - IOU_EDGES[0]
    count = len(misalignment.survival)
    for i, (branch, shares) in enumerate(misalignment.survival.items()):
        if shares:
            places = centres + _beside(i, count) * width
            _points(places, shares, ax, color_of(branch, i), branch, linewidth=1.0)
    ax.set(xlabel="IoU of a box with its object, before NMS", ylabel="share of boxes that NMS keeps",
           xlim=(IOU_EDGES[0], IOU_EDGES[-1]), xticks=IOU_EDGES[::2])  # fmt: skip
    _include_zero(ax)
    return _with_legend(ax)


def agreement(misalignment: Misalignment, ax: Axes | None = None) -> Axes:
    """How well scores follow IoUs, and the IoU that is lost because they do not: a point per branch."""
    ax = ax or plt.gca()
    rows = np.arange(len(_SHOWN_AGREEMENT))
    count = len(misalignment.agreement)
    for i, (branch, values) in enumerate(misalignment.agreement.items()):
        places = rows + _beside(i, count)
        _points(places, [values.get(name) for name in _SHOWN_AGREEMENT], ax, color_of(branch, i), branch, across=True)
    ax.axvline(0, color="black", linewidth=0.8, linestyle=":")
    labels = [f"{AGREEMENT[name].title}\n{fill(AGREEMENT[name].explanation, _LINE)}" for name in _SHOWN_AGREEMENT]
    ax.set_yticks(rows, labels, fontsize=9)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="correlation, or IoU")
    ax.tick_params(axis="y", length=0)
    return _with_legend(ax)


def field(
    displacements: Displacements, level: str = ALL_LEVELS, ax: Axes | None = None, task: str = "classification"
) -> Axes:
    """The mean offset of every bin: an arrow from its place in the proposal P to its place in P̂c or P̂r.

    Args:
        displacements: of an analysis.
        level: the name of a level, or "all".
        ax: where to draw; the proposal is the square 0…1.
        task: "classification" for ΔC, "localization" for ΔR.

    Raises:
        InputError: this task is pooled from the proposal itself.
    """
    ax = ax or plt.gca()
    found = displacements.levels[level].field_of(task)
    if found is None:
        raise InputError(f"there is no displacement of {task}: it is pooled from the proposal itself")
    offsets, color = torch.tensor(found, dtype=torch.float32), PALETTE[task]
    box = torch.tensor([0.0, 0.0, 1.0, 1.0])
    grid = bin_centres(box[None], bins=offsets.shape[0])[0].flatten(0, 1)  # [bins², 2]
    draw_box(box, PALETTE["proposal"], ax)
    ax.plot(*grid.numpy().T, "o", color=PALETTE["proposal"], markersize=4, label="bins of P")
    ax.quiver(
        *torch.cat([grid, offsets.flatten(0, 1)], dim=1).numpy().T, angles="xy", scale_units="xy", scale=1,
        width=0.008, color=color, zorder=3,
    )  # fmt: skip
    ticks = [0, 0.5, 1]
    ax.set(xlim=(-0.15, 1.15), ylim=(1.15, -0.15), aspect="equal", xlabel="% of P’s width", ylabel="% of P’s height")
    percent = [f"{100 * tick:g}" for tick in ticks]
    ax.set_xticks(ticks, percent)
    ax.set_yticks(ticks, percent)
    name = "mean ΔC, to P̂c" if task == "classification" else "mean ΔR, to P̂r"
    ax.plot([], [], marker=r"$\rightarrow$", linestyle="", color=color, markersize=11, label=name)
    plain_axes(ax, legend=False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9, columnspacing=1)
    return ax


def distribution(displacements: Displacements, name: str, ax: Axes | None = None) -> Axes:
    """The histogram of a column or direction, an outline per level.

    Args:
        displacements: of an analysis.
        name: a name in EDGES, such as "classification_offset"; values beyond its edges are in the first or last bin.
        ax: where to draw.
    """
    ax = ax or plt.gca()
    column = (COLUMNS | DIRECTIONS)[name]
    edges = EDGES[name] * column.scale
    levels = [level for level in displacements.levels if level != ALL_LEVELS]
    last = 0
    for level, color in zip(levels, _LEVEL_COLORS(np.linspace(0.25, 0.95, len(levels)))):
        shares = np.array([share.value or 0.0 for share in displacements.levels[level].distributions[name]])
        if not shares.any():
            continue
        ax.stairs(
            shares, edges, color=color, linewidth=1.6, label=f"{level}  ({displacements.levels[level].proposals})"
        )
        last = max(last, int(np.flatnonzero(shares).max()) + 1)
    end = edges[min(len(edges) - 1, last + 1)] if last and name not in DIRECTIONS else edges[-1]
    ax.set(xlabel=column.label, ylabel="share of proposals", xlim=(edges[0], end))
    if last == len(edges) - 1 and name not in DIRECTIONS:
        ax.annotate("and more", (1, 0.02), xycoords="axes fraction", ha="right", va="bottom", fontsize=8, color="grey")
    ax.set_ylim(bottom=0)
    plain_axes(ax)
    if (legend := ax.get_legend()) is not None:
        legend.set_title("level  (proposals)")
    return ax


def lengths(displacements: Displacements, level: str = ALL_LEVELS, ax: Axes | None = None) -> Axes:
    """How far the regions of each task are moved at a level: a histogram per task, and a line at its mean.

    Args:
        displacements: of an analysis.
        level: the name of a level, or "all".
        ax: where to draw; lengths beyond the last bin are in that bin.
    """
    ax = ax or plt.gca()
    found = displacements.levels[level]
    for task in displacements.tasks:
        column = COLUMNS[f"{task}_offset"]
        shares = np.array([share.value or 0.0 for share in found.distributions[f"{task}_offset"]])
        color = PALETTE[task]
        ax.stairs(shares, EDGES[f"{task}_offset"] * column.scale, color=color, fill=True, alpha=0.3)
        ax.stairs(shares, EDGES[f"{task}_offset"] * column.scale, color=color, linewidth=1.4, label=column.title)
        if (mean := found.means[f"{task}_offset"].scaled(column.scale).value) is not None:
            ax.axvline(mean, color=color, linewidth=1.4, linestyle="--")
    ax.set(xlabel=f"length, {COLUMNS['classification_offset'].unit}", ylabel="share of proposals")
    ax.set_ylim(bottom=0)
    return _with_legend(ax)


def directions(displacements: Displacements, name: str, ax: PolarAxes, level: str = ALL_LEVELS) -> PolarAxes:
    """The directions of displacements, as bars on a circle: right is 0° and down is 90°, as in images.

    The dashed circle is where all directions are equally frequent.

    Args:
        displacements: of an analysis.
        name: "classification_direction" or "localization_direction".
        ax: polar axes, `projection="polar"`.
        level: the name of a level, or "all".
    """
    edges = np.deg2rad(EDGES[name])
    shares = displacements.levels[level].distributions[name]
    places = (edges[:-1] + edges[1:]) / 2
    known = [(at, e.value, e.low, e.high) for at, e in zip(places, shares) if e.value is not None]
    top = 1.0
    if known:
        at, value, low, high = np.array(known, dtype=float).T
        ax.bar(
            at,
            value,
            edges[1] - edges[0],
            color=PALETTE[DIRECTIONS[name].role],
            alpha=0.75,
            edgecolor="white",
            linewidth=0.8,
        )
        ax.vlines(at, low, high, color="black", linewidth=0.8)
        top = 1.05 * float(high.max())
    circle = np.linspace(0, 2 * np.pi, 200)
    ax.plot(circle, np.full_like(circle, 1 / (len(edges) - 1)), color="black", linewidth=0.8, linestyle="--")
    ax.set_theta_zero_location("E")
    ax.set_theta_direction(-1)  # y grows downwards in images
    ax.set_xticks(np.deg2rad([0, 90, 180, 270]), ["0°, right", "90°, down", "180°, left", "−90°, up"], fontsize=9)
    ax.set_ylim(0, top)
    ticks = [tick for tick in MaxNLocator(3).tick_values(0, top) if 0 < tick < top]
    ax.set_yticks(ticks, [""] * len(ticks))
    for tick in ticks:  # as texts, because tick labels would be hidden below the bars
        ax.text(_emptiest(places, shares), tick, f"{100 * tick:g}%", fontsize=8, ha="center", va="center", zorder=4,
                path_effects=[Stroke(linewidth=3, foreground="white"), Normal()])  # fmt: skip
    ax.grid(alpha=0.4)
    ax.spines["polar"].set_visible(False)
    return ax


def _emptiest(places: np.ndarray, shares: Sequence[Estimate]) -> float:
    """The angle between the two neighbouring bars that leave the most room."""
    highs = np.array([share.high or 0.0 for share in shares])
    lower = int((highs + np.roll(highs, -1)).argmin())
    return float(places[lower] + (places[1] - places[0]) / 2)


def _branches(misalignment: Misalignment) -> list[str]:
    """The sibling first, if there is one, then the branch that detects."""
    return list(misalignment.survival)


def _beside(position: int, count: int) -> float:
    """How far the points of one of `count` series are moved sideways, so that whiskers do not hide each other."""
    return 0.0 if count == 1 else (position - (count - 1) / 2) * 0.36 / (count - 1)


def _points(
    places: np.ndarray,
    found: Sequence[Estimate | None],
    ax: Axes,
    color: str,
    label: str,
    across: bool = False,
    linewidth: float = 0.0,
) -> None:
    """A point with a whisker for every estimate that has a value; `across` draws the whiskers horizontally."""
    known = [(place, e.value, e.low, e.high) for place, e in zip(places, found) if e and e.value is not None]
    if not known:
        return
    at, value, low, high = (np.array(column, dtype=float) for column in zip(*known))
    # A percentile interval need not contain its own value, but a whisker cannot have a negative length.
    reach = np.stack([value - low, high - value]).clip(min=0)
    x, y = (value, at) if across else (at, value)
    ax.errorbar(
        x, y, xerr=reach if across else None, yerr=None if across else reach, fmt="o", markersize=5, capsize=3,
        color=color, label=label, linestyle="-" if linewidth else "none", linewidth=linewidth, elinewidth=1.5,
    )  # fmt: skip


def _in_lines(title: str, measure: str) -> str:
    """A label of an axis; the unit has a line of its own."""
    unit = MEASURES[measure].unit
    return fill(title, _LINE) + (f"\n({unit})" if unit else "")


def _in_unit(found: Sequence[Estimate | None], measure: str) -> list[Estimate | None]:
    return [None if of is None else of.scaled(MEASURES[measure].scale) for of in found]


def _include_zero(ax: Axes) -> None:
    """Let the axis include 0, with a margin on both sides, so that no marker is cut."""
    ax.update_datalim([(0, 0)], updatex=False)
    ax.autoscale_view(scalex=False)


def _reference(value: float, ax: Axes) -> None:
    ax.axhline(value, color="black", linewidth=0.8, linestyle=":", zorder=0)


def _known(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None


def _level_axis(levels: list[str], known: list[str], ax: Axes) -> None:
    for place, level in enumerate(levels):
        if level not in known:
            ax.text(place, 0.5, "no value", rotation=90, ha="center", va="center", color="grey", fontsize=8,
                    transform=ax.get_xaxis_transform())  # fmt: skip
    ax.set_xticks(range(len(levels)), levels)
    ax.set(xlim=(-0.5, max(len(levels), 1) - 0.5), xlabel="level of the pyramid")


def _with_legend(ax: Axes) -> Axes:
    """Put the legend above the axes, where nothing else is drawn."""
    plain_axes(ax, legend=False)
    if (count := len(ax.get_legend_handles_labels()[0])) > 0:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(count, 3), frameon=False, fontsize=9,
                  borderaxespad=0.2, columnspacing=1.2, handletextpad=0.4)  # fmt: skip
    return ax
