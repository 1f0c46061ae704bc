"""Comparison plots draw the means and deviations they are given."""

import matplotlib
import numpy as np
from matplotlib.container import ErrorbarContainer

from tsdlab.figures import comparison

matplotlib.use("Agg")


def number(mean, sd=1.0):
    return {"mean": mean, "sd": sd}


def row(system, base, misalignment=1.0, displacement=None, seeds=(0, 1)):
    return {
        "system": system,
        "misalignment": misalignment,
        "seeds": list(seeds),
        "AP": number(base),
        "AP50": number(base + 10, 2.0),
        "per_iou": {"0.50": number(base + 10), "0.95": number(base - 10)},
        "displacement": displacement,
    }


ROWS = [row("sibling", 20.0), row("tsd", 50.0), row("tsd, something else", 45.0)]


def test_ap_by_iou_draws_every_system(ax):
    comparison.ap_by_iou(ROWS, ax)
    assert [line.get_label() for line in ax.lines] == ["sibling", "tsd", "tsd, something else"]
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[0.5, 60], [0.95, 40]])
    assert len({line.get_color() for line in ax.lines}) == 3


def test_ap_by_iou_against_a_system_draws_what_is_gained(ax):
    comparison.ap_by_iou(ROWS, ax, against="sibling")
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines], [[0, 0], [30, 30], [25, 25]])
    assert ax.get_ylabel() == "AP gained over sibling"


def test_dose_response_sorts_by_dose_and_leaves_out_what_is_not_there(ax):
    moved = {"moved_on_salient": number(0.13, 0.01)}
    rows = [row("tsd", 40.0, 1.0, moved), row("tsd", 60.0, 0.0), row("sibling", 30.0, 0.0)]
    comparison.dose_response(rows, "AP", ax)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 60], [1, 40]])
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [c.get_label() for c in bars] == ["tsd", "sibling"]
    ax.clear()
    comparison.dose_response(rows, "displacement.moved_on_salient", ax, scale=100)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 13]])
    assert ax.get_ylabel() == "moved on salient"


def whiskers(ax):
    """Whether a series has any: neither their lines nor their caps lie anywhere if not."""
    return [
        any(len(s) for s in c.lines[2][0].get_segments())
        or any(np.isfinite(np.asarray(cap.get_ydata(), float)).any() for cap in c.lines[1])
        for c in ax.containers
    ]


def test_a_single_seed_has_no_deviation(ax):
    rows = [row("sibling", 20.0), row("tsd", 50.0, seeds=[0])]
    comparison.dose_response(rows, "AP", ax)
    assert whiskers(ax) == [True, False]
    ax.clear()
    comparison.cost_against_ap(rows, {"tsd": 1.1, "sibling": 0.9}, ax)
    assert whiskers(ax) == [True, False]


def test_names_of_near_points_do_not_lie_on_each_other(ax):
    rows = [row("iou", 19.7), row("double", 21.0), row("tsd", 50.0)]
    comparison.cost_against_ap(rows, {"iou": 2.36, "double": 2.38, "tsd": 1.1}, ax)
    assert [t.get_va() for t in ax.texts] == ["top", "bottom", "bottom"]
    ax.figure.canvas.draw()
    lower, upper, _ = (t.get_window_extent() for t in ax.texts)
    assert lower.y1 < upper.y0


def test_cost_against_ap_names_the_points(ax):
    comparison.cost_against_ap(ROWS, {"tsd": 1.1, "sibling": 0.9}, ax)
    assert [t.get_text() for t in ax.texts] == ["sibling", "tsd"]
