"""Plots of sensitivity maps: from which places each task gets its best answer (the paper's Figure 1).

A map has the colour of its task and is clear where it is low. The peaks of both tasks are marked in each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D
from torch import Tensor
from torch.nn import functional as F

from tsdlab.analysis.sensitivity import TASKS, Grid, SensitivityMaps, TaskMaps
from tsdlab.errors import InputError
from tsdlab.figures.overlays import draw_box, show_image
from tsdlab.figures.peaks import MARKS, mark_peaks, write_below
from tsdlab.figures.style import PALETTE, clear_to, white_to

_PALE = 0.45  # how much of the image is left below a map, so that its colour stands out
_SALIENT: dict[str, Any] = {"linewidth": 1.3, "path_effects": [Stroke(linewidth=3, foreground="black"), Normal()]}
_GROUND = 0.02  # of the maximum: lower parts of a surface are left out, because they would cover the floor
_OPACITY = 0.65  # of a surface
_FEWEST = 8  # cells along a side of a surface; around a small object in a large image there might be fewer
_CELLS = 56  # of a surface along its longer side; more cells take longer and show nothing new


def heat(
    maps: SensitivityMaps,
    level: str,
    branch: str,
    task: str,
    ax: Axes | None = None,
    image: Tensor | None = None,
    salient: Tensor | None = None,
    colorbar: bool = False,
) -> Axes:
    """One map in the colour of its task, from clear at 0 to its maximum, with the object's box.

    The peaks of both tasks are marked, joined, and their distance is written, in percent of the object's size. A flat
    map has no peak.

    Args:
        maps: of one object.
        level, branch, task: which of its maps; task is "classification" or "localization".
        ax: where to draw.
        image: [3, H, W] in 0…1, shown in pale grey below the colour.
        salient: [4] the part of the object that tells its class.
        colorbar: add a colour bar in the unit of the map.
    """
    ax = ax or plt.gca()
    values = getattr(maps.levels[level][branch], task).clamp(min=0).numpy()
    x1, y1, x2, y2 = maps.grid.extent
    if image is not None:
        show_image(1 - _PALE * (1 - image.mean(dim=0, keepdim=True).expand(3, -1, -1)), ax)
    drawn = ax.imshow(values, extent=(x1, x2, y2, y1), cmap=clear_to(PALETTE[task]), vmin=0,
                              vmax=values.max() or 1, interpolation="bilinear")  # fmt: skip
    ax.set(xticks=[], yticks=[], xlim=(x1, x2), ylim=(y2, y1))
    ax.spines[:].set_visible(False)
    _outline(maps.box, salient, ax)
    places = _peaks(maps, level, branch)
    if task not in places:  # for example the gradient map of a level that no proposal is pooled from
        write_below("the map is flat", ax)
    mark_peaks(places, ax)
    if len(places) == len(TASKS):
        write_below(f"best places {maps.peak_distance(level, branch):.0%} of the object apart", ax)
    if colorbar:
        ax.figure.colorbar(ScalarMappable(drawn.norm, white_to(PALETTE[task])), ax=ax, fraction=0.04, pad=0.03)
    return ax


def explain(figure: Figure, axes: np.ndarray, salient: str | None = None) -> None:
    """Add a legend for boxes and peaks below a figure of `heat` maps over images, and a scale of each task beside it.

    Args:
        figure: made with `layout="constrained"`, which makes room.
        axes: those of the maps.
        salient: the name of the salient part; None if none is drawn.
    """
    handles: list[Rectangle | Line2D] = [
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=PALETTE["truth"], linewidth=2, label="the object")
    ]
    if salient is not None:
        handles.append(Rectangle((0, 0), 1, 1, fill=False, edgecolor="white", label=salient, **_SALIENT))
    handles += [Line2D([], [], linestyle="", label=f"{task} peak", **MARKS[task]) for task in TASKS]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    for task in reversed(TASKS):  # each bar is placed between the axes and those before it
        bar = figure.colorbar(
            ScalarMappable(cmap=white_to(PALETTE[task])),
            ax=axes,
            ticks=[],
            shrink=0.5,
            fraction=0.03,
            aspect=20,
            pad=0.01,
        )
        if task == TASKS[-1]:
            bar.set_ticks([0, 1])
            bar.set_label("fraction of each map’s maximum", fontsize=9, labelpad=4)


def peaks(
    maps: SensitivityMaps,
    level: str,
    branch: str,
    image: Tensor,
    ax: Axes | None = None,
    salient: Tensor | None = None,
    margin: float | None = 0.5,
) -> Axes:
    """The object with the peaks of both tasks, and a line between them.

    Args:
        maps, level, branch, salient: as in `heat`.
        image: [3, H, W].
        ax: where to draw.
        margin: how much is shown around the object, as a fraction of its longer side; None shows the whole image.
    """
    ax = show_image(image, ax)
    _outline(maps.box, salient, ax, labels=True)
    mark_peaks(_peaks(maps, level, branch), ax, labels=True)
    if margin is not None:
        height, width = image.shape[1:]
        x1, y1, x2, y2 = _around(maps.box, margin, (0, 0, width, height))
        ax.set(xlim=(x1, x2), ylim=(y2, y1))
    return ax


def surfaces(
    maps: SensitivityMaps,
    level: str,
    branch: str,
    ax: Axes3D,
    image: Tensor | None = None,
    margin: float | None = None,
) -> Axes3D:
    """Both maps as surfaces over the image, each as a fraction of its maximum, as in the paper.

    Args:
        maps, level, branch: as in `heat`.
        ax: three-dimensional axes: `projection="3d"`.
        image: [3, H, W], the floor that the surfaces stand on.
        margin: how much is shown around the object, as in `peaks`; peaks and maxima are those of the
            part that is shown. None shows the whole map.
    """
    if margin is not None:
        maps = _cut(maps, _around(maps.box, margin, maps.grid.extent))
    x1, y1, x2, y2 = maps.grid.extent
    ax.computed_zorder = False  # else the floor is sorted by its centre and hides the surfaces
    drawn = False
    for task in reversed(TASKS):  # classification last: its surface is often the narrower one, inside the other
        values = getattr(maps.levels[level][branch], task)
        if not values.max() > values.min():
            continue
        drawn = True
        heights = _thinned((values / values.max())[None])[0].numpy()
        quads = _quads(_corners(heights, maps.grid.extent))
        shades = _shaded(heights, PALETTE[task])
        risen = quads[:, :, 2].max(axis=1) > _GROUND
        surface = Poly3DCollection(quads[risen], facecolors=shades[risen], edgecolors=shades[risen], linewidths=0.6,
                                   zorder=3)  # fmt: skip
        surface.set_agg_filter(_translucent)
        surface.set_rasterized(True)
        ax.add_collection3d(surface)
        x, y = maps.peak(level, branch, task).tolist()
        ax.plot([x, x], [y, y], [0, 1], color=PALETTE[task], linewidth=1.2, linestyle="--", zorder=4)
        ax.plot([x], [y], [1], linestyle="", label=f"{task}, peak at ({x:.0f}, {y:.0f})", **MARKS[task])
    if not drawn:
        ax.text2D(0.5, 0.9, "both maps are flat", transform=ax.transAxes, ha="center", fontsize=9)
    if image is not None:
        left, top, right, bottom = (round(side) for side in maps.grid.extent)
        pixels = _thinned(image[:, top:bottom, left:right], 2 * _CELLS).permute(1, 2, 0).clamp(0, 1).cpu().numpy()
        edges = np.zeros((pixels.shape[0] + 1, pixels.shape[1] + 1))
        corners = _corners(edges, (left, top, right, bottom), at_edges=True)
        ax.add_collection3d(
            Poly3DCollection(
                _quads(corners), facecolors=pixels.reshape(-1, 3), linewidths=0, antialiaseds=False, zorder=1
            )
        )
    left, top, right, bottom = maps.box.tolist()
    ax.plot(
        [left, right, right, left, left], [top, top, bottom, bottom, top], 0, color=PALETTE["truth"], linewidth=2,
        zorder=2,
    )  # fmt: skip
    ax.set(xlim=(x1, x2), ylim=(y2, y1), zlim=(0, 1.05), zticks=[0, 0.5, 1])
    ax.set_xlabel("x, pixels", fontsize=9)
    ax.set_ylabel("y, pixels", fontsize=9)
    ax.set_zlabel("fraction of maximum", fontsize=9)
    ax.tick_params(labelsize=8)
    longer = max(x2 - x1, y2 - y1)
    ax.set_box_aspect(((x2 - x1) / longer, (y2 - y1) / longer, 0.6), zoom=0.95)
    ax.view_init(elev=35, azim=-65)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.pane.set_visible(False)
        axis.set_rotate_label(True)
    ax.grid(False)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles[::-1], labels[::-1], frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, 0.99),
            ncols=2, columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
    return ax


def levels(
    maps: SensitivityMaps,
    image: Tensor,
    axes: np.ndarray,
    salient: Tensor | None = None,
    strides: Mapping[str, tuple[float, float]] | None = None,
) -> np.ndarray:
    """Every map of an object: a row per level, and for every branch a column per task.

    Args:
        maps, image, salient: as in `heat`.
        axes: [levels, 2 · branches] Axes, as `plt.subplots(..., squeeze=False)` makes them.
        strides: level → (y, x) pixels per feature cell, as `Probe.strides`, for the labels of the rows.

    Raises:
        InputError: another number of Axes.
    """
    branches = list(next(iter(maps.levels.values())))
    shape = (len(maps.levels), 2 * len(branches))
    if axes.shape != shape:
        raise InputError(f"axes must be [levels, 2 · branches] = {list(shape)}, got {list(axes.shape)}")
    columns = [(branch, task) for branch in branches for task in TASKS]
    for row, level in zip(axes, maps.levels):
        for ax, (branch, task) in zip(row, columns):
            heat(maps, level, branch, task, ax, image, salient)
        label = f"level {level}"
        if strides is not None:
            stride_y, stride_x = strides[level]
            across, down = f"{stride_x:.4g}", f"{stride_y:.4g}"
            label += f"\nstride {across}" + (f" × {down}" if across != down else "")
        row[0].set_ylabel(label)
    for ax, (branch, task) in zip(axes[0], columns):
        ax.set_title(f"{branch}\n{task}", fontsize=10, color=PALETTE[task])
    return axes


def _outline(box: Tensor, salient: Tensor | None, ax: Axes, labels: bool = False) -> None:
    draw_box(box, PALETTE["truth"], ax, "the object" if labels else None)
    if salient is not None and bool(salient.isfinite().all()):
        draw_box(salient, "white", ax, "its salient part" if labels else None, **_SALIENT)


def _peaks(maps: SensitivityMaps, level: str, branch: str) -> dict[str, Tensor]:
    """The peaks of the maps that are not flat."""
    places = {task: maps.peak(level, branch, task) for task in TASKS}
    return {task: place for task, place in places.items() if place.isfinite().all()}


def _around(box: Tensor, margin: float, within: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of a box with a margin (a fraction of its longer side), clipped to `within`."""
    x1, y1, x2, y2 = box.tolist()
    pad = margin * max(x2 - x1, y2 - y1)
    left, top, right, bottom = within
    return max(left, x1 - pad), max(top, y1 - pad), min(right, x2 + pad), min(bottom, y2 + pad)


