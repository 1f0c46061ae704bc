"""Scores and boxes: what each branch answers to the proposals of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from tsdlab.analysis.slide import SlideMaps
from tsdlab.figures.names import drawn, find_fonts
from tsdlab.figures.peaks import mark_peaks
from tsdlab.figures.style import PALETTE, color_of, plain_axes, white_to
from tsdlab.models.boxes import paired_iou
from tsdlab.structures import TASKS, BranchTrace


def class_scores(
    branches: Mapping[str, BranchTrace],
    index: int,
    names: Sequence[str],
    ax: Axes | None = None,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Axes:
    """The class scores that every branch gives to proposal `index`, as grouped bars; background comes first.

    Args:
        branches: as in `Answer.branches`.
        index: of the proposal.
        names: of the classes; `names[0]` is that of label 1.
        ax: where to draw.
        looks: by branch, keywords of matplotlib's bars; by default the colour that belongs to a branch's name.
    """
    ax = ax or plt.gca()
    classes = drawn(["background", *names])
    labels = drawn(branches)
    height = 0.8 / len(branches)
    rows = np.arange(len(classes))
    for i, (branch, answer) in enumerate(branches.items()):
        scores = answer.scores[index].cpu().numpy()
        ax.barh(
            rows + (i - (len(branches) - 1) / 2) * height,
            scores,
            height,
            label=labels[i],
            **(looks[branch] if looks else {"color": color_of(branch, i)}),
        )
    ax.set(yticks=rows, yticklabels=classes, xlim=(0, 1), xlabel="score")
    ax.invert_yaxis()
    plain_axes(ax)
    find_fonts(ax)
    return ax


def score_against_iou(branches: Mapping[str, BranchTrace], label: int, truth: Tensor, ax: Axes | None = None) -> Axes:
    """A point per proposal: its score of class `label` against the IoU of its decoded box with `truth` [4].

    Proposals whose decoded box does not overlap the truth are left out.
    """
    ax = ax or plt.gca()
    for i, (branch, answer) in enumerate(branches.items()):
        boxes = answer.boxes[:, label]
        iou = paired_iou(boxes, truth.to(boxes).expand_as(boxes)).cpu()
        score = answer.scores[:, label].cpu()
        near = iou > 0
        ax.plot(
            score[near], iou[near], "o", color=color_of(branch, i), markersize=5, alpha=0.7, markeredgecolor="white",
            markeredgewidth=0.4, label=branch,
        )  # fmt: skip
    ax.set(xlim=(-0.03, 1.03), ylim=(0, 1.03), xlabel="score of the true class", ylabel="IoU of the decoded box")
    plain_axes(ax)
    return ax


def slide_map(maps: SlideMaps, task: str, ax: Axes | None = None) -> Axes:
    """The answers of one task ("classification" or "localization") to a box moved over its object, as a map.

    The best places of both tasks are marked and joined, as in `maps.heat`; a cross is the object's own place.
    """
    ax = ax or plt.gca()
    low, high = maps.shifts[0].item(), maps.shifts[-1].item()
    half = (high - low) / (len(maps.shifts) - 1) / 2
    heat = ax.imshow(
        getattr(maps, task).numpy(), extent=(low - half, high + half, high + half, low - half),
        cmap=white_to(PALETTE[task]), vmin=0, vmax=1,
    )  # fmt: skip
    ax.plot(0, 0, "+", markersize=12, color=PALETTE["proposal"])
    mark_peaks({name: maps.best_place(name) for name in TASKS}, ax)
    ax.set(xlabel="shift in x (box widths)", ylabel="shift in y (box heights)")
    ax.figure.colorbar(heat, ax=ax, shrink=0.85)
    return ax
