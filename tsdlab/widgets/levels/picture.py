"""A picture of a levels view, for pages without a kernel."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.displacement import ALL_LEVELS
from tsdlab.analysis.tables import ALL_CATEGORIES, FollowedTable, even_edges, shares
from tsdlab.figures import plots
from tsdlab.figures.names import drawn, find_fonts
from tsdlab.figures.style import LEVEL_COLORS, PALETTE
from tsdlab.widgets.levels.crops import Crop, Crops
from tsdlab.widgets.levels.state import LevelsState

_EXAMPLES = 4
_MARKS = "os^D"  # of the levels, as on the page


def draw_levels(table: FollowedTable, state: LevelsState, crops: Crops) -> Figure:
    """The scatter plot, the distribution of its x by level, the mean displacement, and a few examples."""
    chosen = table.select(state.level, state.category, state.size)
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = ["scatter", "distribution", "field"]
    axes = figure.subplot_mosaic([[*panels, "0", "1"], [*panels, "2", "3"]], width_ratios=(1.5, 1.3, 1.2, 0.7, 0.7))
    x = COLUMNS[state.x].title
    figure.suptitle(f"{_caption(table, state, int(chosen.sum()))}; examples from small to large {x}", fontsize=11)
    _draw_scatter(table, state, chosen, axes["scatter"])
    _draw_distributions(table, state, axes["distribution"])
    _draw_field(table, chosen, axes["field"])
    rows = table.examples(chosen, state.x, _EXAMPLES)
    for i in range(_EXAMPLES):
        if i < len(rows):
            label = drawn(table.categories)[int(table.followed.labels[rows[i]]) - 1]
            value = COLUMNS[state.x].scale * table.column(state.x)[rows[i]]
            _draw_crop(crops[int(rows[i])], f"{label}, {value:.3g}", axes[str(i)])
        else:
            axes[str(i)].set_axis_off()
    find_fonts(figure)
    return figure


def _caption(table: FollowedTable, state: LevelsState, count: int) -> str:
    low, high = state.size
    level = "all levels" if state.level == ALL_LEVELS else f"level {state.level}"
    category = "all classes" if state.category == ALL_CATEGORIES else drawn([state.category])[0]
    proposals = f"{count} of {len(table)} proposals" if count else "no proposal here"
    return f"{level}, {category}, √area {low:.0f}…{high:.0f} px: {proposals}"


def _draw_scatter(table: FollowedTable, state: LevelsState, chosen: np.ndarray, ax: Axes) -> None:
    x, y = (table.column(name) * COLUMNS[name].scale for name in (state.x, state.y))
    ax.plot(x[~chosen], y[~chosen], ".", color="0.85", markersize=3)
    for i, level in enumerate(table.levels):
        rows = chosen & (table.followed.levels.numpy() == i)
        ax.plot(x[rows], y[rows], _MARKS[i % len(_MARKS)], color=LEVEL_COLORS[i % len(LEVEL_COLORS)], markersize=4,
                markeredgecolor="white", markeredgewidth=0.3, label=f"level {level}")  # fmt: skip
    if state.selected is not None:
        ax.plot(x[state.selected], y[state.selected], "o", markersize=10, markerfacecolor="none", color="black")
    ax.set(xlabel=COLUMNS[state.x].label, ylabel=COLUMNS[state.y].label)
    plots.plain_axes(ax, legend=False)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9, handletextpad=0, columnspacing=1
    )


def _draw_distributions(table: FollowedTable, state: LevelsState, ax: Axes) -> None:
    column = COLUMNS[state.x]
    values, color = table.column(state.x) * column.scale, PALETTE[column.role]
    edges = even_edges(values)
    names = table.levels[::-1]
    for i, level in enumerate(names):
        everything = shares(values[table.select(level)], edges)
        chosen = shares(values[table.select(level, state.category, state.size)], edges)
        height = max(everything.max(), chosen.max(), 1e-9) / 0.85
        ax.stairs(i + everything / height, edges, baseline=i, color="0.85", fill=True)
        if chosen.any():
            ax.stairs(i + chosen / height, edges, baseline=i, color=color)
    ax.set(yticks=range(len(names)), xlabel=column.label)
    ax.set_yticklabels([f"level {level}" for level in names], va="bottom")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    plots.plain_axes(ax)


def _draw_field(table: FollowedTable, chosen: np.ndarray, ax: Axes) -> None:
    ax.set(xlim=(-0.3, 1.3), ylim=(1.3, -0.3), aspect="equal", xticks=[], yticks=[])
    ax.set_title("mean displacement on P", fontsize=10)
    ax.spines[:].set_visible(False)
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
    plots.draw_box(unit, PALETTE["proposal"], ax)
    for task, region in table.mean_regions(chosen).items():
        if region.deformed:
            plots.bin_arrows(unit, region.offsets, PALETTE[task], ax)
        else:
            plots.draw_box(region.boxes, PALETTE[task], ax, linestyle="--")


def _draw_crop(crop: Crop, title: str, ax: Axes) -> None:
    plots.show_image(crop.image, ax)
    plots.draw_box(torch.from_numpy(crop.truth), PALETTE["truth"], ax, linestyle=(0, (1, 1)))
    plots.draw_box(torch.from_numpy(crop.proposal), PALETTE["proposal"], ax)
    for task, region in crop.regions.items():
        if region.deformed:
            ax.plot(*region.points.flatten(0, 1).T.numpy(), "o", color=PALETTE[task], markersize=2.5,
                    markeredgecolor="white", markeredgewidth=0.3)  # fmt: skip
        else:
            plots.draw_box(region.boxes, PALETTE[task], ax, linestyle="--")
    x, y, side = crop.view
    ax.set(xlim=(x, x + side), ylim=(y + side, y))
    ax.set_title(title, fontsize=8)
