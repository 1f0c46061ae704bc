"""Which name and which colour each branch of each model has, on the page and in the picture."""

from __future__ import annotations

from dataclasses import dataclass

from tsdlab.figures import plots
from tsdlab.widgets.explorer.session import Session

# Roles whose colours are used for boxes of another meaning.
_TAKEN = ("proposal", "localization", "truth")


@dataclass(frozen=True)
class Series:
    """One branch of one model."""

    model: str
    branch: str
    label: str
    color: str  # no two series have the same


def list_series(session: Session) -> list[Series]:
    """Every branch of every model; the branch that inference uses is the last one of its model."""
    series: list[Series] = []
    taken = {plots.PALETTE[role] for role in _TAKEN}
    for model, answer in session.image.answers.items():
        *_, used = answer.branches
        for branch in answer.branches:
            alone = len(session.detectors) == 1
            label = branch if alone else model if branch == used else f"{branch} in {model}"
            # A branch has the colour of its name. If that is taken, names that nobody has give the next colours.
            own = (plots.color_of(label if i == 0 else f"\0{label}", len(series) + i) for i in range(100))
            color = next(color for color in own if color not in taken)
            taken.add(color)
            series.append(Series(model, branch, label, color))
    return series
