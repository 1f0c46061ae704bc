"""What the page of a levels view is told, as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.tables import FollowedTable, even_edges, shares
from tsdlab.figures.style import LEVEL_COLORS, PALETTE
from tsdlab.structures import RegionTrace
from tsdlab.widgets.levels.crops import Crops
from tsdlab.widgets.levels.state import LevelsState, whole_size
from tsdlab.widgets.pictured import image_url

# More points show no more and make the page slow; `FollowedTable.sample` says which ones are drawn.
POINTS = 2000
_OTHERS = 500  # points of proposals that the filters leave out, drawn in grey
_EXAMPLES = 6
_CROP = 192  # pixels; the longest side of a crop when it is sent
_SIZE_BINS = 32
_ROLES = ("proposal", "classification", "localization", "truth")


def table_message(table: FollowedTable) -> dict[str, Any]:
    """What stays the same while the view is open."""
    everything = np.ones(len(table), dtype=bool)
    return {
        "columns": [
            {"name": name, "label": column.label, "title": column.title, "unit": column.unit,
             "role": column.role, "explanation": column.explanation}
            for name, column in COLUMNS.items()
            if np.isfinite(table.column(name)).any()
        ],
        "levels": table.levels,
        "categories": table.categories,
        "size": whole_size(table),
        "total": len(table),
        "images": len(np.unique(table.images)),
        "palette": {role: PALETTE[role] for role in _ROLES},
        "level_colors": [LEVEL_COLORS[i % len(LEVEL_COLORS)] for i in range(len(table.levels))],
        "means": _in_units(table.means(everything)),
        "regions": _regions(table, everything),
    }  # fmt: skip


def chosen_message(table: FollowedTable, state: LevelsState, crops: Crops) -> dict[str, Any]:
    """What follows from the filters and the columns of the scatter plot."""
    chosen = table.select(state.level, state.category, state.size)
    x, y = (table.column(name) * COLUMNS[name].scale for name in (state.x, state.y))
    drawable = np.isfinite(x) & np.isfinite(y)
    return {
        "count": int(chosen.sum()),
        "drawable": int((chosen & drawable).sum()),
        "points": _points(table, table.sample(chosen & drawable, POINTS), x, y),
        "others": _points(table, table.sample(~chosen & drawable, _OTHERS), x, y),
        "x": _distributions(table, state, state.x),
        "y": _distributions(table, state, state.y),
        "sizes": _size_message(table, state),
        "levels": _counts(table, state, "level", table.levels),
        "categories": _counts(table, state, "category", table.categories),
        "means": _in_units(table.means(chosen)),
        "regions": _regions(table, chosen),
        "examples": [row_message(table, int(row), crops) for row in table.examples(chosen, state.x, _EXAMPLES)],
    }


def row_message(table: FollowedTable, row: int, crops: Crops) -> dict[str, Any]:
    """One proposal: its numbers, the image around it, and what is drawn over that, in pixels of the image."""
    crop = crops[row]
    x, y, side = crop.view
    height, width = crop.image.shape[1:]
    left, top = max(math.floor(x), 0), max(math.floor(y), 0)
    right, bottom = min(math.ceil(x + side), width), min(math.ceil(y + side), height)
    return {
        "row": row,
        "image": int(table.images[row]),
        "level": table.levels[table.followed.levels[row]],
        "category": table.categories[table.followed.labels[row] - 1],
        "values": _in_units({name: _number(values[row]) for name, values in table.followed.columns.items()}),
        "view": _rounded(np.array(crop.view)),
        "url": image_url(crop.image[:, top:bottom, left:right].permute(1, 2, 0).cpu().numpy(), _CROP),
        "part": [left, top, right - left, bottom - top],
        "proposal": _rounded(crop.proposal),
        "truth": _rounded(crop.truth),
        "regions": {
            task: {"box": _rounded(region.boxes), "points": _points_of(region)} for task, region in crop.regions.items()
        },
    }


def _in_units(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Values of columns in the units of the columns."""
    return {name: None if value is None else round(COLUMNS[name].scale * value, 4) for name, value in values.items()}


def _regions(table: FollowedTable, chosen: np.ndarray) -> dict[str, dict[str, Any]]:
    """The mean region of each task on the unit square; only regions whose bins are moved one by one have `offsets`."""
    return {
        task: {"box": _rounded(region.boxes), "translation": _rounded(100 * region.translation),
               "offsets": _rounded(region.offsets) if region.deformed else None}
        for task, region in table.mean_regions(chosen).items()
    }  # fmt: skip


def _points_of(region: RegionTrace) -> list | None:
    """[bins², 2]; None where the bins are the plain grid of the box."""
    return _rounded(region.points.flatten(0, 1)) if region.deformed else None


def _points(table: FollowedTable, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """[row, x, y, index of the level, label, image] of every row."""
    levels, labels = table.followed.levels.numpy()[rows], table.followed.labels.numpy()[rows]
    columns = rows, x[rows].round(5), y[rows].round(5), levels, labels, table.images[rows]
    return [list(point) for point in zip(*(column.tolist() for column in columns))]


def _distributions(table: FollowedTable, state: LevelsState, name: str) -> dict[str, Any]:
    """How a column is distributed on each level: over all proposals, and over those of the chosen class and size."""
    values = table.column(name) * COLUMNS[name].scale
    edges = even_edges(values)
    rows = []
    for level in table.levels:
        all_of_level, chosen = table.select(level), table.select(level, state.category, state.size)
        rows.append(
            {
                "count": int(chosen.sum()),
                "mean": _in_units(table.means(chosen))[name],
                "all": shares(values[all_of_level], edges).round(4).tolist(),
                "chosen": shares(values[chosen], edges).round(4).tolist(),
            }
        )
    return {"edges": [edges[0], edges[-1]], "levels": rows}


def _size_message(table: FollowedTable, state: LevelsState) -> dict[str, list[int]]:
    """How many proposals have which size: of all, and of those of the chosen level and class."""
    edges = np.linspace(*whole_size(table), _SIZE_BINS + 1)
    matching = table.sizes[table.select(state.level, state.category)]
    return {
        name: np.histogram(sizes, edges)[0].tolist() for name, sizes in (("all", table.sizes), ("chosen", matching))
    }


def _counts(table: FollowedTable, state: LevelsState, field: str, names: tuple[str, ...]) -> list[int]:
    """How many proposals there would be with this filter set to "all" and to each name, with the other filters kept."""
    filters = {"level": state.level, "category": state.category, "size": state.size}
    return [int(table.select(**{**filters, field: name}).sum()) for name in ("all", *names)]


def _rounded(values: Any) -> Any:
    """Numbers as nested lists; None where one is NaN, which JSON does not have."""
    rounded = np.asarray(values, dtype=np.float64).round(4)
    return rounded.tolist() if np.isfinite(rounded).all() else None


def _number(value: Tensor) -> float | None:
    """A number; None for NaN."""
    return value.item() if value.isfinite() else None
