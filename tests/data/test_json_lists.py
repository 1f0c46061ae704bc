"""Lists are read entry by entry, wherever the pieces of the file begin and end, as `json.loads` reads them at once."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdlab.data import json_lists
from tsdlab.data.json_lists import read_lists

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]
NUMBERS = st.integers() | st.floats() | st.sampled_from([1e300, -0.0, 2.5e-7, 10**4000])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=[4, 7, 64, 2**18])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The bytes that are read at once; every place of a short text is then the end of a piece for one of them."""
    monkeypatch.setattr(json_lists, "_PIECE", request.param)
    return request.param


def read(text: bytes) -> tuple[list[tuple[str, bool]] | None, list[Any]]:
    """The keys, and the entries of the list "a"."""
    entries: list[Any] = []
    return read_lists(io.BytesIO(text), {"a": entries.append}), entries


@given(
    content=st.fixed_dictionaries({"a": st.lists(VALUES, max_size=5)}, optional={"b": VALUES, "": VALUES}),
    indent=st.sampled_from([None, 0, 1]),
    ascii_only=st.booleans(),
    encoding=st.sampled_from(ENCODINGS),
    size=st.integers(4, 40),
)
def test_every_value_is_read_as_by_json(
    content: dict[str, Any], indent: int | None, ascii_only: bool, encoding: str, size: int
) -> None:
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode(encoding, "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", size)
        keys, entries = read(text)
    assert repr(entries) == repr(json.loads(text)["a"])  # NaN differs from itself
    assert keys == [(key, isinstance(value, list)) for key, value in content.items()]


@given(
    text=st.lists(
        st.sampled_from([*'{}[],:"\n ', '"a"', '"b"', "12", "-", "1.5e+3", "e", "true", "nul", "NaN", "\\u00", "é"]),
        max_size=14,
    ).map("".join),
    size=st.integers(4, 9),
)
def test_every_fault_is_found_where_json_finds_it(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", size)
        for broken in (text, '{"a": [' + text, '{"a": [{"b": 3}, {}], ' + text):
            try:
                json.loads(broken)
            except json.JSONDecodeError as error:
                if not broken.strip() or "trailing comma" in error.msg:  # newer Pythons name it, and its own place
                    continue
                place = f"malformed JSON at line {error.lineno}, column {error.colno}: "
                with pytest.raises(ValueError, match=place):
                    read(broken.encode())
            else:
                read(broken.encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"[1,\n2", "line 2, column 2"),
        (b'{"a": [1, 2', "line 1, column 12"),
        (b'{"a": [1, 2]', "line 1, column 13"),
        (b'{"a": [1, {"b":\n\n"', "line 3, column 1: Unterminated string"),
        (b'{"a": [1, 2]} {}', "line 1, column 15: Extra data"),
        (b'{"a": [1, 2]}' + bytes(9), "line 1, column 14"),
        (b'"\xe9t\xe9"', "is not UTF-8 at byte 1;"),
        (b'\xef\xbb\xbf{"a": ["' + b"x" * 2000 + b'\xe9"]}', "is not UTF-8 at byte 2,011;"),
        (b'{"a": ["\xc3', "is not UTF-8 at byte 8;"),
        (b"[" * 10**5, "nested too deeply"),
        (b'{"a": ' + b"[" * 10**5, "nested too deeply"),
        (b'{"a": [{"b": ' + b'{"c":' * 10**5, "nested too deeply"),
        (b'{"b": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested too deeply"),
    ],
)
def test_what_is_not_json_is_named(piece: int, text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(text)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 120


@pytest.mark.parametrize("text", ["[]", "[1, [2], {}]", "12", '"a"', "null", '["a", [1]]'])
def test_what_is_no_object_has_no_lists(piece: int, text: str) -> None:
    assert read(text.encode()) == (None, [])


def test_every_list_of_a_repeated_key_is_told(piece: int) -> None:
    assert read(b'{"a": [1], "b": [2], "a": 3, "a": [4]}') == (
        [("a", True), ("b", True), ("a", False), ("a", True)],
        [1, 4],
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_and_numbers_of_thousands_of_digits_are_read(piece: int, encoding: str) -> None:
    text = '{"é": ' + "7" * 5000 + ', "a": [[' + "9" * 5000 + ', 12], {"b": 1, "b": 2, "c": 3, "c": 3}]}'
    _, (numbers, entry) = read(text.encode(encoding))
    assert numbers[1] == 12 and repr(numbers[0]) == "999999999999… (5,000 digits)"
    assert entry.repeated == {"b"} and entry["c"] == 3
