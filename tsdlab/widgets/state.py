"""The state of a widget: named values, each with a default and a rule that says what it may be.

A state is declared once, as a class of fields. The same names can be read, set and observed from Python, are sent to
the page, and are written into the line of Python that shows the same view again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

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

    def call(self, function: str, *arguments: str) -> str:
        """A line of Python that calls `function` with `arguments` and with every field that has not its default."""
        usual = {name: self.trait_defaults(name) for name in self.fields()} | dict(self._usual)
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


def one_of(allowed: Allowed, optional: bool = False) -> Rule:
    """One of the allowed strings, or None if `optional`."""

    def rule(name: str, value: Any, state: Any) -> str | None:
        known = allowed(state) if callable(allowed) else allowed
        if (optional and value is None) or (isinstance(value, str) and value in known):
            return value
        listed = shown(", ".join(map(shown_value, known)), 600)
        raise InputError(f"{name} must be {'None or ' if optional else ''}one of {listed}; got {shown_value(value)}")

    return rule


def some_of(allowed: Sequence[str]) -> Rule:
    """Any of the allowed strings, as a tuple in the order of `allowed`."""

    def rule(name: str, value: Any, state: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence) or any(entry not in allowed for entry in value):
            raise InputError(
                f"{name} must be a list of some of {', '.join(map(repr, allowed))}; got {shown_value(value)}"
            )
        return tuple(entry for entry in allowed if entry in value)

    return rule


def number(low: float, high: float) -> Rule:
    """A number from `low` to `high`, both included."""

    def rule(name: str, value: Any, state: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= value <= high:
            raise InputError(f"{name} must be a number in {low}…{high}, got {shown_value(value)}")
        return float(value)

    return rule


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
