"""The pictures of a report, composed of the plots in `figures/`."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.displacement import ALL_LEVELS, Displacements
from tsdlab.analysis.examples import EXAMPLES, Example, Shown
from tsdlab.analysis.misalignment import METHODS, Misalignment
from tsdlab.figures import maps as map_plots
from tsdlab.figures import measures as plots
from tsdlab.figures import tasks as task_plots
from tsdlab.figures.style import PALETTE
from tsdlab.progress import progress_bar
from tsdlab.report.error_pictures import ERROR_PICTURES
from tsdlab.structures import TASKS

_SHOWN_MEASURES = (
    "peak_distance", "spearman", "classification_centre", "localization_centre", "classification_peak_on_salient",
    "classification_energy_on_salient",
)  # fmt: skip
_EXAMPLES = (f"example-{number}{of}" for number in range(1, 1 + EXAMPLES) for of in ("", *(f"-{m}" for m in METHODS)))
_NUMBERS = (*(f"{kind}-{method}" for kind in ("measures", "moved") for method in METHODS), "scores", "displacements")
# Every file name that a picture may have. Pictures with photographs are JPEGs: as PNGs they have ten times the size.
PICTURES = (
    *(f"{name}.jpg" for name in ("typical", *_EXAMPLES)),
    *(f"{name}.png" for name in _NUMBERS),
    *ERROR_PICTURES,
)
_PIXELS_PER_INCH = 130
_MAP_PIXELS_PER_INCH = 100  # maps have few pixels
_JPEG = {"quality": 85, "optimize": True}


def draw_pictures(
    analysis: Analysis,
    shown: Shown,
    progress: bool = True,
    errors: Mapping[str, Callable[[], Figure]] | None = None,
) -> dict[str, bytes]:
    """Every picture of the report by its file name, which is one of `PICTURES`.

    Args:
        analysis: without the levels that are not shown.
        shown: the objects.
        progress: show a progress bar.
        errors: how the pictures of errors are drawn, by file name.
    """
    levels = {level for of in analysis.misalignment.maps.values() for level in of}
    drawings: dict[str, Callable[[], Figure]] = {}
    if shown.typical is not None:
        drawings["typical.jpg"] = partial(draw_typical, shown.typical)
    for number, example in enumerate(shown.farthest, 1):
        drawings[f"example-{number}.jpg"] = partial(draw_example, example)
        for method in METHODS:
            drawings[f"example-{number}-{method}.jpg"] = partial(draw_levels, example, method, levels)
    return render({**drawings, **_numbers(analysis), **(errors or {})}, progress)


def render(drawings: Mapping[str, Callable[[], Figure]], progress: bool = True) -> dict[str, bytes]:
    """Pictures by file name: JPEGs of images, and PNGs of numbers."""
    pictures = {}
    for name, draw in progress_bar(drawings.items(), "pictures", shown=progress):
        file = io.BytesIO()
        if name.endswith(".jpg"):
            draw().savefig(file, format="jpeg", dpi=_MAP_PIXELS_PER_INCH, pil_kwargs=_JPEG)
        else:
            draw().savefig(file, format="png", dpi=_PIXELS_PER_INCH)
        pictures[name] = file.getvalue()
    return pictures


def draw_typical(example: Example) -> Figure:
    """The gradient maps of the detecting branch and, below, the regions that the head moves: a column per task."""
    gradients, answer = example.maps["gradients"], example.moved
    branch = list(gradients.levels[example.level])[-1]
    regions = {} if answer is None else answer.regions
    boxes = [example.box, *(place.repeat(2) for place in (gradients.peak(example.level, branch, t) for t in TASKS))]
    if answer is not None:
        boxes.append(answer.proposals[0].cpu())
        boxes += [region.points[0].cpu().flatten(0, 1)[:, [0, 1, 0, 1]] for region in regions.values()]
    x1, y1, x2, y2 = task_plots.around(torch.cat([of.reshape(-1, 4) for of in boxes]), example.pixels, margin=0.08)
    rows = 2 if regions else 1
    side = 3.2
    figure = Figure(figsize=(2 * side, rows * side * min(1.0, (y2 - y1) / (x2 - x1))), facecolor="#8a9199")
    axes = figure.subplots(rows, 2, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.012, hspace=0.012)
    for top, task in zip(axes[0], TASKS):
        map_plots.heat(gradients, example.level, branch, task, top, example.pixels)
        _title(f"{task} depends on these places", task, top)
    for bottom, task in zip(axes[1:].ravel(), TASKS):
        if answer is not None and task in regions:
            task_plots.task_region(answer, 0, task, example.pixels, example.box, bottom)
            moved = 100 * regions[task].moved[0].item()
            name = task_plots.REGION_NAMES[task]
            _title(f"{task} reads {name}, moved {moved:.0f}%", task, bottom)
        elif answer is not None:
            task_plots.show_proposal(answer.proposals[0].cpu(), example.pixels, example.box, bottom)
            _title(f"{task} reads P itself", task, bottom)
    for ax in axes.ravel():
        ax.set(xlim=(x1, x2), ylim=(y2, y1))
        ax.set_anchor("C")
    return figure


def _title(text: str, task: str, ax: Axes) -> None:
    ax.text(0.025, 0.975, text, transform=ax.transAxes, ha="left", va="top", fontsize=9.5, fontweight="bold",
            color=PALETTE[task], path_effects=[Stroke(linewidth=3.5, foreground="white"), Normal()])  # fmt: skip


def draw_example(example: Example) -> Figure:
    """The gradients' peaks of every branch, and the proposals' maps of the detecting branch as surfaces."""
    proposals, gradients = example.maps["proposals"], example.maps["gradients"]
    branches = list(proposals.levels[example.level])
    figure = Figure(figsize=(11, 4.2 if len(branches) > 1 else 4.6), layout="constrained")
    grid = figure.add_gridspec(1, len(branches) + 1, width_ratios=[*([1] * len(branches)), 1.6])
    for i, branch in enumerate(branches):
        ax = figure.add_subplot(grid[i])
        map_plots.peaks(gradients, example.level, branch, example.pixels, ax, example.salient)
        ax.set_title(f"{branch}: peaks of the gradients", fontsize=10)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    surface = figure.add_subplot(grid[-1], projection="3d")
    detecting = branches[-1]  # the report is about this branch, not about the sibling trained with it
    map_plots.surfaces(proposals, example.level, detecting, surface, example.pixels, margin=0.5)
    surface.set_title(f"{detecting}: maps of the proposals", fontsize=10)
    return figure


def draw_levels(example: Example, method: str, levels: Collection[str]) -> Figure:
    """The maps at the levels that are shown, and at the object's own."""
    maps = example.maps[method].only({*levels, example.level})
    rows, columns = len(maps.levels), 2 * len(next(iter(maps.levels.values())))
    height, width = example.pixels.shape[1:]
    figure = Figure(figsize=(2.3 * columns, 2.15 * rows * height / width + 0.45), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    map_plots.levels(maps, example.pixels, axes, example.salient, example.strides)
    return figure


def _numbers(analysis: Analysis) -> dict[str, Callable[[], Figure]]:
    found = analysis.misalignment
    drawings: dict[str, Callable[[], Figure]] = {}
    for method in METHODS:
        known = [measure for measure in _SHOWN_MEASURES if measure in found.known(method)]
        if known:
            drawings[f"measures-{method}.png"] = partial(_draw_measures, found, method, known, plots.measures)
            if found.moved.get(method):
                drawings[f"moved-{method}.png"] = partial(_draw_measures, found, method, known, plots.moved)
    if found.agreement or any(found.survival.values()):
        drawings["scores.png"] = partial(_draw_scores, found)
    if analysis.displacement is not None:
        drawings["displacements.png"] = partial(_draw_displacements, analysis.displacement)
    return drawings


def _draw_measures(found: Misalignment, method: str, known: list[str], draw: Callable[..., Axes]) -> Figure:
    """A panel per measure, with the levels side by side."""
    rows = -(-len(known) // 3)
    figure = Figure(figsize=(11, 2.9 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).ravel()
    for ax, measure in zip(axes, known):
        draw(found, method, measure, ax)
    for ax in axes[len(known) :]:
        ax.set_visible(False)
    _share_legend(figure, axes[0])
    return figure


def _draw_scores(found: Misalignment) -> Figure:
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plots.agreement(found, left)
    plots.survival(found, right)
    return figure


def _draw_displacements(displacements: Displacements) -> Figure:
    """A row per level, with the same axes; the last row is of all levels together, if there are several."""
    tasks = displacements.tasks
    levels = [level for level in displacements.levels if level != ALL_LEVELS]
    rows = [*levels, *([ALL_LEVELS] if len(levels) != 1 else [])]
    figure = Figure(figsize=(11, 2.75 * len(rows) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(rows), 2 + len(tasks), width_ratios=[1, 1.35, *([1] * len(tasks))])
    first: Axes | None = None
    for row, level in enumerate(rows):
        field = plots.field(displacements, level, figure.add_subplot(grid[row, 0]), tasks[0])
        count = displacements.levels[level].proposals
        name = "all levels" if level == ALL_LEVELS else f"level {level}"
        field.set_ylabel(f"{name}\n{count} proposals\n", fontsize=11, fontweight="bold")
        lengths = plots.lengths(displacements, level, figure.add_subplot(grid[row, 1], sharex=first, sharey=first))
        first = first or lengths
        if row:  # one legend is enough
            _remove_legends(field, lengths)
        for i, task in enumerate(tasks):
            rose = figure.add_subplot(grid[row, 2 + i], projection="polar")
            plots.directions(displacements, f"{task}_direction", rose, level)  # type: ignore[arg-type]
            if row == 0:
                rose.set_title(f"{'ΔC' if task == 'classification' else 'ΔR'}, directions", fontsize=10)
    return figure


def _share_legend(figure: Figure, ax: Axes) -> None:
    """One legend above all panels instead of one above each."""
    handles, labels = ax.get_legend_handles_labels()
    _remove_legends(*figure.axes)
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=10)


def _remove_legends(*panels: Axes) -> None:
    for panel in panels:
        if (legend := panel.get_legend()) is not None:
            legend.remove()
