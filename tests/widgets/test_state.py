"""The state of a widget without a widget: what is kept, what is refused, and how it is written down."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdlab.errors import InputError
from tsdlab.widgets.state import Field, State, index, number, one_of, some_of


class Pot(State):
    """A state with one field of each kind; its choices are a list of names."""

    lid = Field("open", one_of(("open", "closed")))
    owner = Field(None, one_of(lambda state: state.choices, optional=True))
    heat = Field(0.0, number(0, 10))
    contents = Field(("salt",), some_of(("water", "salt", "rice")))
    place = Field(0, index(lambda state: len(state.choices)))


@pytest.fixture
def pot():
    made = Pot()
    made._begin(["Ada", "Bea"], place=1)
    return made


def test_fields_are_listed_and_set_in_the_order_of_their_declaration(pot):
    assert Pot.fields() == ("lid", "owner", "heat", "contents", "place")
    seen = []
    pot.observe(lambda change: seen.append(change["name"]), Pot.fields())
    pot.assign({"heat": 3, "owner": "Ada", "contents": ["rice", "water"]})
    assert seen == ["owner", "heat", "contents"]
    assert pot.contents == ("water", "rice")  # in the order of what is allowed; a list of the page is a tuple here


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("lid", "shut", "lid must be one of 'open', 'closed'; got 'shut'"),
        ("lid", None, "lid must be one of"),
        ("lid", ["open"], "lid must be one of"),
        ("owner", "Cleo", "owner must be None or one of 'Ada', 'Bea'; got 'Cleo'"),
        ("heat", 11, "heat must be a number in 0…10, got 11"),
        ("heat", math.nan, "heat must be a number"),
        ("heat", True, "heat must be a number"),
        ("contents", "salt", "contents must be a list"),
        ("contents", ["sand"], "some of 'water', 'salt', 'rice'"),
        ("contents", [["salt"]], "contents must be a list"),
        ("place", 2, "place must be a whole number in 0…1, got 2"),
        ("place", 0.0, "place must be a whole number"),
        ("place", None, "place must be a whole number"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_and_leaves_the_state_as_it_was(pot, name, value, says):
    before = {field: getattr(pot, field) for field in Pot.fields()}
    with pytest.raises(InputError, match=says):
        setattr(pot, name, value)
    assert {field: getattr(pot, field) for field in Pot.fields()} == before


def test_a_mistyped_name_is_refused_with_the_names_that_exist(pot):
    with pytest.raises(InputError, match="Pot has no 'heet'; what can be set is lid, owner, heat, contents, place"):
        pot.heet = 3
    with pytest.raises(InputError, match="Pot has no 'heet'"):
        pot.assign({"heat": 3, "heet": 3})
    assert pot.heat == 0 and not hasattr(pot, "heet")


def test_only_what_differs_from_the_default_is_written_down(pot):
    assert pot.call("cook", "meal") == "cook(meal)"  # place is 1, the default of this data
    pot.assign({"place": 0, "lid": "closed"})
    assert pot.call("cook", "meal") == "cook(meal, lid='closed', place=0)"


@given(st.floats(0, 10) | st.integers(0, 10) | st.floats(0, 10).map(np.float64))
def test_every_number_in_the_range_is_kept_as_a_float(value):
    pot = Pot()
    pot._begin([])
    pot.heat = value
    assert type(pot.heat) is float and pot.heat == value
