"""Analyses with known numbers, as tests of a report need them."""

from __future__ import annotations

from collections.abc import Mapping

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.columns import COLUMNS, EDGES
from tsdlab.analysis.displacement import Displacements, LevelDisplacement
from tsdlab.analysis.misalignment import Misalignment
from tsdlab.analysis.statistics import NOTHING, Estimate

FIELD = (((0.1, 0.2), (0.0, -0.3)), ((0.0, 0.0), (0.1, 0.0)))


def about(value: float, half: float = 0.01, count: int = 50) -> Estimate:
    """A number whose interval reaches `half` to both sides."""
    return Estimate(value, value - half, value + half, count)


def moved_by(
    classification: float | None, localization: float | None, proposals: int = 50, difference: Estimate | None = None
) -> LevelDisplacement:
    """The displacements of a level; None for a task that is not moved."""
    both = classification is not None and localization is not None
    if difference is None:
        difference = about(classification - localization) if both else NOTHING  # type: ignore[operator]
    lengths = {"classification_offset": classification, "localization_offset": localization}
    means = {name: NOTHING if lengths.get(name) is None else about(lengths[name]) for name in COLUMNS}  # type: ignore
    shares = {name: tuple(about(1 / (len(edges) - 1), 0.0) for _ in edges[1:]) for name, edges in EDGES.items()}
    return LevelDisplacement(
        proposals,
        means,
        None if classification is None else FIELD,
        shares,
        None if localization is None else FIELD,
        difference,
    )


def analysis(
    peaks: Mapping[str, Mapping[str, Estimate]] | None = None,
    moved: Mapping[str, LevelDisplacement] | None = None,
    differences: Mapping[str, Estimate] | None = None,
    proposals: Mapping[str, int] | None = None,
    images: int = 30,
) -> Analysis:
    """An analysis that knows peak distances (by level and branch), their differences by level, and displacements."""
    levels = {
        level: {branch: {"peak_distance": of} for branch, of in row.items()} for level, row in (peaks or {}).items()
    }
    found = Misalignment(
        images,
        40,
        {"gradients": levels} if levels else {},
        {"gradients": {level: {"peak_distance": of} for level, of in differences.items()}} if differences else {},
        {},
        {branch: () for row in levels.values() for branch in row},
        dict(proposals or {}),
    )
    return Analysis(found, None if moved is None else Displacements(dict(moved)))
