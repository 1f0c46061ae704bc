"""What is drawn of a detector's errors."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.analysis.known_costs import known_costs, no_costs
from tests.figures.test_names import ODD
from tsdlab.analysis.curves import Curves
from tsdlab.analysis.errors import KINDS
from tsdlab.analysis.image_errors import ImageErrors
from tsdlab.errors import InputError
from tsdlab.figures.errors import ERROR_COLORS, LOSSES, error_costs, image_errors, precision_recall
from tsdlab.figures.names import drawn
from tsdlab.figures.style import PALETTE

COSTS = {"classification": 3.5, "localization": 1.25, "both": 0.5, "duplicate": 0.75, "background": 2.0, "missed": 8.0}
BLUE, ORANGE = PALETTE["classification"].lower(), PALETTE["localization"].lower()


def bars(ax: Axes) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def test_a_bar_per_kind_in_the_colour_of_its_task(ax: Axes):
    error_costs(known_costs(AP=60.0, AP50=85.0, **COSTS), ax)
    lengths = dict(zip(LOSSES, (bar.get_width() for bar in bars(ax))))
    assert lengths == pytest.approx({**COSTS, "loose": 25.0})
    colors = dict(zip(LOSSES, (to_hex(bar.get_facecolor()) for bar in bars(ax))))
    assert colors.pop("classification") == BLUE
    assert colors.pop("localization") == colors.pop("loose") == ORANGE
    assert len(set(colors.values())) == 1 and not {BLUE, ORANGE} & {*colors.values()}
    named = [label.get_text().split("\n")[0] for label in ax.get_yticklabels()]
    assert named == ["loose boxes" if name == "loose" else name for name in LOSSES]
    assert [text.get_text() for text in ax.texts] == [f"{lengths[name]:.1f}" for name in LOSSES]
    whiskers = {tuple(line.get_xdata()) for line in ax.lines if len(set(line.get_xdata())) == 2}
    assert (3.0, 4.0) in whiskers and (24.5, 25.5) in whiskers
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "classification is on top"


def test_models_are_side_by_side_and_the_first_is_paler(ax: Axes):
    error_costs({"sibling": known_costs(classification=4.0), "tsd": known_costs(classification=2.0)}, ax)
    first, second = bars(ax)[: len(LOSSES)], bars(ax)[len(LOSSES) :]
    assert (first[0].get_width(), second[0].get_width()) == (4.0, 2.0)
    assert first[0].get_y() + first[0].get_height() <= second[0].get_y() < 0.5
    assert first[0].get_alpha() < second[0].get_alpha() == 1.0
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sibling", "tsd"]


def test_without_costs_there_is_no_bar(ax: Axes):
    error_costs(no_costs(), ax)
    assert bars(ax) == [] and len(ax.get_yticklabels()) == len(LOSSES)
    with pytest.raises(InputError, match="no costs"):
        error_costs({}, ax)


CURVES = Curves(
    ("cat", "dog", "fox"),
    {
        threshold: np.stack([np.full(101, value), np.full(101, value / 2), np.full(101, np.nan)])
        for threshold, value in {"0.50": 1.0, "0.75": 0.8, "0.90": 0.4, "0.95": 0.2}.items()
    },
)


@pytest.mark.parametrize(("category", "factor"), [(None, 0.75), ("cat", 1.0), ("dog", 0.5)])
def test_a_curve_per_threshold(category: str | None, factor: float, ax: Axes):
    precision_recall(CURVES, ax, category)
    assert [line.get_ydata()[7] for line in ax.lines] == pytest.approx([factor, 0.8 * factor, 0.4 * factor])
    assert ax.lines[0].get_xdata()[25] == pytest.approx(0.25)
    ap = f"IoU 0.75: AP {80 * factor:.1f}"
    assert [text.get_text() for text in ax.get_legend().get_texts()][1] == ap


def test_a_class_without_objects_has_no_curve_and_an_unknown_one_is_named(ax: Axes):
    precision_recall(CURVES, ax, "fox")
    assert not ax.lines
    with pytest.raises(InputError, match="no class 'cow' among cat, dog, fox"):
        precision_recall(CURVES, ax, "cow")


def test_wrong_and_loose_detections_are_named_and_others_are_not_drawn(ax: Axes):
    boxes = torch.tensor([[0.0, 0, 10, 10], [40, 0, 60, 20], [0, 40, 20, 60], [70, 70, 90, 90], [70, 0, 90, 20]])
    shown = ImageErrors(
        image=0,
        image_id=7,
        file="7.png",
        pixels=torch.rand(3, 100, 100),
        boxes=boxes + 1,
        names=["cat", "dog", "cat", "cat", "dog"],
        scores=[0.9, 0.8, 0.7, 0.6, 0.55],
        kinds=["found", "classification", "localization", "background", "loose"],
        ious=[0.9, 0.8, 0.3, math.nan, 0.61],
        objects=[0, 1, 2, -1, 4],
        object_boxes=torch.cat([boxes[:3], torch.tensor([[40.0, 70, 60, 90]]), boxes[4:]]),
        object_names=["cat", "fox", "cat", "dog", "dog"],
        objects_found=[True, False, False, False, True],
        errors=6.5,
    )
    image_errors(shown, ax)
    drawn = {(to_hex(p.get_edgecolor()), p.get_xy(), p.get_linestyle() == "--") for p in bars(ax)}
    truth = PALETTE["truth"].lower()
    assert drawn == {
        (truth, (0, 0), False), (truth, (40, 0), True), (truth, (0, 40), True), (truth, (40, 70), True),
        (truth, (70, 0), False), (BLUE, (41, 1), False), (ORANGE, (1, 41), False), (ORANGE, (71, 1), False),
        (ERROR_COLORS["background"].lower(), (71, 71), False),
    }  # fmt: skip
    assert sorted(text.get_text().strip() for text in ax.texts) == [
        "background: cat 0.60",
        "classification: dog 0.80 instead of fox",
        "localization: cat 0.70",
        "loose: IoU 0.61",
        "not found: dog",  # what happened to the fox and the cat is said already
    ]


def test_every_kind_has_a_colour_and_a_bar():
    assert ERROR_COLORS.keys() == LOSSES.keys() == {*KINDS, "loose"}


def test_names_of_models_and_classes_may_be_anything():
    figure = Figure(figsize=(12, 6))
    left, right = figure.subplots(1, 2)
    boxes = torch.tensor([[2.0, 2, 30, 30]] * len(ODD))
    count = len(ODD)
    kinds, objects = ["classification"] * count, [*range(count)]
    pixels = torch.zeros(3, 64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = drawn(ODD)  # warns once of characters that no font has
        warnings.simplefilter("error")
        error_costs(dict.fromkeys(ODD, known_costs()), left)
        shown = ImageErrors(
            *(0, 1, None, pixels, boxes, ODD, [0.5] * count, kinds, [0.6] * count, objects),
            *(boxes, ODD[::-1], [False] * count, 1.0),
        )
        image_errors(shown, right)
        figure.savefig(io.BytesIO(), dpi=30)
    assert [text.get_text() for text in left.get_legend().get_texts()] == expected
    assert [text.get_text().strip() for text in right.texts] == [
        f"classification: {name} 0.50 instead of {other}" for name, other in zip(expected, expected[::-1])
    ]
