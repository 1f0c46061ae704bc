"""Plots of a detector's errors: what each kind costs, precision over recall, and what is wrong in an image."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox
from torch import Tensor

from tsdlab.analysis.costs import Costs, ErrorCosts
from tsdlab.analysis.curves import SHOWN_THRESHOLDS, Curves
from tsdlab.analysis.errors import KINDS
from tsdlab.analysis.image_errors import FOUND, LOOSE, ImageErrors
from tsdlab.analysis.precision import RECALLS
from tsdlab.analysis.statistics import Estimate
from tsdlab.errors import InputError
from tsdlab.figures.names import drawn, families, find_fonts
from tsdlab.figures.overlays import draw_box, place_label, show_image
from tsdlab.figures.style import PALETTE, plain_axes

_OTHER = "#7A7A7A"  # the errors of neither task
ERROR_COLORS = {kind: PALETTE.get(kind, _OTHER) for kind in KINDS} | {LOOSE: PALETTE["localization"]}
# What is lost and what that means, in the order of the bars. "loose" is AP50 − AP.
LOSSES = {
    "classification": "right place, wrong class",
    "localization": "right class, IoU 0.1 to 0.5",
    LOOSE: "found, but the box fits loosely (AP50 − AP)",
    "both": "wrong class, and IoU 0.1 to 0.5",
    "duplicate": "the object has been found already",
    "background": "there is no object",
    "missed": "no detection comes near the object",
}
_LINES = {"0.50": ("#222222", "-"), "0.75": ("#6E6E6E", "--"), "0.90": ("#9A9A9A", ":")}  # by IoU threshold


def loss_of(costs: Costs, name: str) -> Estimate:
    """One of `LOSSES`."""
    return costs.loose if name == LOOSE else costs.kinds[name]


def title_of(name: str) -> str:
    """What one of `LOSSES` is called."""
    return "loose boxes" if name == LOOSE else name


def error_costs(found: ErrorCosts | Mapping[str, ErrorCosts], ax: Axes | None = None) -> Axes:
    """How many points of AP each kind of error costs: a bar per kind, with its 95% interval.

    Blue bars are errors of classification, orange ones of localization, and grey ones of neither.

    Args:
        found: of one model, or of several by name; the bars of the first models are paler.
        ax: where to draw.
    """
    ax = ax or plt.gca()
    models = {"": found} if isinstance(found, ErrorCosts) else found
    if not models:
        raise InputError("there are no costs to draw")
    rows = np.arange(len(LOSSES))
    height = 0.78 / len(models)
    paleness = np.linspace(0.4 if len(models) > 1 else 1.0, 1.0, len(models))
    colors = [ERROR_COLORS[name] for name in LOSSES]
    for i, (costs, alpha) in enumerate(zip(models.values(), paleness)):
        places = rows + (i - (len(models) - 1) / 2) * height
        losses = [loss_of(costs.overall, name) for name in LOSSES]
        for place, of, color in zip(places, losses, colors):
            if of.value is None or of.low is None or of.high is None:
                continue
            ax.barh(place, of.value, height * 0.9, color=color, alpha=alpha)
            ax.plot([of.low, of.high], [place, place], color="black", linewidth=1.0, solid_capstyle="butt")
            ax.annotate(f"{of.value:.1f}", (max(of.value, of.high, 0), place), (5, 0), textcoords="offset points",
                        va="center", fontsize=9 if len(models) == 1 else 8)  # fmt: skip
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(rows, [f"{title_of(name)}\n{fill(text, 34)}" for name, text in LOSSES.items()], fontsize=8.5)
    for label, color in zip(ax.get_yticklabels(), colors):
        label.set_color(color)
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlabel="points of AP that are lost")
    ax.set_xlim(right=max(1.0, 1.1 * ax.get_xlim()[1]))  # room for the numbers
    ax.tick_params(axis="y", length=0)
    plain_axes(ax, legend=False)
    if len(models) > 1:
        keys = [Patch(color=_OTHER, alpha=a, label=text) for a, text in zip(paleness, drawn(models))]
        ax.legend(handles=keys, frameon=False, fontsize=9, loc="lower right")
        find_fonts(ax)
    return ax


def precision_recall(curves: Curves, ax: Axes | None = None, category: str | None = None) -> Axes:
    """Precision over recall at three IoU thresholds, with the AP of each.

    Args:
        curves: of a model.
        ax: where to draw.
        category: of this class alone; None draws the mean over classes.

    Raises:
        InputError: there is no such class.
    """
    ax = ax or plt.gca()
    if category is not None and category not in curves.categories:
        raise InputError(f"there is no class {category!r} among {', '.join(curves.categories)}")
    for threshold in SHOWN_THRESHOLDS:
        curve = (
            curves.mean(threshold)
            if category is None
            else curves.precision[threshold][curves.categories.index(category)]
        )
        if np.isnan(curve).any():
            continue
        color, style = _LINES[threshold]
        ax.plot(RECALLS, curve, style, color=color, label=f"IoU {threshold}: AP {100 * curve.mean():.1f}")
    ax.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    return plain_axes(ax)


def image_errors(shown: ImageErrors, ax: Axes | None = None) -> Axes:
    """What is wrong in an image: its objects in green, and every wrong detection with its kind, class and score.

    Objects that no detection finds are dashed. Boxes that are loose have their IoU; those that fit are not drawn.
    """
    ax = show_image(shown.pixels, ax)
    ax.apply_aspect()  # now, because the size of labels in pixels of the image depends on it
    labels: list[tuple[str, str, Tensor]] = []
    texts = drawn([*shown.names, *shown.object_names])  # together: a class has one text
    names, object_names = texts[: len(shown.names)], texts[len(shown.names) :]
    for i, (box, name) in enumerate(zip(shown.object_boxes, object_names)):
        found = shown.objects_found[i]
        draw_box(box, PALETTE["truth"], ax, linewidth=1.3, linestyle="-" if found else "--")
        if not found and i not in shown.objects:  # else the label of a detection says what happened to it
            labels.append((f"not found: {name}", PALETTE["truth"], box))
    for i, (box, kind) in enumerate(zip(shown.boxes, shown.kinds)):
        if kind == FOUND:
            continue
        draw_box(box, ERROR_COLORS[kind], ax, linewidth=1.0 if kind == LOOSE else 1.8)
        instead = f" instead of {object_names[shown.objects[i]]}" if kind == "classification" else ""
        what = f"IoU {shown.ious[i]:.2f}" if kind == LOOSE else f"{names[i]} {shown.scores[i]:.2f}{instead}"
        labels.append((f"{kind}: {what}", ERROR_COLORS[kind], box))
    taken: list[Bbox] = []
    for text, color, box in labels:
        label = ax.text(
            0, 0, f" {text} ", fontsize=7.5, color="white", clip_on=True, zorder=3, fontfamily=families(text),
            bbox={"facecolor": color, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
        taken.append(place_label(label, box, taken, ax))
    return ax
