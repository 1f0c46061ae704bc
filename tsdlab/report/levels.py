"""Which levels of the pyramid a report shows: those with enough proposals."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.displacement import ALL_LEVELS, Displacements

FEW_PROPOSALS = 20  # a level with fewer says more about these proposals than about the level

T = TypeVar("T")


def counts(analysis: Analysis) -> dict[str, int]:
    """For every level, finest first: the proposals pooled from it that overlap an object."""
    found, moved = analysis.misalignment, analysis.displacement
    known = dict(found.proposals)
    for level, of in ({} if moved is None else moved.levels).items():
        if level != ALL_LEVELS:
            known[level] = of.proposals
    return known | {level: 0 for levels in found.maps.values() for level in levels if level not in known}


def hidden_levels(analysis: Analysis) -> dict[str, int]:
    """The levels with fewer than `FEW_PROPOSALS`, with their counts.

    If no level has as many, only those without any are hidden: a report without a level would say nothing.
    """
    known = counts(analysis)
    least = FEW_PROPOSALS if enough(known) else min(1, max(known.values(), default=0))
    return {level: count for level, count in known.items() if count < least}


def enough(known: dict[str, int]) -> bool:
    """Whether a level has as many proposals as its numbers need."""
    return max(known.values(), default=0) >= FEW_PROPOSALS


def without(analysis: Analysis, hidden: dict[str, int]) -> Analysis:
    """The analysis without some of its levels; its numbers for all levels together stay."""

    def left(levels: dict[str, T]) -> dict[str, T]:
        return {level: of for level, of in levels.items() if level not in hidden}

    found, moved = analysis.misalignment, analysis.displacement
    return Analysis(
        replace(
            found,
            maps={method: left(levels) for method, levels in found.maps.items()},
            moved={method: left(levels) for method, levels in found.moved.items()},
            proposals=left(found.proposals),
        ),
        None if moved is None else Displacements(left(moved.levels)),
    )
