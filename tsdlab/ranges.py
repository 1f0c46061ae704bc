"""Allowed values are declared beside the fields that they bound, and one function checks them.

    @dataclass(frozen=True)
    class Schedule:
        steps: Annotated[int, Range(1, 10**6)] = 1000
        milestones: tuple[InnerFraction, ...] = (0.5,)

        def __post_init__(self) -> None:
            check_fields(self, "schedule.")

`Schedule(steps=0)` raises "schedule.steps must be a whole number from 1 to 1,000,000, got 0".

Upper bounds are far beyond anything useful. They keep numbers within what torch and numpy can hold.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from tsdlab.errors import InputError


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`. Both are finite, so NaN and infinity are in no range."""

    low: float
    high: float
    low_excluded: bool = False
    high_excluded: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_excluded else value >= self.low
        below = value < self.high if self.high_excluded else value <= self.high
        return above and below

    def __str__(self) -> str:
        low, high = (f"{bound:,}" if isinstance(bound, int) else f"{bound:g}" for bound in (self.low, self.high))
        if not self.low_excluded and not self.high_excluded:
            return f"from {low} to {high}"
        lower = "above" if self.low_excluded else "at least"
        upper = "below" if self.high_excluded else "at most"
        return f"{lower} {low} and {upper} {high}"


@dataclass(frozen=True)
class NotEmpty:
    """At least one element of a tuple, or one character of a text."""


T = TypeVar("T")

NonEmptyText = Annotated[str, NotEmpty()]
NonEmptyTuple = Annotated[tuple[T, ...], NotEmpty()]

Count = Annotated[int, Range(1, 10**9)]
CountOrZero = Annotated[int, Range(0, 10**9)]
BatchSize = Annotated[int, Range(1, 2**16)]  # images
ImageSide = Annotated[int, Range(32, 2**16)]  # pixels; 32 is one cell of the usual coarsest map
Side = Annotated[int, Range(1, 2**16)]  # pixels of an image before it is resized
Channels = Annotated[int, Range(1, 2**16)]
Workers = Annotated[int, Range(0, 256)]  # processes
Seed = Annotated[int, Range(0, 2**63 - 1)]

Fraction = Annotated[float, Range(0, 1)]
PositiveFraction = Annotated[float, Range(0, 1, low_excluded=True)]
FractionBelowOne = Annotated[float, Range(0, 1, high_excluded=True)]
InnerFraction = Annotated[float, Range(0, 1, low_excluded=True, high_excluded=True)]
Factor = Annotated[float, Range(0, 10**6)]
PositiveFactor = Annotated[float, Range(1e-6, 10**6)]  # in 32 bits, division by much less overflows


def check_fields(config: Any, prefix: str = "", separator: str = "_") -> None:
    """Check every field of a dataclass against its declared type and range.

    Args:
        config: an instance of a dataclass.
        prefix: goes before the names of the fields in messages.
        separator: stands between the words of a name in messages; the command line writes "--batch-size".

    Raises:
        InputError: a value has another type or is out of range; names the field, what is allowed, and the value.
    """
    cls: Any = type(config)
    for name, hint in _hints(cls).items():
        check_value(prefix + name.replace("_", separator), getattr(config, name), hint)


def check_value(name: str, value: Any, hint: Any) -> None:
    """Check one value, such as an argument, against a declared type and range.

        check_value("batch_size", batch_size, BatchSize)

    Raises:
        InputError: as for `check_fields`; calls the value `name`.
    """
    found = _violation(value, hint)
    if found is not None:
        raise InputError(f"{name}{found.place} must be {found.allowed}, got {_shown(found.value)}")


class _Violation(NamedTuple):
    """A value that its declaration does not allow."""

    place: str  # of the value within the field: "", or such as "[1]"
    allowed: str
    value: Any


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _violation(value: Any, hint: Any) -> _Violation | None:
    """The first part of `value` that `hint` does not allow."""
    bare, *markers = typing.get_args(hint) if typing.get_origin(hint) is Annotated else [hint]
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin in (typing.Union, types.UnionType):
        violations = [_violation(value, declared) for declared in arguments if declared is not types.NoneType]
        if None in violations or (value is None and types.NoneType in arguments):
            return None
        allowed = " or ".join(found.allowed for found in violations if found is not None)
        optional = ", or None" if types.NoneType in arguments else ""
        # The place of a part is that within the one type that has parts.
        found = next(found for found in violations if found is not None)
        return found._replace(allowed=allowed + optional)
    if isinstance(value, tuple | str) and not value and NotEmpty() in markers:
        return _Violation("", "not empty", value)
    if origin is tuple:
        return _tuple_violation(value, arguments)
    if origin is Literal:
        return None if isinstance(value, str) and value in arguments else _Violation("", _choices(arguments), value)
    ranges = [marker for marker in markers if isinstance(marker, Range)]
    if _has_type(value, bare) and all(value in range_ for range_ in ranges):
        return None
    return _Violation("", " ".join([_NAMES.get(bare, f"a {bare.__name__}"), *map(str, ranges)]), value)


def _tuple_violation(value: Any, hints: tuple[Any, ...]) -> _Violation | None:
    """`hints` are those of the elements; (hint, ...) stands for any number of them."""
    if not isinstance(value, tuple):
        return _Violation("", "a tuple", value)
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        return _Violation("", f"a tuple of {len(hints)} values", value)
    for index, (element, hint) in enumerate(zip(value, hints)):
        found = _violation(element, hint)
        if found is not None:
            return found._replace(place=f"[{index}]{found.place}")
    return None


_NAMES = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def _has_type(value: Any, declared: type) -> bool:
    if isinstance(value, bool):  # which Python counts among the integers
        return declared is bool
    return isinstance(value, int | float if declared is float else declared)


def _choices(values: tuple[str, ...]) -> str:
    return f"one of {', '.join(map(repr, values))}"


def _shown(value: Any) -> str:
    """`value` on one line, shortened."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not print integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:79]}…"