def _cut(maps: SensitivityMaps, window: tuple[float, float, float, float]) -> SensitivityMaps:
    """The cells of all maps that touch the window, and more around it if they are few."""
    left, top, right, bottom = maps.grid.extent
    rows, columns = maps.grid.shape
    height, width = (bottom - top) / rows, (right - left) / columns  # of a cell
    x1, x2 = _span((window[0] - left) / width, (window[2] - left) / width, columns)
    y1, y2 = _span((window[1] - top) / height, (window[3] - top) / height, rows)
    extent = (left + x1 * width, top + y1 * height, left + x2 * width, top + y2 * height)
    levels = {
        level: {
            branch: TaskMaps(*(getattr(pair, task)[y1:y2, x1:x2] for task in TASKS))
            for branch, pair in branches.items()
        }
        for level, branches in maps.levels.items()
    }
    return replace(maps, grid=Grid(extent, (y2 - y1, x2 - x1)), levels=levels)


def _span(low: float, high: float, cells: int) -> tuple[int, int]:
    """The first cell and one beyond the last of those from `low` to `high`, at least as many as a surface needs."""
    first, last = math.floor(low), math.ceil(high)
    missing = max(0, _FEWEST - (last - first))
    first = max(0, min(first - missing // 2, cells - _FEWEST))
    return first, min(cells, max(last, first + _FEWEST))


def _thinned(values: Tensor, cells: int = _CELLS) -> Tensor:
    """[C, H, W] averaged down to at most `cells` along its longer side."""
    height, width = values.shape[1:]
    scale = cells / max(height, width)
    if scale >= 1:
        return values
    size = (max(2, round(height * scale)), max(2, round(width * scale)))
    thinned: Tensor = F.adaptive_avg_pool2d(values, size)
    return thinned


def _corners(heights: np.ndarray, extent: tuple[float, float, float, float], at_edges: bool = False) -> np.ndarray:
    """[rows, columns, 3] the points (x, y, z) of heights that belong to the centres of cells, or to their edges."""
    x1, y1, x2, y2 = extent
    rows, columns = heights.shape
    if at_edges:
        xs, ys = np.linspace(x1, x2, columns), np.linspace(y1, y2, rows)
    else:
        xs = x1 + (np.arange(columns) + 0.5) * (x2 - x1) / columns
        ys = y1 + (np.arange(rows) + 0.5) * (y2 - y1) / rows
    return np.stack([*np.meshgrid(xs, ys), heights], axis=-1)


def _quads(corners: np.ndarray) -> np.ndarray:
    """[faces, 4, 3] the corners of the faces between neighbouring points."""
    around = [corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]]
    return np.stack(around, axis=2).reshape(-1, 4, 3)


def _translucent(picture: np.ndarray, dpi: float) -> tuple[np.ndarray, int, int]:
    """Make a drawn surface [H, W, RGBA] translucent as a whole; doing it twice, as matplotlib may, changes nothing.

    Translucent faces would not do: where two of them meet, pixels are covered twice or not at all, and the seams of all
    faces together show as moiré.
    """
    picture[..., 3] = np.minimum(picture[..., 3], _OPACITY)
    return picture, 0, 0


def _shaded(heights: np.ndarray, color: str) -> np.ndarray:
    """[faces, 3] the colours of a surface lit from the right and the front: mixed with white or black by its slope."""
    slope_y, slope_x = np.gradient(heights[:-1, :-1] * max(heights.shape))
    light = np.clip(0.12 * (slope_y - slope_x), -0.4, 0.4).ravel()[:, None]
    rgb = np.array(to_rgb(color))
    return np.where(light > 0, rgb * (1 - light), rgb + (1 - rgb) * -light)
