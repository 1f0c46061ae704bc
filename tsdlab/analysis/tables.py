"""The followed proposals of a data set as one table, with filters and statistics over its rows.

A filter is a mask [K] over the rows, from `FollowedTable.select`; statistics use the rows that it keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.displacement import ALL_LEVELS, Followed, follow_images
from tsdlab.data.items import as_items
from tsdlab.errors import InputError, shown, shown_value
from tsdlab.models.build import as_detector
from tsdlab.ranges import Count, check_value
from tsdlab.structures import TASKS, RegionTrace, map_tensors

ALL_CATEGORIES = "all"


@dataclass(frozen=True)
class FollowedTable:
    """Every followed proposal of a data set, one row each. Boxes are xyxy in pixels of their image.

    Raises:
        InputError: there is no row.
    """

    images: np.ndarray  # [K] int64 index into the data set
    followed: Followed  # the rows of all images, one after the other
    levels: tuple[str, ...]  # names of the pooled levels, finest first
    categories: tuple[str, ...]  # names of labels 1…C

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise InputError("there is no row: no proposal overlaps an object enough to belong to it")

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def sizes(self) -> np.ndarray:
        """[K] side in pixels of a square of the proposal's area."""
        sides = self.followed.proposals[:, 2:] - self.followed.proposals[:, :2]
        return sides.prod(dim=1).sqrt().numpy().astype(np.float64)

    @property
    def tasks(self) -> list[str]:
        """The tasks whose regions are moved."""
        return [task for task in TASKS if task in self.followed.regions]

    @cached_property
    def order(self) -> np.ndarray:
        """[K] the position of every row in one fixed shuffle; see `sample`."""
        return np.random.default_rng(0).permutation(len(self))

    def column(self, name: str) -> np.ndarray:
        """[K] float64 values of a column of COLUMNS.

        Raises:
            InputError: there is no column of that name.
        """
        return self.followed.columns[check_column(name)].numpy().astype(np.float64)

    def select(
        self, level: str = ALL_LEVELS, category: str = ALL_CATEGORIES, size: tuple[float, float] = (0, math.inf)
    ) -> np.ndarray:
        """A mask [K] of the rows with this level, this class and a size in this range (both ends included).

        Raises:
            InputError: the level or class is not in the table, or `size` is not a range; the message lists what is.
        """
        low, high = check_size(size)
        chosen = (self.sizes >= low) & (self.sizes <= high)
        if self.check_level(level) != ALL_LEVELS:
            chosen &= self.followed.levels.numpy() == self.levels.index(level)
        if self.check_category(category) != ALL_CATEGORIES:
            chosen &= self.followed.labels.numpy() == self.categories.index(category) + 1
        return chosen

    def check_level(self, level: Any) -> str:
        """Return `level` if it is in the table.

        Raises:
            InputError: it is not.
        """
        return _one_of("level", level, (ALL_LEVELS, *self.levels))

    def check_category(self, category: Any) -> str:
        """Return `category` if it is in the table.

        Raises:
            InputError: it is not.
        """
        return _one_of("category", category, (ALL_CATEGORIES, *self.categories))

    def sample(self, chosen: np.ndarray, limit: int) -> np.ndarray:
        """At most `limit` rows of a mask [K], ascending.

        The rows come in the order of one fixed shuffle. The sample is therefore fair and always the same, and a
        narrower filter never removes a row that passes it.
        """
        rows = np.flatnonzero(chosen)
        return np.sort(rows[np.argsort(self.order[rows])[:limit]])

    def examples(self, chosen: np.ndarray, name: str, count: int) -> np.ndarray:
        """Up to `count` rows of a mask [K] at even quantiles of a column, the smallest value first.

        Rows without a value are left out.
        """
        values = self.column(name)
        rows = np.flatnonzero(chosen & np.isfinite(values))
        rows = rows[np.argsort(values[rows], kind="stable")]
        places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
        return rows[places]

    def means(self, chosen: np.ndarray) -> dict[str, float | None]:
        """The mean of every column; None if no row has a value."""
        return {name: _mean(self.column(name)[chosen]) for name in COLUMNS}

    def mean_regions(self, chosen: np.ndarray) -> dict[str, RegionTrace]:
        """The mean region of each task, on the unit square in place of P; empty if no row is kept."""
        if not chosen.any():
            return {}
        rows = torch.from_numpy(chosen)
        proposals = self.followed.proposals[rows]
        corner = proposals[:, None, :2]
        size = (proposals[:, None, 2:] - corner).clamp(min=1e-6)
        means = {}
        for task, region in map_tensors(lambda of_all: of_all[rows], self.followed.regions).items():
            boxes = (region.boxes.unflatten(1, (2, 2)) - corner) / size  # [K, 2, 2]
            points = (region.points - corner[:, None]) / size[:, None]
            on_unit = RegionTrace(boxes.flatten(1), points, region.offsets, region.deformed)
            means[task] = map_tensors(lambda of_all: of_all.mean(dim=0), on_unit)
        return means


def follow_dataset(model: nn.Module, dataset: Any, images: int = 100, progress: bool = True) -> FollowedTable:
    """Follow the proposals that overlap an object (IoU ≥ 0.5), over the first `images` of the data set.

    Raises:
        InputError: `images` is less than 1, the head moves nothing, or no proposal overlaps an object.
    """
    check_value("images", images, Count)
    parts: list[Followed] = []
    numbers: list[int] = []
    levels: tuple[str, ...] = ()
    model = as_detector(model)
    items = as_items(dataset)
    for index, pooled, followed in follow_images(model, items, images, progress=progress):
        levels = pooled
        parts.append(followed)
        numbers += [index] * len(followed.levels)
    if not numbers:
        raise InputError(f"no proposal overlaps an object in the first {len(parts)} images of the data set")
    followed = map_tensors(lambda *images: torch.cat(images), *parts)
    return FollowedTable(np.array(numbers, dtype=np.int64), followed, levels, items.for_model(model).names)


def check_column(name: Any) -> str:
    """Return `name` if it is in COLUMNS.

    Raises:
        InputError: it is not.
    """
    return _one_of("column", name, tuple(COLUMNS))


def check_size(size: Any) -> tuple[float, float]:
    """Return `size` as two floats, the smaller one first.

    Raises:
        InputError: it is something else.
    """
    try:
        low, high = (float(end) for end in size)
    except (TypeError, ValueError):
        raise InputError(f"size must be two numbers of pixels, got {shown(size)}") from None
    if not low <= high:
        raise InputError(f"size must be (smallest, largest), got {shown(size)}")
    return low, high


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[len(edges) − 1] the share of values in each bin, not counting NaN; zeros if there are no values."""
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    return counts / max(counts.sum(), 1)


def even_edges(values: np.ndarray, bins: int = 32) -> np.ndarray:
    """[bins + 1] even edges around all finite values, with a margin if all values are the same."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    room = 0.02 * (high - low)
    # The axis of values that are never negative starts at 0, unless that would leave half of it empty.
    start = 0.0 if 0 <= low < 0.5 * high else low - room
    return np.linspace(start, high + room, bins + 1)


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _one_of(what: str, value: Any, allowed: Iterable[str]) -> str:
    if isinstance(value, str) and value in allowed:
        return value
    raise InputError(f"there is no {what} {shown_value(value)}; there are {shown(', '.join(allowed), 600)}")
