"""Columns hold what a list of Python objects holds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdlab.data.columns import IdColumn, NumberColumn, blocks, grouped
from tsdlab.data.values import Id, Ids

EDGES = [
    0,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**62,
    -(2**62),
    -(2**62) - 1,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) + 1,
    10**40,
]
SOME_IDS = (
    st.none() | st.integers(0, 6) | st.sampled_from(EDGES) | st.sampled_from(["", "3", "03", "a", "é", str(2**63)])
)
IDS = st.lists(SOME_IDS, max_size=30)


def column(ids: list[Id | None]) -> IdColumn:
    found = IdColumn()
    for id in ids:
        found.append(id)
    return found


@given(IDS, st.data())
def test_ids_come_back_as_they_are(ids: list[Id | None], data: st.DataObject) -> None:
    assert [*column(ids)] == ids and [*map(type, column(ids))] == [*map(type, ids)]
    kept = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    assert [*column(ids).rows(np.array(kept, bool))] == [id for id, is_kept in zip(ids, kept) if is_kept]
    assert [*column(ids).rows(slice(1, None))] == ids[1:]


@given(IDS)
def test_repeated_ids_are_those_that_came_before(ids: list[Id | None]) -> None:
    assert column(ids).repeated() == [row for row, id in enumerate(ids) if id is not None and id in ids[:row]]


@given(IDS, IDS)
def test_ids_find_what_they_find_one_by_one(wanted: list[Id | None], among: list[Id | None]) -> None:
    one_by_one = [Ids(among).find(id) for id in wanted]
    expected = [rows[0] if len(rows) == 1 else -1 for rows in one_by_one]
    assert column(wanted).find_in(column(among)).tolist() == expected


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("typecode", ["d", "i", "b"])
@given(present=st.lists(st.booleans(), max_size=12))
def test_missing_numbers_have_a_place(width: int, typecode: str, present: list[bool]) -> None:
    column = NumberColumn(typecode, width)
    nothing = np.nan if typecode == "d" else 0
    for row, is_present in enumerate(present, start=1):
        column.append((row if width == 1 else (row,) * width) if is_present else None)
    expected = [[row if is_present else nothing] * width for row, is_present in enumerate(present, start=1)]
    np.testing.assert_array_equal(column.numbers().reshape(-1, width), np.array(expected).reshape(-1, width))
    assert column.numbers().shape == ((len(present),) if width == 1 else (len(present), width))
    assert column.is_empty == (not any(present))


@given(st.lists(st.integers(0, 5), max_size=20))
def test_groups_keep_the_order_within(keys: list[int]) -> None:
    order, ends = grouped(np.array(keys, np.int64), 6)
    groups = [order[start:end].tolist() for start, end in pairwise(ends)]
    assert groups == [[row for row, key in enumerate(keys) if key == group] for group in range(6)]


@pytest.mark.parametrize("length", [0, 1, 8191, 8192, 8193, 20_000])
def test_blocks_are_all_rows(length: int) -> None:
    assert [row for block in blocks(length) for row in range(length)[block]] == [*range(length)]
