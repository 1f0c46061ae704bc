"""The state of a levels view: what can be read, set and observed, from Python and from the page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tsdlab.analysis.displacement import ALL_LEVELS
from tsdlab.analysis.tables import ALL_CATEGORIES, FollowedTable, check_column, check_size
from tsdlab.widgets.state import Field, State, index


def whole_size(table: FollowedTable) -> tuple[float, float]:
    """The range of √area, in whole pixels, that holds all proposals of a table."""
    return float(np.floor(table.sizes.min())), float(np.ceil(table.sizes.max()))


def first_columns(table: FollowedTable) -> tuple[str, str]:
    """The columns of the first scatter plot: how far each region is moved, and how far P is from the object."""
    x, y = [*(f"{task}_offset" for task in table.tasks), "centre_distance"][:2]
    return x, y


def _size(name: str, value: Any, state: LevelsState) -> tuple[float, float]:
    low, high = check_size(value)
    least, most = whole_size(state.choices)
    # An open end is where the proposals end: JSON has no infinity.
    return (low if math.isfinite(low) else least), (high if math.isfinite(high) else most)


def _column(name: str, value: Any, state: LevelsState) -> str:
    return check_column(value)


class LevelsState(State):
    """The fields of a levels view; `choices` is its table."""

    # Which proposals are shown.
    level: Any = Field(ALL_LEVELS, lambda _, value, state: state.choices.check_level(value))
    category: Any = Field(ALL_CATEGORIES, lambda _, value, state: state.choices.check_category(value))
    size: Any = Field((0.0, math.inf), _size)
    # The columns of the scatter plot.
    x: Any = Field("classification_offset", _column)
    y: Any = Field("localization_offset", _column)
    # The row of the table that is open in the explorer.
    selected: Any = Field(None, index(lambda state: len(state.choices), optional=True))
