"""What the report says in sentences is what its numbers show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from analyses import about, analysis, moved_by
from hypothesis import given
from hypothesis import strategies as st

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.statistics import NOTHING, Estimate
from tsdlab.report.verdict import NO_DIFFERENCE, compared, plain, verdict


def said(of: Analysis) -> list[str]:
    return [plain(sentence) for sentence in verdict(of)]


TWO = {"0": {"sibling": about(0.278), "tsd": about(0.286)}}


@pytest.mark.parametrize(
    ("difference", "end"),
    [
        (about(0.008, 0.02), ": no difference shown."),
        (about(0.008, 0.008), ": no difference shown."),  # the interval ends at 0
        (about(0.008, 0.007), ": farther apart in tsd."),
        (about(-0.008, 0.007), ": closer in tsd."),
        (about(0.0004, 0.0001), ": the same when rounded."),
        (about(0.008, 0.0), ": too few images to compare."),
        (NOTHING, " apart."),
    ],
)
def test_two_numbers_come_with_what_their_difference_shows(difference: Estimate, end: str) -> None:
    sentence = said(analysis(TWO, differences={"0": difference}, proposals={"0": 50}))[-1]
    assert "27.8% (sibling) and 28.6% (tsd) of the object’s size apart" in sentence and sentence.endswith(end)


def test_one_branch_is_compared_with_none() -> None:
    sentence = said(analysis({"0": {"sibling": about(0.278)}}, proposals={"0": 50}))[-1]
    assert sentence == "The best places of the two tasks are 27.8% of the object’s size apart."


def test_peaks_are_those_of_the_level_with_most_objects() -> None:
    peaks = {"0": {"tsd": about(0.1, count=9)}, "1": {"tsd": about(0.2, count=11)}, "2": {"tsd": NOTHING}}
    assert "are 20.0% of" in said(analysis(peaks))[-1]


@pytest.mark.parametrize(
    ("classification", "localization", "sentence"),
    [
        (0.18, 0.15, "Displacement of classification 18.0%, of localization 15.0% of P: classification is moved "
                     "farther."),
        (0.1, 0.15, "Displacement of classification 10.0%, of localization 15.0% of P: localization is moved "
                    "farther."),
        (0.15, 0.155, "Displacement of classification 15.0%, of localization 15.5% of P: no difference shown."),
        (None, 0.114, "Displacement of localization 11.4% of P; classification reads P itself."),
        (0.2, None, "Displacement of classification 20.0% of P; localization reads P itself."),
        (0.0, 0.0004, "Displacement of classification 0.0%, of localization <0.1% of P: no difference shown."),
    ],
)  # fmt: skip
def test_displacement_is_told_for_each_task(
    classification: float | None, localization: float | None, sentence: str
) -> None:
    found = analysis(moved={"all": moved_by(classification, localization)})
    assert said(found) == [sentence]
    coloured = {task: text for text, task in verdict(found)[0] if task}
    assert set(coloured) == {"classification", "localization"} and all(task in coloured[task] for task in coloured)


def test_a_head_that_moves_nothing_and_a_head_without_proposals_are_told_apart() -> None:
    assert said(analysis(proposals={"0": 3})) == ["Both tasks read the proposal P itself: this head moves nothing."]
    assert said(analysis()) == ["No proposal overlaps an object enough to measure a displacement."]


def test_the_salient_part_is_told_where_it_is_marked() -> None:
    found = analysis(TWO, differences={"0": about(0.1)})
    name = "classification_energy_on_salient"
    level = found.misalignment.maps["gradients"]["0"]
    level["sibling"][name], level["tsd"][name] = about(2.0), about(3.42)
    found.misalignment.moved["gradients"]["0"][name] = about(1.4)
    assert said(found)[-1] == (
        "Classification depends 2.0 (sibling) and 3.4 (tsd) times as much on the salient part as on an average place: "
        "more in tsd."
    )
    maps = {"gradients": {"0": {branch: {**row, name: NOTHING} for branch, row in level.items()}}}
    unmarked = Analysis(replace(found.misalignment, maps=maps), None)
    assert not any("salient" in sentence for sentence in said(unmarked))


numbers = st.floats(-2, 2, allow_nan=False)


@given(numbers, numbers, numbers)
def test_a_difference_is_claimed_only_if_its_interval_leaves_zero_out(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    word = compared(Estimate(value, low, high, 5), "more", "less")
    assert word != "" and (word == NO_DIFFERENCE) == (low <= 0 <= high)
    if word in ("more", "less"):
        assert low < high and (word == "more") == (value > 0)
