"""A value of an annotation file is what it means, or has no meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdlab.data import values
from tsdlab.data.values import Ids

NO_NUMBER = [True, None, "", "abc", "NaN", "inf", "1_0", "1,5", "0x1", "٣", float("nan"), float("inf"), 10**400, [], {}]
NO_ID = [True, None, 1.5, float("nan"), 1e17, 2.0**53, [], {}, "\ud800"]


@given(st.floats(-1e290, 1e290, allow_nan=False) | st.integers(-(10**18), 10**18))
def test_a_number_and_its_text_are_the_same(value: float) -> None:
    assert values.number(value) == values.number(repr(value)) == values.number(f" {value!r} ") == float(value)


@given(st.integers() | st.text(st.characters(codec="utf-8")))
def test_ids_stay_what_they_are(id: int | str) -> None:
    read = values.identifier(json.loads(json.dumps(id)))
    assert read == id and type(read) is type(id)


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_float_that_is_an_integer_is_that_id(id: int) -> None:
    assert values.identifier(float(id)) == id


@pytest.mark.parametrize("value", NO_NUMBER, ids=lambda value: repr(value)[:20])
def test_what_is_no_number(value: Any) -> None:
    assert values.number(value) is values.pixels(value) is values.box([1, 2, value, 4]) is None


@pytest.mark.parametrize("value", NO_ID, ids=repr)
def test_what_is_no_id(value: Any) -> None:
    assert values.identifier(value) is None


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        *[(value, False) for value in (0, 0.0, -0.0, False, None, "0", "0.0", "false", "False")],
        *[(value, True) for value in (1, 1.0, True, "1", "true", "TRUE")],
        *[(value, None) for value in (2, -1, 0.5, "yes", "", [], {}, float("nan"), "NaN")],
    ],
)
def test_flags(value: Any, meaning: bool | None) -> None:
    assert values.flag(value) is meaning


@given(st.floats(-1e12, 1e12) | st.sampled_from([0, 1e10, "1e10", 10**10 + 1, 1.00001e10, -1e-9, 1e299]))
def test_an_area_is_one_that_the_evaluation_counts(value: float | str) -> None:
    expected = float(value) if 0 <= float(value) <= 1e5**2 else None
    assert values.area(value) == expected


@given(st.lists(st.integers(0, 10**30), min_size=1, unique=True), st.data())
def test_an_id_as_text_finds_the_number_and_the_other_way_round(ids: list[int], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(ids) - 1))
    assert Ids(ids).find(str(ids[position])) == Ids([*map(str, ids)]).find(ids[position]) == [position]  # type: ignore[list-item]
    assert Ids(ids).find(max(ids) + 1) == Ids(ids).find("x") == []


def test_an_id_with_several_meanings_finds_them_all_unless_one_is_the_same() -> None:
    assert Ids(["7", "07"]).find(7) == [0, 1]
    assert Ids(["7", "07", 7]).find(7) == [2] and Ids(["7", 7]).find("7") == [0]
