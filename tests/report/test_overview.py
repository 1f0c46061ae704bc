"""The first screen's table: a row per level, and what each difference shows."""

from __future__ import annotations

from dataclasses import replace

from analyses import about, analysis, moved_by

from tsdlab.analysis.statistics import NOTHING, Estimate
from tsdlab.report.overview import level_table


def test_a_row_per_level_with_both_groups_in_percent() -> None:
    peaks = {"0": {"sibling": about(0.278), "tsd": about(0.286)}, "1": {"sibling": about(0.2), "tsd": about(0.4)}}
    moved = {"all": moved_by(0.2, 0.2, 75), "0": moved_by(0.18, 0.15, 50), "1": moved_by(0.2, 0.35, 25)}
    differences = {"0": about(0.008, 0.02), "1": about(0.2)}
    table = level_table(analysis(peaks, moved, differences, {"0": 50, "1": 25}))
    assert [(row.name, row.proposals) for row in table.rows] == [("0", 50), ("1", 25), ("all", 75)]
    assert table.moved_tasks == ["classification", "localization"] and table.branches == ["sibling", "tsd"]
    first, second, every = table.rows
    assert [round(cell.estimate.value, 6) for cell in (*first.moved, *first.peaks)] == [18, 15, 27.8, 28.6]
    assert [(row.moved_word, row.peaks_word) for row in table.rows] == [
        ("classification farther", "no difference shown"),
        ("localization farther", "farther in tsd"),
        ("no difference shown", ""),
    ]
    assert [cell.estimate for cell in every.peaks] == [None, None]
    # The axis of a group ends at its highest interval: 36% of P's size, 41% of the object's.
    assert second.moved[1].place(36) == "100.0%" and second.moved[0].place(18) == "50.0%"
    assert first.peaks[0].place(20.5) == "50.0%" and first.peaks[0].place(-3) == "0.0%"
    assert [cell.role for cell in first.moved] == ["classification", "localization"]


def test_next_to_nothing_has_a_short_bar() -> None:
    few = Estimate(0.0003, 0.0002, 0.0005, 9)
    moved = moved_by(None, 0.1)
    moved = replace(moved, means={**moved.means, "localization_offset": few})
    (row,) = level_table(analysis(moved={"all": moved, "0": moved}, proposals={"0": 50})).rows
    (cell,) = row.moved
    assert cell.estimate is not None and cell.place(cell.estimate.value) == "3.0%"


def test_what_was_not_measured_has_no_column() -> None:
    table = level_table(analysis({"0": {"sibling": about(0.2)}, "1": {"sibling": NOTHING}}, proposals={"0": 9, "1": 2}))
    assert table.moved_tasks == [] and table.branches == ["sibling"]
    rows = [(row.name, row.proposals, row.moved, row.peaks_word) for row in table.rows]
    assert rows == [("0", 9, [], ""), ("1", 2, [], "")]
    assert level_table(analysis()).rows == []


def test_one_level_has_no_row_of_all() -> None:
    moved = {"all": moved_by(None, 0.2, 30), "0": moved_by(None, 0.2, 30)}
    table = level_table(analysis(moved=moved, proposals={"0": 30}))
    assert [row.name for row in table.rows] == ["0"] and table.moved_tasks == ["localization"]
