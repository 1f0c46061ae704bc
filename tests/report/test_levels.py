"""Levels with few proposals are hidden, unless there would be nothing left."""

from __future__ import annotations

import pytest
from analyses import about, analysis, moved_by

from tsdlab.report.levels import counts, enough, hidden_levels, without


@pytest.mark.parametrize(
    ("proposals", "hidden"),
    [
        ({"0": 20, "1": 19, "2": 0}, {"1": 19, "2": 0}),
        ({"0": 500, "1": 20}, {}),
        ({"0": 19, "1": 1, "2": 0}, {"2": 0}),
        ({"0": 0, "1": 0}, {}),
        ({}, {}),
    ],
)
def test_levels_with_fewer_than_20_proposals_are_hidden(proposals: dict[str, int], hidden: dict[str, int]) -> None:
    assert hidden_levels(analysis(proposals=proposals)) == hidden
    assert enough(proposals) is any(count >= 20 for count in proposals.values())


def test_a_level_that_nothing_is_pooled_from_has_no_proposal() -> None:
    found = analysis({"0": {"tsd": about(0.1)}, "pool": {"tsd": about(0.2)}}, proposals={"0": 30, "1": 25})
    assert counts(found) == {"0": 30, "1": 25, "pool": 0} and hidden_levels(found) == {"pool": 0}


def test_hidden_levels_are_left_out_everywhere_and_the_whole_stays() -> None:
    peaks = {level: {"sibling": about(0.1), "tsd": about(0.2)} for level in "01"}
    moved = {level: moved_by(0.1, 0.2, count) for level, count in {"all": 37, "0": 30, "1": 7}.items()}
    found = analysis(peaks, moved, dict.fromkeys("01", about(0.1)), {"0": 30, "1": 7})
    left = without(found, hidden_levels(found))
    assert left.displacement is not None and list(left.displacement.levels) == ["all", "0"]
    assert left.displacement.levels["all"] is moved["all"]
    assert list(left.misalignment.maps["gradients"]) == list(left.misalignment.moved["gradients"]) == ["0"]
    assert left.misalignment.proposals == {"0": 30}
    assert list(found.misalignment.maps["gradients"]) == ["0", "1"], "the analysis itself is left as it is"
