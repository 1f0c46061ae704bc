"""The pictures of a report, composed of the plots in `figures/`."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.displacement import ALL_LEVELS, Displacements
from tsdlab.analysis.examples import EXAMPLES, Example
from tsdlab.analysis.misalignment import METHODS
from tsdlab.figures import maps as map_plots
from tsdlab.figures import measures as plots

_SHOWN_MEASURES = (
    "peak_distance", "spearman", "classification_centre", "localization_centre", "classification_peak_on_salient",
    "classification_energy_on_salient",
)  # fmt: skip
PICTURES = (
    *(f"example-{number}{method}" for number in range(1, 1 + EXAMPLES) for method in ("", *(f"-{m}" for m in METHODS))),
    *(f"{kind}-{method}" for kind in ("measures", "moved") for method in METHODS),
    *("scores", "displacements"),
)  # every name that a picture may have
_PIXELS_PER_INCH = 130
_MAP_PIXELS_PER_INCH = 100  # maps have few pixels, and their grids are most of the page


def draw_pictures(analysis: Analysis, examples: Sequence[Example]) -> dict[str, bytes]:
    """Every picture of the report as a PNG, by name; the names are among `PICTURES`."""
    figures: dict[str, tuple[Figure, int]] = {}
    for number, example in enumerate(examples, 1):
        figures[f"example-{number}"] = draw_example(example), _MAP_PIXELS_PER_INCH
        for method in METHODS:
            figures[f"example-{number}-{method}"] = _draw_levels(example, method), _MAP_PIXELS_PER_INCH
    figures |= {name: (figure, _PIXELS_PER_INCH) for name, figure in _draw_numbers(analysis).items()}
    pictures = {}
    for name, (figure, dpi) in figures.items():
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=dpi)
        pictures[name] = file.getvalue()
    return pictures


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


def _draw_levels(example: Example, method: str) -> Figure:
    maps = example.maps[method]
    rows, columns = len(maps.levels), 2 * len(next(iter(maps.levels.values())))
    height, width = example.pixels.shape[1:]
    figure = Figure(figsize=(2.3 * columns, 2.15 * rows * height / width + 0.45), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    map_plots.levels(maps, example.pixels, axes, example.salient, example.strides)
    return figure


def _draw_numbers(analysis: Analysis) -> dict[str, Figure]:
    found = analysis.misalignment
    figures = {}
    for method in METHODS:
        known = [measure for measure in _SHOWN_MEASURES if measure in found.known(method)]
        for kind, draw in (("measures", plots.measures), ("moved", plots.moved)):
            if not known or (kind == "moved" and not found.moved):
                continue
            rows = -(-len(known) // 3)
            figure = Figure(figsize=(11, 3.2 * rows), layout="constrained")
            axes = figure.subplots(rows, 3, squeeze=False).ravel()
            for ax, measure in zip(axes, known):
                draw(found, method, measure, ax)
            for ax in axes[len(known) :]:
                ax.set_visible(False)
            figures[f"{kind}-{method}"] = figure
    if found.agreement or any(found.survival.values()):
        figure = Figure(figsize=(11, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        plots.agreement(found, left)
        plots.survival(found, right)
        figures["scores"] = figure
    if analysis.displacement is not None:
        figures["displacements"] = _draw_displacements(analysis.displacement)
    return figures


def _draw_displacements(displacements: Displacements) -> Figure:
    tasks = displacements.tasks
    figure = Figure(figsize=(11 / 3 * (1 + len(tasks)), 7.4), layout="constrained")
    grid = figure.add_gridspec(2, 1 + len(tasks))
    plots.field(displacements, ALL_LEVELS, figure.add_subplot(grid[0, 0]), tasks[0])
    for i, task in enumerate(tasks):
        plots.distribution(displacements, f"{task}_offset", figure.add_subplot(grid[0, 1 + i]))
        rose = figure.add_subplot(grid[1, 1 + i], projection="polar")
        plots.directions(displacements, f"{task}_direction", rose)  # type: ignore[arg-type]
        rose.set_title(f"{'ΔC' if task == 'classification' else 'ΔR'}, directions", fontsize=10)
    plots.distribution(displacements, f"{tasks[0]}_offset_px", figure.add_subplot(grid[1, 0]))
    return figure
