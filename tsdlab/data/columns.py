"""Fields of many entries as columns: eight bytes for a number, where a list of Python objects takes forty and more.

Every column has a place for each entry, also for one whose value is missing (None).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from tsdlab.data.values import Id, Ids

_MISSING = -(2**63)
_LEAST = -(2**62)  # smaller codes are places in the table
_BLOCK = 2**13  # rows that are worked on at once, where the intermediate results of all would be larger than these


def blocks(length: int) -> Iterator[slice]:
    """All rows of columns, a few at a time."""
    return (slice(start, start + _BLOCK) for start in range(0, length, _BLOCK))


def grouped(keys: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows by their keys 0…`groups` - 1; rows with the same key stay in their order.

    Returns:
        The rows `[N]`, and `[groups + 1]` ends: the rows of key k are those from `ends[k]` to before `ends[k + 1]`.
    """
    is_sorted = bool((keys[1:] >= keys[:-1]).all())
    order = np.arange(len(keys), dtype=np.int32) if is_sorted else np.argsort(keys, kind="stable").astype(np.int32)
    ordered = keys if is_sorted else keys[order]
    return order, np.searchsorted(ordered, np.arange(groups + 1), side="left")


class NumberColumn:
    """One number for each entry, or `width` of them. Missing ones are NaN, or 0 in a column of integers."""

    def __init__(self, typecode: str, width: int = 1) -> None:
        self._values: array = array(typecode)
        self._width = width
        self._nothing = (float("nan") if typecode == "d" else 0,) * width
        self._leading = 0  # missing values at the beginning: a column of no others takes no memory

    def append(self, value: float | tuple[float, ...] | None) -> None:
        if value is None:
            if self.is_empty:
                self._leading += 1
                return
            value = self._nothing
        elif self.is_empty:
            self._values.extend(self._nothing * self._leading)
        if isinstance(value, tuple):
            self._values.extend(value)
        else:
            self._values.append(value)

    @property
    def is_empty(self) -> bool:
        """Whether all values are missing."""
        return not self._values

    def numbers(self) -> np.ndarray:
        """`[N]`, or `[N, width]`; shares memory with the column, which cannot grow any more."""
        values = np.asarray(self._values)
        if self.is_empty:
            values = np.full(self._leading * self._width, self._nothing[0], values.dtype)
        return values if self._width == 1 else values.reshape(-1, self._width)


class IdColumn(Sequence):
    """Ids of any type and size. What is no integer of 63 bits is stored once, and numbered."""

    def __init__(self) -> None:
        self._codes = array("i")  # "q" as soon as one needs it
        self._numbers: dict[Id, int] = {}  # of texts and of large integers
        self._table: list[Id] = []

    def append(self, id: Id | None) -> None:
        if id is None:
            code = _MISSING
        elif isinstance(id, int) and _LEAST <= id < 2**63:
            code = id
        else:
            code = self._numbers.setdefault(id, _MISSING + 1 + len(self._table))
            if code == _MISSING + 1 + len(self._table):
                self._table.append(id)
        try:
            self._codes.append(code)
        except OverflowError:
            self._codes = array("q", self._codes)
            self._codes.append(code)

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, row):
        """The id of an entry; None if it has none."""
        return self._id(self._codes[row])

    def _id(self, code: int) -> Id | None:
        if code >= _LEAST:
            return code
        return None if code == _MISSING else self._table[code - _MISSING - 1]

    def rows(self, which: slice | np.ndarray) -> IdColumn:
        """A column of some of the entries."""
        found = IdColumn()
        found._codes = array(self._codes.typecode, np.asarray(self._codes)[which].tobytes())
        found._numbers, found._table = self._numbers, self._table
        return found

    def repeated(self) -> list[int]:
        """Rows whose id an earlier row has, in order."""
        codes = np.asarray(self._codes)
        ordered = np.sort(codes)
        if not ((ordered[1:] == ordered[:-1]) & (ordered[1:] != _MISSING)).any():
            return []
        order = np.argsort(codes, kind="stable")
        ordered = codes[order]
        return sorted(order[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] != _MISSING)].tolist())

    def find_in(self, other: IdColumn) -> np.ndarray:
        """int32 `[N]`: the row of `other` that each id means, as `Ids` finds it; -1 if it is not exactly one."""
        codes, targets = np.asarray(self._codes), np.asarray(other._codes)
        order = np.argsort(targets, kind="stable")
        ordered = targets[order]
        found = np.full(len(codes), -1, np.int32)
        if not len(targets):
            return found
        for rows in blocks(len(codes)):
            places = np.searchsorted(ordered, codes[rows]).clip(max=len(ordered) - 1)
            is_same = (ordered[places] == codes[rows]) & (codes[rows] >= _LEAST)
            found[rows][is_same] = order[places[is_same]]
        # What is left, once for each id: texts, large integers, and what is not there as it is written.
        left = np.flatnonzero(found < 0)
        if len(left):
            ids = Ids(other)
            different, which = np.unique(codes[left], return_inverse=True)
            meant = [ids.find(self._id(code)) for code in different.tolist()]
            found[left] = np.array([rows[0] if len(rows) == 1 else -1 for rows in meant], np.int32)[which]
        return found
