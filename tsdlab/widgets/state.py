"""The state of a widget: named values, each with a default and a rule that says what it may be.

A state is declared once, as a class of fields. The same names can be read, set and observed from Python, are sent to
the page, and are written into the line of Python that shows the same view again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from traitlets import HasTraits, TraitType

from tsdlab.errors import InputError, shown, shown_value

# (name, value, state) → the value as it is kept; raises InputError if the value is not allowed.
Rule = Callable[[str, Any, Any], Any]
# The allowed values themselves, or a function that finds them from the state.
Allowed = Sequence[str] | Callable[[Any], Sequence[str]]


class Field(TraitType):
    """One value of a state: a trait that is sent to the page.

    A value that the rule refuses raises InputError and is not kept. (The kinds of traitlets raise TraitError, which is
    not a ValueError.)

    Args:
        default: used until another value is set; the rule is not applied to it.
        rule: checks every value that is set.
    """

    def __init__(self, default: Any, rule: Rule) -> None:
        super().__init__(default)
        self.rule = rule
        self.tag(sync=True)

    def get(self, state: Any, cls: Any = None) -> Any:
        state._ready()
        return super().get(state, cls)

    def set(self, state: Any, value: Any) -> None:
        state._ready()
        super().set(state, value)

    def validate(self, state: State, value: Any) -> Any:
        return value if state.choices is None else self.rule(self.name or "", value, state)


class State(HasTraits):
    """Values that can be read, set and observed. Any other public name is refused when it is set.

    Attributes:
        choices: what the rules of the fields can look up, such as the number of images. Until `_begin` sets it, the
            state has its defaults.
    """

    choices: Any = None
    _usual: Mapping[str, Any] = MappingProxyType({})

    def _begin(self, choices: Any, **usual: Any) -> None:
        """Start to apply the rules. `usual` are the defaults that depend on the data; they are set now."""
        for name in self.fields():
            getattr(self, name)  # a default is made when it is first read, and is not for the rules to check
        self.choices = choices
        self._usual = usual
        for name, value in usual.items():
            setattr(self, name, value)

    def _ready(self) -> None:
        """Called before a field is read or set, for a state that finds its first values only when they are used."""

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """The names of all fields, in the order in which they are declared."""
        declared = (vars(parent).items() for parent in reversed(cls.__mro__))
        return tuple(name for items in declared for name, value in items if isinstance(value, Field))

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set several fields, in the order in which they are declared: all of them or, if one is refused, none.

        Raises:
            InputError: there is no field of a name, or a value is not allowed.
        """
        self._check_names(values)
        before = {name: getattr(self, name) for name in self.fields()}
        try:
            for name in self.fields():
                if name in values:
                    setattr(self, name, _frozen(values[name]))
        except InputError:
            self._restore(before)
            raise

    def _restore(self, values: Mapping[str, Any]) -> None:
        """Set all fields to values that they have had together, whatever the rules say on the way."""
        choices, self.choices = self.choices, None
        try:
            with self.hold_trait_notifications():
                for name, value in values.items():
                    setattr(self, name, value)
            for name, value in values.items():  # those that others have reset
                setattr(self, name, value)
        finally:
            self.choices = choices

    def usual(self) -> dict[str, Any]:
        """The default of every field, also where it depends on the data."""
        return {name: self.trait_defaults(name) for name in self.fields()} | dict(self._usual)

    def rules(self) -> dict[str, dict[str, Any]]:
        """The rules of the fields, for a page that checks by itself; those that only Python knows are left out."""
        declared = {name: getattr(type(self), name).rule for name in self.fields()}
        return {name: rule.tell(self) for name, rule in declared.items() if hasattr(rule, "tell")}

    def call(self, function: str, *arguments: str) -> str:
        """A line of Python that calls `function` with `arguments` and with every field that has not its default."""
        usual = self.usual()
        changed = [f"{name}={value!r}" for name in self.fields() if (value := getattr(self, name)) != usual[name]]
        return f"{function}({', '.join([*arguments, *changed])})"

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise self._no_field(name)
        super().__setattr__(name, value)

    def _check_names(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.fields():
                raise self._no_field(name)

    def _no_field(self, name: str) -> InputError:
        return InputError(
            f"{type(self).__name__} has no {shown_value(name)}; what can be set is {', '.join(self.fields())}"
        )


def _frozen(value: Any) -> Any:
    """Lists, which JSON has in place of tuples, as tuples."""
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value


# Rules ------------------------------------------------------------------------------------------------------------


class Told(Protocol):
    """A rule that can also be told to a page, which then checks by itself: widgets/saved/rules.js."""

    def __call__(self, name: str, value: Any, state: Any) -> Any: ...

    def tell(self, state: Any) -> dict[str, Any]:
        """Plain values for JSON."""


@dataclass(frozen=True)
class _OneOf:
    allowed: Allowed
    optional: bool

    def tell(self, state: Any) -> dict[str, Any]:
        known = self.allowed(state) if callable(self.allowed) else self.allowed
        return {"one_of": list(known), "optional": self.optional}

    def __call__(self, name: str, value: Any, state: Any) -> str | None:
        known = self.tell(state)["one_of"]
        if (self.optional and value is None) or (isinstance(value, str) and value in known):
            return value
        listed = shown(", ".join(map(shown_value, known)), 600)
        none = "None or " if self.optional else ""
        raise InputError(f"{name} must be {none}one of {listed}; got {shown_value(value)}")


@dataclass(frozen=True)
class _SomeOf:
    allowed: Sequence[str]

    def tell(self, state: Any) -> dict[str, Any]:
        return {"some_of": list(self.allowed)}

    def __call__(self, name: str, value: Any, state: Any) -> tuple[str, ...]:
        known = self.allowed
        if isinstance(value, str) or not isinstance(value, Sequence) or any(entry not in known for entry in value):
            raise InputError(
                f"{name} must be a list of some of {', '.join(map(repr, known))}; got {shown_value(value)}"
            )
        return tuple(entry for entry in known if entry in value)


@dataclass(frozen=True)
class _Number:
    low: float
    high: float

    def tell(self, state: Any) -> dict[str, Any]:
        return {"number": [self.low, self.high]}

    def __call__(self, name: str, value: Any, state: Any) -> float:
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            raise InputError(f"{name} must be a number in {self.low}…{self.high}, got {shown_value(value)}")
        return float(value)


def one_of(allowed: Allowed, optional: bool = False) -> Told:
    """One of the allowed strings, or None if `optional`."""
    return _OneOf(allowed, optional)


def some_of(allowed: Sequence[str]) -> Told:
    """Any of the allowed strings, as a tuple in the order of `allowed`."""
    return _SomeOf(allowed)


def number(low: float, high: float) -> Told:
    """A number from `low` to `high`, both included."""
    return _Number(low, high)


def index(length: Callable[[Any], int], optional: bool = False) -> Rule:
    """A whole number from 0 to `length(state)` − 1, or None if `optional`."""

    def rule(name: str, value: Any, state: Any) -> int | None:
        if optional and value is None:
            return None
        count = length(state)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < count:
            allowed = f"{'None or ' if optional else ''}a whole number in 0…{count - 1}"
            raise InputError(f"{name} must be {allowed}, got {shown_value(value)}")
        return int(value)

    return rule
