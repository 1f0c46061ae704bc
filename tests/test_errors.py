"""What messages show of the values that they name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdlab.errors import listed, shown


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([], {}, ""),
        (["a"], {}, "a"),
        ([1, 2, 3, 4, 5], {}, "1, 2, 3, 4, 5"),
        ([1, 2, 3, 4, 5, 6], {}, "1, 2, 3, 4, 5 and 1 more"),
        (range(5 + 2994), {}, "0, 1, 2, 3, 4 and 2,994 more"),
        ([Path("a/b"), Path("c")], {"most": 1}, "a/b and 1 more"),
        (["a", "b", "c"], {"most": 2, "separator": "; ", "last": "; and "}, "a; b; and 1 more"),
        (["a", "b"], {"separator": "\n- ", "last": "\n… and "}, "a\n- b"),
        (["a", "b"], {"most": 2, "count": 12}, "a, b and 10 more"),
        (["a", "b"], {"count": 2}, "a, b"),
        (["x" * 20, "two\nlines"], {"limit": 8}, "xxxx…xx, two\\n…es"),
        ({"a": 1, "b": 2}, {}, "a, b"),
    ],
)
def test_listed(values: Collection[object], options: dict[str, Any], expected: str) -> None:
    assert listed(values, **options) == expected


@given(st.text(), st.integers(4, 50))
def test_shown_is_one_short_printable_line(text: str, limit: int) -> None:
    found = shown(text, limit)
    assert found.isprintable()
    if text.isprintable():
        assert found == text if len(text) <= limit else len(found) <= limit
