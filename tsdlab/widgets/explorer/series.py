"""Which name and which line each branch of each model has, on the page and in the picture.

Colours belong to the tasks, so branches and models differ by their lines.
"""

from __future__ import annotations

from dataclasses import dataclass

from tsdlab.widgets.explorer.session import Session

# The branch that inference uses comes first; no two series share a line as long as there are enough.
LINES = ("solid", "dashed", "dotted", "dashdot")


@dataclass(frozen=True)
class Series:
    """One branch of one model."""

    model: str
    branch: str
    label: str
    line: str  # one of `LINES`


def list_series(session: Session) -> list[Series]:
    """Every branch of every model; the branch that inference uses is the last one of its model."""
    named: list[tuple[str, str, str]] = []
    for model, answer in session.image.answers.items():
        *_, used = answer.branches
        for branch in answer.branches:
            alone = len(session.detectors) == 1
            named.append((model, branch, branch if alone else model if branch == used else f"{branch} in {model}"))
    lines = [LINES[min(i, len(LINES) - 1)] for i in range(len(named))]
    return [Series(*each, line) for each, line in zip(named, reversed(lines))]
