"""The table of the first screen: for every level, how far both tasks are moved and how far apart their peaks are."""

from __future__ import annotations

from dataclasses import dataclass

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.displacement import ALL_LEVELS
from tsdlab.analysis.measures import MEASURES
from tsdlab.analysis.statistics import Estimate
from tsdlab.report.levels import counts
from tsdlab.report.verdict import compared, main_level

_PEAKS = MEASURES["peak_distance"]
_LENGTH = COLUMNS["classification_offset"]
_SHORTEST = 1.0  # percent: an axis that ended before would make next to nothing look like much


@dataclass(frozen=True)
class Cell:
    """A number with its interval, in percent, and where they lie on the axis of its group."""

    estimate: Estimate | None
    role: str = ""  # whose colour it has: "classification", "localization", "" for none
    end: float = _SHORTEST  # of the axis

    def place(self, value: float) -> str:
        """Where a value lies between 0 and the end of the axis, as a length of CSS."""
        return f"{100 * min(max(value / self.end, 0), 1):.1f}%"


@dataclass(frozen=True)
class Level:
    """A row: its cells are in the order of the columns of their group."""

    name: str
    proposals: int
    moved: list[Cell]
    moved_word: str  # what is shown about their difference
    peaks: list[Cell]
    peaks_word: str


@dataclass(frozen=True)
class LevelTable:
    """The rows, and what the columns of both groups are called; a group without a column has no number."""

    moved_tasks: list[str]
    branches: list[str]
    method: str  # of the maps whose peaks are compared
    rows: list[Level]
    moved_title: str = f"displacement, {_LENGTH.unit}"
    peaks_title: str = f"distance of the peaks, {_PEAKS.unit}"


def level_table(analysis: Analysis) -> LevelTable:
    """A row per level, and one for all levels together if regions are moved at several."""
    found, moved = analysis.misalignment, analysis.displacement
    tasks = [] if moved is None else moved.tasks
    measured = main_level(found)
    method = "gradients" if measured is None else measured[0]
    maps = {} if measured is None else found.maps[method]
    branches = list(dict.fromkeys(branch for of in maps.values() for branch in of))
    levels = counts(analysis)
    if moved is not None and len(levels) > 1:
        levels[ALL_LEVELS] = moved.levels[ALL_LEVELS].proposals
    offsets = {
        level: {task: moved.levels[level].means[f"{task}_offset"].scaled(_LENGTH.scale) for task in tasks}
        for level in levels
        if moved is not None and level in moved.levels
    }
    distances = {
        level: {
            name: row["peak_distance"].scaled(_PEAKS.scale)
            for name, row in maps[level].items()
            if "peak_distance" in row
        }
        for level in levels
        if level in maps
    }
    longest, farthest = (
        max([_SHORTEST, *(of.high for row in group.values() for of in row.values() if of.high is not None)])
        for group in (offsets, distances)
    )
    rows = []
    for level, count in levels.items():
        farther = None if moved is None or level not in moved.levels else moved.levels[level].difference
        apart = found.moved.get(method, {}).get(level, {}).get("peak_distance")
        rows.append(
            Level(
                level,
                count,
                [Cell(offsets.get(level, {}).get(task), task, longest) for task in tasks],
                compared(farther, "classification farther", "localization farther"),
                [Cell(distances.get(level, {}).get(branch), "", farthest) for branch in branches],
                compared(apart, f"farther in {branches[-1]}", f"closer in {branches[-1]}") if branches else "",
            )
        )
    return LevelTable(tasks, branches, method, rows)
