"""A picture of an explorer, for pages without a kernel."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsdlab.analysis.proposal import ProposalAnswer
from tsdlab.figures import plots
from tsdlab.figures.names import drawn, find_fonts
from tsdlab.widgets.explorer.series import list_series
from tsdlab.widgets.explorer.session import OpenImage, Session

_BLUE = plots.PALETTE["classification"]
# Scores are blue, because they are the classification's; branches differ as their lines do.
_BARS: dict[str, dict[str, Any]] = {
    "solid": {"facecolor": _BLUE},
    "dashed": {"facecolor": "white", "hatch": "/////"},
    "dotted": {"facecolor": "white", "hatch": "....."},
    "dashdot": {"facecolor": "white"},
}


def draw_explorer(session: Session) -> Figure:
    """The proposal over the image once for each model, and the class scores of all branches."""
    answers = session.image.answers
    figure = Figure(figsize=(3.6 * len(answers) + 4.2, 3.9), layout="constrained")
    *stages, scores = figure.subplots(1, len(answers) + 1)
    for (name, answer), ax in zip(answers.items(), stages):
        _draw_stage(session.image, answer, ax)
        ax.set_title(f"{drawn([name])[0]}, level {answer.level}", fontsize=10)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, fontsize=8)
    series = list_series(session)
    used = {name: answer.levels[answer.level].answer for name, answer in answers.items()}
    branches = {entry.label: used[entry.model].branches[entry.branch] for entry in series}
    looks = {entry.label: {**_BARS[entry.line], "edgecolor": _BLUE} for entry in series}
    plots.class_scores(branches, 0, session.gallery.names, scores, looks)
    find_fonts(figure)
    return figure


def _draw_stage(image: OpenImage, answer: ProposalAnswer, ax: Axes) -> None:
    used = answer.levels[answer.level].answer
    truth = None if answer.nearest is None else answer.nearest.box
    plots.proposal(image.pixels, used, 0, ax, truth)
    height, width = image.pixels.shape[1:]
    ax.set(xlim=(0, width), ylim=(height, 0))
