"""The page of an analysis: HTML that needs no other file, no script and no network.

Its text is in `report.html.jinja`, its style in `report.css`; this file turns an analysis into what they show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.displacement import ALL_LEVELS, Displacements
from tsdlab.analysis.examples import CANDIDATES, Shown
from tsdlab.analysis.measures import AGREEMENT, MEASURES
from tsdlab.analysis.misalignment import METHODS, WINDOW, Misalignment
from tsdlab.analysis.statistics import FEW_IMAGES, Estimate
from tsdlab.report.errors import ErrorSection
from tsdlab.report.levels import FEW_PROPOSALS, counts, enough
from tsdlab.report.overview import level_table
from tsdlab.report.table import CellValue, Row, Table
from tsdlab.report.template import picture_urls, template
from tsdlab.report.verdict import verdict


@dataclass(frozen=True)
class Source:
    """Where an analysis comes from."""

    weights: str  # what the weights are called
    head: str
    folder: str  # of the data set
    split: str
    command: str  # the line that made the report


def page(
    analysis: Analysis,
    source: Source,
    versions: Mapping[str, str],
    shown: Shown,
    pictures: Mapping[str, bytes],
    hidden: Mapping[str, int] | None = None,
    explorer: str | None = None,
    errors: ErrorSection | None = None,
) -> str:
    """The report in HTML.

    Args:
        analysis: its numbers, without the levels that are not shown.
        source: where they come from.
        versions: of the packages that made them.
        shown: the objects that are shown.
        pictures: by file name, as `draw_pictures` makes them.
        hidden: the levels that are not shown, with their proposals.
        explorer: a saved page of the explorer, in HTML.
        errors: where AP is lost; None if that was not measured.
    """
    found = analysis.misalignment
    urls = picture_urls(pictures)
    html = template("report.html.jinja").render(
        source=source,
        versions=versions,
        misalignment=found,
        few_images=FEW_IMAGES,
        few_proposals=FEW_PROPOSALS,
        hidden=hidden or {},
        enough=enough(counts(analysis)),
        verdict=verdict(analysis),
        levels=level_table(analysis),
        all_levels=ALL_LEVELS,
        shown=shown,
        candidates=min(CANDIDATES, found.images),
        window=WINDOW,
        methods=[
            {"name": name, "meaning": meaning, "table": _measure_table(found, name)}
            for name, meaning in METHODS.items()
            if f"measures-{name}" in urls
        ],
        agreement=_agreement_table(found),
        displacements=None if analysis.displacement is None else _displacement_table(analysis.displacement),
        moved_tasks=[] if analysis.displacement is None else analysis.displacement.tasks,
        pictures=urls,
        explorer=explorer,
        errors=errors,
    )
    return html.lstrip()


def _measure_table(found: Misalignment, method: str) -> Table:
    """A row per measure with a line per level; a column per branch, and one for their difference."""
    branches = list(dict.fromkeys(branch for level in found.maps[method].values() for branch in level))
    moved = found.moved.get(method)
    rows = []
    for name in found.known(method):
        lines: list[list[CellValue]] = []
        for level, measured in found.maps[method].items():
            estimates = [measured.get(branch, {}).get(name) for branch in branches]
            difference = [moved.get(level, {}).get(name)] if moved else []
            scaled = [None if of is None else of.scaled(MEASURES[name].scale) for of in (*estimates, *difference)]
            lines.append([level, *scaled, max(_count(estimate) for estimate in estimates)])
        rows.append(Row(_measure_title(name), lines, _decimals(MEASURES[name].unit)))
    return Table(["measure", "level", *branches, *(["difference"] if moved else []), "objects"], rows)


def _agreement_table(found: Misalignment) -> Table:
    rows = []
    for name, measure in AGREEMENT.items():
        estimates = [measured.get(name) for measured in found.agreement.values()]
        count = max((_count(estimate) for estimate in estimates), default=0)
        rows.append(Row(f"{measure.title}: {measure.explanation}", [[*estimates, count]]))
    return Table(["measure", *found.agreement, "proposals or objects"], rows if found.agreement else [])


def _displacement_table(found: Displacements) -> Table:
    """A row per column of COLUMNS that has a value, a column per level."""
    levels = found.levels
    rows = [Row("proposals", [[of.proposals for of in levels.values()]])]
    for name, column in COLUMNS.items():
        if any(found.mean(name, level) is not None for level in levels):
            title = f"{column.label}. {column.explanation}"
            cells: list[CellValue] = [of.means[name].scaled(column.scale) for of in levels.values()]
            rows.append(Row(title, [cells], _decimals(column.unit)))
    heads = ("all levels" if level == ALL_LEVELS else f"level {level}" for level in levels)
    return Table(["mean over proposals", *heads], rows)


def _count(estimate: Estimate | None) -> int:
    return 0 if estimate is None else estimate.count


def _decimals(unit: str) -> int:
    """One for percent and pixels, three for shares of 1 and for numbers without a unit."""
    return 1 if unit else 3


def _measure_title(name: str) -> str:
    measure = MEASURES[name]
    even = [] if measure.even is None else [f"{measure.even:g} for an even map"]
    found = [note for note in (measure.unit, *even) if note]
    return f"{measure.title[0].upper()}{measure.title[1:]}" + (f" ({'; '.join(found)})" if found else "")
