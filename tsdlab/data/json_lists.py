"""A large JSON object of lists, read entry by entry: memory holds one piece of the text, and no more values than one.

The standard library decodes each entry, so that every value is what `json.loads` makes of it. Read in pieces is what
surrounds the entries: the object, its keys, and its lists.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

_PIECE = 2**18  # bytes that are read at once
_MOST_DIGITS = 4300  # of an integer that Python reads
_SPACE = re.compile(r"[ \t\n\r]*")
_REST_OF_NUMBER = 3  # characters: in 1e+5 the number seems to end before the last three, until all of them are read


class RepeatedKeys(dict):
    """A JSON object that gives keys more than once, with different values."""

    repeated: frozenset[str] = frozenset()


class LongInteger:
    """An integer with more digits than Python reads."""

    def __init__(self, digits: str) -> None:
        self._digits = digits

    def __repr__(self) -> str:
        return f"{self._digits[:12]}… ({len(self._digits):,} digits)"


def read_lists(file: BinaryIO, entries: Mapping[str, Callable[[Any], object]]) -> list[tuple[str, bool]] | None:
    """Read a JSON object, and pass every entry of some of its lists on as soon as it is read.

    Args:
        file: UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.
        entries: for some keys of the object, what takes each entry of its list.

    Returns:
        Every key of the object and whether its value is a list, in the order of the file; None if the file is not a
        JSON object.

    Raises:
        ValueError: it is not JSON; the message says where and what to do.
    """
    text = _Text(file)
    try:
        if not text.next_character():
            raise ValueError("is empty; write it again")
        found = None
        if text.next_character() == "{":
            found = _read_object(text, entries)
        else:
            _skip(text)
        if text.next_character():
            raise text.malformed("Extra data")
    except RecursionError:
        raise ValueError("is nested too deeply to be read; remove the nested values") from None
    return found


def _read_object(text: _Text, entries: Mapping[str, Callable[[Any], object]]) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for _ in text.members("}"):
        if text.next_character() != '"':
            raise text.malformed("Expecting property name enclosed in double quotes")
        key = text.value()
        if text.next_character() != ":":
            raise text.malformed("Expecting ':' delimiter")
        text.at += 1
        is_list = text.next_character() == "["
        found.append((key, is_list))
        if is_list and key in entries:
            take = entries[key]
            for _ in text.members("]"):
                take(text.value())
        else:
            _skip(text)
    return found


def _skip(text: _Text) -> None:
    if text.next_character() != "[":
        text.value()
        return
    for _ in text.members("]"):
        text.value()


class _Text:
    """A window on the text of a file.

    Attributes:
        at: where in the window reading goes on.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.at = 0
        self._file, self._window = file, ""
        self._line, self._column = 1, 1  # of the beginning of the window
        self._bytes = file.read(_PIECE)  # that come next
        self._read = 0  # bytes, before these
        encoding = json.detect_encoding(self._bytes)
        if encoding == "utf-8-sig":  # without its mark, so that errors tell the right byte
            encoding, self._read = "utf-8", len(codecs.BOM_UTF8)
            self._bytes = self._bytes[self._read :]
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._is_complete = False

    def next_character(self) -> str:
        """Go to the next character that is no white space; "" at the end."""
        while True:
            match = _SPACE.match(self._window, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self._window):
                return self._window[self.at]
            if not self._read_on():
                return ""

    def members(self, end: str) -> Iterator[None]:
        """Go through a list or an object up to the bracket `end`; at every step, the caller reads one member."""
        self.at += 1
        following = self.next_character()
        while following != end:
            yield
            following = self.next_character()
            if following not in {",", end}:
                raise self.malformed("Expecting ',' delimiter")
            self.at += following == ","
        self.at += 1

    def value(self) -> Any:
        """Read one value."""
        self.next_character()
        while True:
            try:
                value, end = _decode(self._window, self.at)
            except json.JSONDecodeError as error:
                if not self._read_on():
                    raise self.malformed(error.msg, error.pos) from None
                continue
            if len(self._window) - end < _REST_OF_NUMBER and self._read_on():
                continue
            self.at = end
            return value

    def malformed(self, what: str, at: int | None = None) -> ValueError:
        """What is wrong, here or at another place of the window."""
        line, column = self._place(self.at if at is None else at)
        return ValueError(f"malformed JSON at line {line}, column {column}: {what}; write it again")

    def _place(self, at: int) -> tuple[int, int]:
        lines = self._window.count("\n", 0, at)
        return self._line + lines, at - self._window.rfind("\n", 0, at) if lines else self._column + at

    def _read_on(self) -> bool:
        """Add to the window, and take from it what lies before `at`; False, and no change, at the end of the file."""
        unread = len(self._window) - self.at
        new = ""
        while not new and not self._is_complete:
            self._is_complete = not self._bytes
            pending = len(self._decoder.getstate()[0])
            try:
                new = self._decoder.decode(self._bytes, final=self._is_complete)
            except UnicodeDecodeError as error:
                place = self._read - pending + error.start
                raise ValueError(f"is not UTF-8 at byte {place:,}; save it as UTF-8") from None
            self._read += len(self._bytes)
            # At least as much as one value already takes: a long one is tried a few times only.
            self._bytes = self._file.read(max(_PIECE, unread))
        if new:
            self._line, self._column = self._place(self.at)
            self._window, self.at = self._window[self.at :] + new, 0
        return bool(new)


# Values -----------------------------------------------------------------------------------------------------


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    # NaN differs from itself, so that it is never the same value twice.
    repeated = frozenset(key for key, value in pairs if not _same(result[key], value))
    marked = RepeatedKeys(result)
    marked.repeated = repeated
    return marked


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _parse_integer(digits: str) -> int | LongInteger:
    return int(digits) if len(digits) <= _MOST_DIGITS else LongInteger(digits)


_fast = json.JSONDecoder(object_pairs_hook=_object).raw_decode
_patient = json.JSONDecoder(object_pairs_hook=_object, parse_int=_parse_integer).raw_decode


def _decode(text: str, start: int) -> tuple[Any, int]:
    """The value that starts there, and where it ends."""
    try:
        return _fast(text, start)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python refuses integers of thousands of digits; a second, slower reading keeps them apart
        return _patient(text, start)
