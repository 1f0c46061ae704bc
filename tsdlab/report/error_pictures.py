"""The pictures of a detector's errors, composed of the plots in `figures/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tsdlab.analysis.curves import Curves
from tsdlab.analysis.find_errors import Errors
from tsdlab.analysis.image_errors import ImageErrors
from tsdlab.figures import errors as plots
from tsdlab.figures.names import drawn, families

WORST = 12  # images
_PANELS = 24  # classes with a curve of their own: those with the lowest AP
_INCHES = 6.5  # the longer side of an image
ERROR_PICTURES = (
    *("errors.png", "precision-recall.png", "precision-recall-classes.png"),
    *(f"worst-{number}.jpg" for number in range(1, 1 + WORST)),
)


def error_drawings(errors: Errors, worst: Sequence[ImageErrors]) -> dict[str, Callable[[], Figure]]:
    """How every picture of the section is drawn, by its file name, which is one of `ERROR_PICTURES`."""
    drawings: dict[str, Callable[[], Figure]] = {}
    if errors.costs.overall.AP.value is not None:
        drawings["errors.png"] = partial(_draw_costs, errors)
        drawings["precision-recall.png"] = partial(_draw_curves, errors.curves)
        drawings["precision-recall-classes.png"] = partial(_draw_classes, errors.curves)
    for number, image in enumerate(worst, 1):
        drawings[f"worst-{number}.jpg"] = partial(draw_images, [image])
    return drawings


def _draw_costs(errors: Errors) -> Figure:
    figure = Figure(figsize=(7.4, 4.4), layout="constrained")
    plots.error_costs(errors.costs, figure.subplots())
    return figure


def _draw_curves(curves: Curves) -> Figure:
    figure = Figure(figsize=(5.1, 4.4), layout="constrained")
    plots.precision_recall(curves, figure.subplots())
    return figure


def _draw_classes(curves: Curves) -> Figure:
    """A panel for each class with objects, the ones with the lowest AP first."""
    means = np.mean([values.mean(axis=1) for values in curves.precision.values()], axis=0)
    order = [row for row in np.argsort(means, kind="stable").tolist() if not np.isnan(means[row])][:_PANELS]
    columns = min(4, len(order))
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(2.75 * columns, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax in axes[len(order) :]:
        ax.set_axis_off()
    for ax, row in zip(axes, order):
        name = curves.categories[row]
        plots.precision_recall(curves, ax, name)
        ax.legend(frameon=False, fontsize=7)
        ax.set_title(drawn([name])[0], fontsize=9, fontfamily=families(name))
        ax.label_outer()
    return figure


def draw_images(shown: Sequence[ImageErrors], titles: Sequence[str] = ()) -> Figure:
    """What is wrong in an image, side by side for several models; a title each, or none."""
    height, width = shown[0].pixels.shape[1:]
    scale = _INCHES / max(height, width) / (1 if len(shown) == 1 else 1.25)
    pad = 0.04 if titles else 0.0  # inches
    figure = Figure(
        figsize=(len(shown) * scale * width, scale * height + (0.3 if titles else 0)),
        layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad),
    )
    for ax, image, title in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, titles or [""] * len(shown)):
        plots.image_errors(image, ax)
        ax.set_title(drawn([title])[0] if title else "", fontsize=9, fontfamily=families(title))
    return figure
