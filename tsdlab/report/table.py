"""What a table of the report holds."""

from __future__ import annotations

from dataclasses import dataclass

from tsdlab.analysis.statistics import Estimate

CellValue = Estimate | str | int | None


@dataclass(frozen=True)
class Row:
    """A title and one or several lines of cells."""

    title: str
    lines: list[list[CellValue]]
    decimals: int = 3


@dataclass(frozen=True)
class Table:
    """A table with a column of titles and columns of numbers."""

    header: list[str]
    rows: list[Row]
