"""Whole pictures, made with one call each: of a data set, of a training run, of the worst images.

Each function takes what was loaded, trained or measured, and returns a figure; none asks a model. The plots that they
put together are in `plots`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tsdlab.analysis.find_errors import Errors
from tsdlab.data.items import as_items
from tsdlab.errors import InputError, MissingFileError
from tsdlab.figures import plots
from tsdlab.figures.names import drawn, families
from tsdlab.ranges import Count, check_value
from tsdlab.training.logs import LOSSES, METRICS

_INCHES = 11.0  # width of a picture
_TITLE = 0.4  # inches above an image
_LEAST, _MOST = 0.4, 1.6  # height of a panel, as a fraction of its width
_METRICS = {"AP": "-", "AP50": "--", "AP75": ":"}  # and their lines


def objects(dataset: Any, count: int = 8, columns: int = 4) -> Figure:
    """Images of a data set with their objects, evenly chosen.

    Args:
        dataset: with the names of its classes; see `tsdlab.data.items.Items`.
        count: how many images at most.
        columns: images in a row.

    Raises:
        InputError: the data set does not name its classes.
    """
    check_value("count", count, Count)
    items = as_items(dataset)
    if not items.names:
        raise InputError(f"{items.name} does not name its classes; give a CocoDataset")
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int).tolist()
    read = [items[place] for place in places]
    figure, axes = _panels([image for image, _ in read], columns)
    for place, (image, target), ax in zip(places, read, axes):
        plots.objects(image, target, items.names, ax)
        _title(items.file_name(place) or f"image {place}", "", ax)
    return figure


def training(run: str | Path) -> Figure:
    """The loss and the AP of a training run, step by step, as far as it has come.

    Args:
        run: the folder of the run.

    Raises:
        MissingFileError: nothing was logged there.
    """
    log, evaluations = Path(run) / LOSSES, Path(run) / METRICS
    if not log.is_file():
        raise MissingFileError(f"there is no {log}; give the folder of a training run that has come to its first log")
    losses = _columns(log)
    metrics = _columns(evaluations) if evaluations.is_file() else {name: [] for name in ("step", *_METRICS)}
    figure, (left, right) = _figure(4.0, 1, 2)
    left.plot(losses["step"], losses["total"], ".-", color="#222222")
    left.set(xlabel="step", ylabel="loss, sum of all parts")
    for name, style in _METRICS.items():
        right.plot(metrics["step"], metrics[name], style, marker="o", markersize=4, color="#222222", label=name)
    right.set(xlabel="step", ylabel="percent, of the validation split", ylim=(0, 100))
    for ax in (left, right):
        ax.set_xlim(0)
        plots.plain_axes(ax)
    return figure


def costs(found: Errors) -> Figure:
    """Where AP is lost: what each kind of error costs, and precision over recall.

    Args:
        found: what `tsdlab.analysis.find_errors.find_errors` returned.
    """
    figure, (left, right) = _figure(4.8, 1, 2)
    plots.error_costs(found.costs, left)
    plots.precision_recall(found.curves, right)
    return figure


def worst_images(found: Errors, count: int = 4, columns: int = 2) -> Figure:
    """The images with the most errors, and what is wrong in each: see `plots.image_errors`.

    Args:
        found: what `tsdlab.analysis.find_errors.find_errors` returned.
        count: how many images at most.
        columns: images in a row.
    """
    check_value("count", count, Count)
    worst = found.worst(count)
    figure, axes = _panels([image.pixels for image in worst], columns)
    for image, ax in zip(worst, axes):
        plots.image_errors(image, ax)
        counts = ", ".join(f"{number} {name}" for name, number in image.counts.items())
        _title(image.file or f"image {image.image}", counts, ax)
    return figure


def _columns(path: Path) -> dict[str, list[float]]:
    """The columns of a log, by name."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return {name: [float(value or "nan") for value in values] for name, *values in zip(header, *rows)}


def _panels(images: Sequence[Tensor], columns: int) -> tuple[Figure, Iterator[Axes]]:
    """A figure with room for images [3, H, W], and an Axes for each."""
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    highest = max((image.shape[1] / image.shape[2] for image in images), default=_LEAST)
    height = _INCHES / columns * min(max(highest, _LEAST), _MOST)
    figure, axes = _figure(rows * (height + _TITLE), rows, columns)
    for ax in axes:
        ax.set_axis_off()
    return figure, iter(axes)


def _figure(height: float, rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure that a notebook shows once, as the value of its cell, and its axes in one row."""
    figure, axes = plt.subplots(rows, columns, figsize=(_INCHES, height), layout="constrained", squeeze=False)
    plt.close(figure)
    return figure, axes.ravel()


def _title(name: str, below: str, ax: Axes) -> None:
    """Write the name of an image above it, and what there is to say about it."""
    ax.set_title("\n".join(filter(None, [*drawn([name]), below])), fontsize=8, fontfamily=families(name))
