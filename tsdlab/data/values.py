"""Values of an annotation file as what they mean: numbers, ids, flags, names and boxes.

JSON files in the wild hold "12.5" for 12.5 and "0" for false. Here, and only here, such a value is turned into the one
thing that it can mean. A value without one meaning (true as a width, NaN, 1e400) is None: the caller names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Id = int | str

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_EXACT = 2**53  # from here on, not every integer is a float
_MOST_DIGITS = 4300  # of an integer that Python reads
_MOST_PIXELS = 10**6
_MOST_AREA = 10**10  # pixels²; COCO's AP leaves larger objects out, and is NaN if there is no other


@dataclass(frozen=True)
class Kind:
    """What a field holds: how it is read, and what an error calls it."""

    read: Callable[[Any], Any]
    name: str


def number(value: Any) -> float | None:
    """A finite number, also as text."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        return None
    return float(value)


def area(value: Any) -> float | None:
    """A number of pixels², 0…10,000,000,000."""
    found = number(value)
    return found if found is not None and 0 <= found <= _MOST_AREA else None


def pixels(value: Any) -> int | None:
    """A whole number of pixels, 1…1,000,000, also as text or as a float."""
    found = number(value)
    if found is None or not found.is_integer() or not 1 <= found <= _MOST_PIXELS:
        return None
    return int(found)


def flag(value: Any) -> bool | None:
    """True or False, also as 1 or 0 and as text; null is False."""
    if value is None:
        return False
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), number(value))
    return bool(value) if value in (0, 1) else None


def identifier(value: Any) -> Id | None:
    """An id: an integer of any size, or a text. A float that is exactly an integer is that integer."""
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def name(value: Any) -> str | None:
    """A text that is not empty."""
    return (_unicode(value) or None) if isinstance(value, str) else None


def file_name(value: Any) -> str | None:
    """A text that can be the path of a file, also of one whose name is not UTF-8."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return None
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return None
    return value


def box(value: Any) -> tuple[float, ...] | None:
    """Four finite numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [number(one) for one in value]
    return None if None in numbers else tuple(numbers)  # type: ignore[arg-type]


AREA = Kind(area, f"a number of pixels² from 0 to {_MOST_AREA:,}, the largest that AP counts")
PIXELS = Kind(pixels, f"a whole number of pixels from 1 to {_MOST_PIXELS:,}")
FLAG = Kind(flag, "0 or 1")
ID = Kind(identifier, "an integer or text")
NAME = Kind(name, "text, not empty")
FILE_NAME = Kind(file_name, "the name of a file")
BOX = Kind(box, "four numbers [x, y, width, height]")


class Ids:
    """The ids of one list, to look up what other parts of a file, or of the results, call by them.

    A number that is given as text finds the number, and the other way round, if exactly one id can be meant.
    """

    def __init__(self, ids: Iterable[Id | None]) -> None:
        self._positions: dict[Id, int] = {}  # the first, of those that are given twice
        for position, id in enumerate(ids):
            if id is not None:
                self._positions.setdefault(id, position)

    def find(self, id: Id | None) -> list[int]:
        """The positions in the list that an id can mean: one, if it is right; none, if it is not there, or is None."""
        if id is None:
            return []
        exact = self._positions.get(id)
        if exact is not None:
            return [exact]
        as_number = _integer(id)
        return [] if as_number is None else self._by_number.get(as_number, [])

    @cached_property
    def _by_number(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for id, position in self._positions.items():
            as_number = _integer(id)
            if as_number is not None:
                found.setdefault(as_number, []).append(position)
        return found


def id_order(id: Id) -> tuple[bool, Id]:
    """The sort key of ids: numbers by their value, then texts."""
    return isinstance(id, str), id


def _integer(id: Id) -> int | None:
    if isinstance(id, int):
        return id
    return int(id) if _INTEGER.fullmatch(id) and len(id) <= _MOST_DIGITS else None


def _unicode(text: str) -> str | None:
    """`text`, or None if it holds half a surrogate pair, which cannot be printed or written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
