"""The entries of an annotation file, judged one at a time and kept as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from tsdlab.data import values
from tsdlab.data.columns import IdColumn, NumberColumn
from tsdlab.data.findings import Findings
from tsdlab.data.json_lists import RepeatedKeys
from tsdlab.data.values import Id, Kind
from tsdlab.errors import shown


class _Column(Protocol):
    def append(self, value: Any) -> None: ...


@dataclass(frozen=True)
class _Field:
    kind: Kind
    column: Callable[[], _Column]
    optional: bool = False  # it may be missing, or null


_CATEGORY = {"id": _Field(values.ID, IdColumn), "name": _Field(values.NAME, list)}
_IMAGE = {
    "id": _Field(values.ID, IdColumn),
    "file_name": _Field(values.FILE_NAME, list),
    "width": _Field(values.PIXELS, partial(NumberColumn, "i")),
    "height": _Field(values.PIXELS, partial(NumberColumn, "i")),
}
_ANNOTATION = {
    "id": _Field(values.ID, IdColumn),
    "image_id": _Field(values.ID, IdColumn),
    "category_id": _Field(values.ID, IdColumn),
    "bbox": _Field(values.BOX, partial(NumberColumn, "d", 4)),
    "area": _Field(values.AREA, partial(NumberColumn, "d"), optional=True),
    "iscrowd": _Field(values.FLAG, partial(NumberColumn, "b"), optional=True),
    "salient_bbox": _Field(values.BOX, partial(NumberColumn, "d", 4), optional=True),
}


class Entries:
    """The entries of one list of an annotation file.

    Attributes:
        columns: the values of every field. Entries with a problem have a place there too.
        problems: what is wrong with entries.
    """

    def __init__(self, noun: str, key: str, fields: Mapping[str, _Field]) -> None:
        self.noun, self.key, self.problems = noun, key, Findings()
        self.columns: dict[str, Any] = {name: field.column() for name, field in fields.items()}
        self._fields = [(name, field.kind, field.optional, self.columns[name].append) for name, field in fields.items()]
        self._valid = bytearray()

    def __len__(self) -> int:
        return len(self._valid)

    @property
    def ids(self) -> IdColumn:
        """The ids of all entries, also of those with a problem."""
        return self.columns["id"]

    @property
    def valid(self) -> np.ndarray:
        """bool `[N]`: which entries have no problem."""
        return np.frombuffer(self._valid, dtype=bool)

    def append(self, entry: Any) -> None:
        """Judge one more entry, and keep its fields."""
        position = len(self._valid)
        if not isinstance(entry, dict):
            self.problems.add(f"{self.key} entry", f"{self.key}[{position}]", f": must be an object, got {_got(entry)}")
            for column in self.columns.values():
                column.append(None)
            self._valid.append(False)
            return
        is_valid = True
        for key, kind, optional, append in self._fields:
            value = entry.get(key)
            if value is None and optional:
                append(None)
                continue
            read = kind.read(value)
            if read is not None and not (type(entry) is RepeatedKeys and key in entry.repeated):
                append(read)
                continue
            append(None)
            is_valid = False
            is_repeated = read is not None
            if is_repeated:
                problem = f'gives "{key}" twice; keep the right one'
            elif key in entry:
                problem = f"{key} must be {kind.name}, got {_got(value)}"
            else:
                problem = f'"{key}" is missing; it must be {kind.name}'
            id = self.ids[position]
            where = f"{self.key}[{position}]" if id is None else self.title(id)
            self.problems.add(f"{self.key} {key} {is_repeated}", where, f": {problem}")
        self._valid.append(is_valid)

    def refuse_repeated_ids(self) -> None:
        """Judge the ids, after the last entry: they must be unique."""
        for position in self.ids.repeated():
            self._valid[position] = False
            self.add("twice", self.ids[position], "its id is given twice; ids must be unique")

    def add(self, kind: str, id: Id, problem: str) -> None:
        """Add a problem of the entry with this id."""
        self.problems.add(f"{self.noun} {kind}", self.title(id), f": {problem}")

    def title(self, id: Id) -> str:
        """What messages call the entry with this id."""
        return f"{self.noun} {shown(repr(id), 80)}"


def no_entries() -> tuple[Entries, Entries, Entries]:
    """Categories, images and annotations, before the first entry."""
    return (
        Entries("category", "categories", _CATEGORY),
        Entries("image", "images", _IMAGE),
        Entries("annotation", "annotations", _ANNOTATION),
    )


def _got(value: Any) -> str:
    return shown(repr(value), 80)
