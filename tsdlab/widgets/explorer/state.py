"""The state of an explorer: what can be read, set and observed, from Python and from the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tsdlab.analysis.proposal import valid_box
from tsdlab.errors import InputError, shown, shown_value
from tsdlab.widgets.explorer.gallery import SIZES
from tsdlab.widgets.state import Field, State, index, number, one_of, some_of

if TYPE_CHECKING:
    from tsdlab.widgets.explorer.session import Session

# What is drawn over the image. "salient" is the part that shows the class of an object, if the data says so.
LAYERS = ("truth", "salient", "classification", "localization", "decoded")
ORDERS = ("file", "disagreement")
TASKS = ("classification", "localization")
# Which arrows lead from the proposal to where it is read: one for each task; one for every bin; or those of the bins
# without the pattern that all proposals have in common.
ARROWS = ("summary", "all", "own")


def _category(name: str, value: Any, state: ExplorerState) -> str | None:
    one_of(state.choices.gallery.names, optional=True)(name, value, state)
    _check_filter(value, state.size, state.choices)
    return value


def _size(name: str, value: Any, state: ExplorerState) -> str | None:
    one_of(SIZES, optional=True)(name, value, state)
    _check_filter(state.category, value, state.choices)
    return value


def _check_filter(category: str | None, size: str | None, session: Session) -> None:
    if not session.gallery.passing(category, size):
        wanted = " and ".join(
            f"{what} {value}" for what, value in (("class", category), ("size", size)) if value is not None
        )
        raise InputError(f"no image has an object of {wanted}")


def _step(name: str, value: Any, state: ExplorerState) -> int | None:
    steps = state.choices.steps
    if value is None and not steps:
        return None
    if isinstance(value, bool) or value not in steps:
        kept = (
            f"one of the steps {shown(', '.join(map(str, steps)), 300)}"
            if steps
            else "None, as no training is followed"
        )
        raise InputError(f"{name} must be {kept}; got {shown_value(value)}")
    return int(value)


class ExplorerState(State):
    """The fields of an explorer; `choices` is its session.

    They are declared in the order in which they are set: later ones depend on earlier ones, or are reset by them.
    """

    # The model whose RPN proposals and levels are listed.
    focus: Any = Field("", one_of(lambda state: state.choices.models))
    # Of models that are followed over a training: the step whose weights they have.
    step: Any = Field(None, _step)
    # Which images are shown, in which order, and the one that is open.
    category: Any = Field(None, _category)
    size: Any = Field(None, _size)
    order: Any = Field("file", one_of(ORDERS))
    image_index: Any = Field(0, index(lambda state: len(state.choices.gallery)))
    # The proposal, and the level that it is pooled from.
    level: Any = Field(None, one_of(lambda state: state.choices.levels, optional=True))
    proposal: Any = Field((0.0, 0.0, 0.0, 0.0), lambda _, value, __: valid_box(value))
    # The sensitivity map under the boxes.
    underlay: Any = Field(None, one_of(TASKS, optional=True))
    underlay_branch: Any = Field(None, one_of(lambda state: state.choices.branches, optional=True))
    opacity: Any = Field(0.6, number(0, 1))
    # How the rest is drawn.
    magnify: Any = Field(1.0, number(0, 100))
    arrows: Any = Field("summary", one_of(ARROWS))
    layers: Any = Field(LAYERS[:-1], some_of(LAYERS))
    list_by: Any = Field("score", one_of(("score", "iou")))
