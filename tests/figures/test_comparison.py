"""Comparison plots draw the means and deviations they are given."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

from tsdlab.figures import comparison
from tsdlab.figures.style import PALETTE

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
    assert ax.get_ylabel() == "share of P̂c on the salient part (percent)"


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


def test_training_curve_is_a_running_mean(ax):
    rows = [{"step": i, "total": float(i)} for i in range(1, 6)]
    comparison.training_curve({"tsd": rows}, smooth=3, ax=ax)
    x, y = ax.lines[0].get_data()
    assert x.tolist() == [3, 4, 5] and y == pytest.approx([2, 3, 4])


def test_average_precision_with_errors(ax):
    results = {"sibling": {"AP": 20.0, "AP50": 30.0}, "tsd": {"AP": 50.0, "AP50": 60.0}}
    errors = {name: dict.fromkeys(values, 2.0) for name, values in results.items()}
    comparison.average_precision(results, ("AP", "AP50"), ax, errors)
    assert [bar.get_height() for bar in ax.patches] == [20, 30, 50, 60]
    assert not ax.texts, "whiskers in the place of values"
    low, high = ax.get_ylim()
    assert low == 0 and 62 < high < 75, "little more than the highest whisker"
    segments = ax.collections[1].get_segments()  # tsd's whiskers
    assert [(low[1], high[1]) for low, high in segments] == [(48, 52), (58, 62)]


def test_average_precision_bars(ax):
    comparison.average_precision(
        {"sibling": {"AP": 10, "AP50": 20, "AP75": 5}, "tsd": {"AP": 30, "AP50": 50, "AP75": 28}}, ax=ax
    )
    assert [bar.get_height() for bar in ax.patches] == [10, 20, 5, 30, 50, 28]
    assert [text.get_text() for text in ax.texts] == ["10.0", "20.0", "5.0", "30.0", "50.0", "28.0"]


def test_a_model_has_one_colour_everywhere(ax):
    comparison.training_curve({"tsd 400 steps": [{"step": 1, "total": 1.0}]}, ax=ax)
    assert to_hex(ax.lines[0].get_color()) == PALETTE["tsd"].lower()


def test_speedup_bars_leave_from_the_peer(ax):
    row = {
        "torchvision": {"times_torchvision": 1.0},
        "grid_sample": {"times_torchvision": 0.5},
        "tsdlab": {"times_torchvision": 8.0},
    }
    settings = {"small": {"forward": row}, "large": {"forward": {k: v for k, v in row.items() if k != "grid_sample"}}}
    comparison.speedup(settings, "forward", ax)
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert ends == [(1, 0.5), (1, 8), (1, 8)]  # small: grid_sample; tsdlab: small, large
    assert ax.get_legend_handles_labels()[1] == ["grid_sample", "tsdlab"]
    low, high = ax.get_ylim()
    assert low > high  # the first setting is on top
