"""Points and whiskers are the report's estimates; what has no value is not drawn."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from tsdlab.analysis.columns import COLUMNS, EDGES
from tsdlab.analysis.displacement import Displacements, LevelDisplacement
from tsdlab.analysis.misalignment import IOU_EDGES, Misalignment
from tsdlab.analysis.statistics import Estimate
from tsdlab.errors import InputError
from tsdlab.figures import measures as plots
from tsdlab.figures.style import PALETTE

matplotlib.use("Agg")
NONE = Estimate(None, None, None, 0)
BINS = len(IOU_EDGES) - 1


def estimate(value, reach=0.1):
    return Estimate(value, value - reach, value + reach, 7)


@pytest.fixture
def polar():
    figure, ax = plt.subplots(subplot_kw={"projection": "polar"})
    yield ax
    figure.canvas.draw()
    plt.close(figure)


@pytest.fixture
def found():
    maps = {
        "0": {"sibling": {"spearman": estimate(0.5)}, "tsd": {"spearman": estimate(0.3)}},
        "1": {"sibling": {"spearman": NONE}, "tsd": {"spearman": NONE}},
    }
    agreement = {"pearson": estimate(0.4), "spearman": estimate(0.2), "spearman_within": NONE, "gap": estimate(0.05)}
    return Misalignment(
        images=3,
        objects=7,
        maps={"proposals": maps},
        moved={"proposals": {"0": {"spearman": estimate(-0.2)}, "1": {"spearman": NONE}}},
        agreement={"sibling": agreement, "tsd": agreement},
        survival={
            "sibling": (NONE, *(estimate(0.1 * i) for i in range(1, BINS))),
            "tsd": tuple(estimate(0.05 * i) for i in range(BINS)),
        },
    )


def displaced(level_field=((0.1, 0.2), (0.0, -0.3))):
    shares = {name: tuple(estimate(1 / (len(edges) - 1), 0.01) for _ in edges[1:]) for name, edges in EDGES.items()}
    field = tuple(tuple((dx, dy) for dx, dy in level_field) for _ in range(2))
    level = LevelDisplacement(12, dict.fromkeys(COLUMNS, estimate(0.2)), field, shares)
    level = replace(level, localization_field=tuple(tuple((-dx, dy) for dx, dy in row) for row in field))
    return Displacements({"all": level, "0": level, "1": replace(level, proposals=5)})


def points(ax):
    """Label → [points, 2] of every series with whiskers."""
    return {c.get_label(): c.lines[0].get_xydata() for c in ax.containers}


def whiskers(ax):
    return {c.get_label(): np.array(c.lines[2][0].get_segments()) for c in ax.containers}


def test_measures_have_a_point_and_an_interval_per_branch(ax, found):
    plots.measures(found, "proposals", "spearman", ax)
    drawn = points(ax)
    assert [drawn[branch][:, 1].tolist() for branch in ("sibling", "tsd")] == [[0.5], [0.3]]
    assert drawn["sibling"][0, 0] < 0 < drawn["tsd"][0, 0], "beside each other, on their level's tick"
    np.testing.assert_allclose(whiskers(ax)["tsd"][0, :, 1], [0.2, 0.4])
    assert ax.get_ylabel().replace("\n", " ") == "rank correlation of the two maps"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1"]
    assert [(t.get_text(), t.get_position()[0]) for t in ax.texts] == [("no value", 1)]
    assert to_hex(ax.containers[1].lines[0].get_color()) == PALETTE["tsd"].lower()


def test_whiskers_never_point_inwards(ax, found):
    odd = {"0": {"sibling": {"spearman": Estimate(0.5, 0.6, 0.7, 3)}}}
    plots.measures(replace(found, maps={"proposals": odd}), "proposals", "spearman", ax)
    np.testing.assert_allclose(whiskers(ax)["sibling"][0, :, 1], [0.5, 0.7])


@pytest.mark.parametrize("value", [0.303, 0.25, 0.0, 1e-3, -0.2])
def test_no_marker_is_cut_by_the_axes(ax, found, value):
    """The limits once came from the values alone: a marker at the highest of similar values lay on the edge."""
    rows = {str(i): {"tsd": {"classification_centre": estimate(value - 1e-4 * i, 0.0)}} for i in range(3)}
    plots.measures(replace(found, maps={"proposals": rows}), "proposals", "classification_centre", ax)
    (low, high), shown = ax.get_ylim(), points(ax)["tsd"][:, 1]
    assert low <= 0 <= high and high > 0.25
    room = 0.03 * (high - low)
    assert low + room < shown.min() and shown.max() < high - room


def test_no_share_of_survivors_is_cut(ax, found):
    plots.survival(replace(found, survival={"tsd": (estimate(0.9, 0.001),) * BINS}), ax)
    assert ax.get_ylim()[1] > 0.901 * 1.03


def test_peak_distances_are_in_percent_of_the_object(ax, found):
    rows = {"0": {"sibling": {"peak_distance": estimate(0.278)}, "tsd": {"peak_distance": estimate(0.286)}}}
    moved = {"proposals": {"0": {"peak_distance": estimate(0.008, 0.02)}}}
    whole = replace(found, maps={"proposals": rows}, moved=moved)
    plots.measures(whole, "proposals", "peak_distance", ax)
    assert points(ax)["tsd"][0, 1] == pytest.approx(28.6)
    assert ax.get_ylabel().replace("\n", " ") == "distance between the two peaks (% of the object’s size)"
    ax.clear()
    plots.moved(whole, "proposals", "peak_distance", ax)
    assert points(ax)["tsd"][0, 1] == pytest.approx(0.8)
    np.testing.assert_allclose(whiskers(ax)["tsd"][0, :, 1], [-1.2, 2.8])


def test_moved_is_the_difference_around_zero(ax, found):
    plots.moved(found, "proposals", "spearman", ax)
    assert points(ax)["tsd"].tolist() == [[0, -0.2]]
    assert ax.get_ylabel().replace("\n", " ") == "tsd − sibling: rank correlation of the two maps"
    assert [0, 0] in [list(line.get_ydata()) for line in ax.lines]


def test_a_model_of_one_branch_has_not_moved(ax, found):
    plots.moved(replace(found, moved={}), "proposals", "spearman", ax)
    assert [t.get_text() for t in ax.texts] == ["only one branch: nothing to compare"]


def test_survival_stands_over_the_middle_of_its_bins(ax, found):
    plots.survival(found, ax)
    drawn = points(ax)
    assert len(drawn["sibling"]) == BINS - 1, "a bin without boxes has no share"
    middle = (drawn["sibling"][:, 0] + drawn["tsd"][1:, 0]) / 2
    np.testing.assert_allclose(middle, (IOU_EDGES[1:-1] + IOU_EDGES[2:]) / 2)
    np.testing.assert_allclose(drawn["tsd"][:, 1], 0.05 * np.arange(BINS))


def test_agreement_lies_on_its_side(ax, found):
    plots.agreement(found, ax)
    assert points(ax)["tsd"][:, 0].tolist() == [0.4, 0.2, 0.05]
    np.testing.assert_allclose(whiskers(ax)["tsd"][0, :, 0], [0.3, 0.5])
    assert [t.get_text().split("\n")[0] for t in ax.get_yticklabels()] == [
        "Pearson’s r", "Spearman’s ρ", "Spearman’s ρ", "IoU gap",
    ]  # fmt: skip


def test_nothing_measured_draws_nothing(ax, found):
    empty = Misalignment(0, 0, {}, {}, {}, {"sibling": ()})
    for draw in (plots.survival, plots.agreement):
        draw(empty, ax)
    plots.measures(empty, "proposals", "peak_distance", ax)
    assert not ax.containers


def test_field_leads_from_the_plain_grid(ax):
    plots.field(displaced(), "all", ax)
    plots.field(displaced(), "all", ax, "localization")
    for arrows, sign, task in zip(ax.collections, (1, -1), ("classification", "localization"), strict=True):
        np.testing.assert_allclose(arrows.get_offsets(), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
        np.testing.assert_allclose(np.stack([arrows.U, arrows.V], 1), [[sign * 0.1, 0.2], [0, -0.3]] * 2, atol=1e-6)
        assert to_hex(arrows.get_facecolor()) == PALETTE[task].lower()
    assert ax.get_xlabel() == "% of P’s width" and [t.get_text() for t in ax.get_xticklabels()] == ["0", "50", "100"]
    assert ax.patches[0].get_bbox().extents.tolist() == [0, 0, 1, 1]
    assert to_hex(ax.patches[0].get_edgecolor()) == PALETTE["proposal"].lower()
    low, high = ax.get_ylim()
    assert low > high, "y grows downwards, as in images"
    whole = displaced()
    with pytest.raises(InputError, match="no displacement of classification: it is pooled from the proposal itself"):
        plots.field(Displacements({"all": replace(whole.levels["all"], field=None)}), "all", ax)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("classification_offset", "|ΔC| (% of P)"),
        ("localization_offset_px", "|ΔR| (pixels)"),
        ("classification_direction", "direction of ΔC (degrees)"),
    ],
)
def test_distribution_has_an_outline_per_level(ax, name, label):
    plots.distribution(displaced(), name, ax)
    assert ax.get_xlabel() == label
    assert ax.get_legend_handles_labels()[1] == ["0  (12)", "1  (5)"]
    shares, edges, _ = ax.patches[0].get_data()
    np.testing.assert_array_equal(edges, (100 if "%" in label else 1) * EDGES[name])
    np.testing.assert_allclose(shares, 1 / (len(edges) - 1))


def test_a_level_without_shares_has_no_outline(ax):
    whole = displaced()
    gone = replace(whole.levels["1"], distributions={name: (NONE,) * (len(e) - 1) for name, e in EDGES.items()})
    plots.distribution(Displacements({**whole.levels, "1": gone}), "localization_offset", ax)
    assert ax.get_legend_handles_labels()[1] == ["0  (12)"]


def test_lengths_of_both_tasks_have_their_colours_and_means(ax):
    whole = displaced()
    edges = EDGES["localization_offset"]
    shares = [estimate(1.0 if i == 3 else 0.0, 0.0) for i in range(len(edges) - 1)]
    level = whole.levels["0"]
    level = replace(
        level,
        means={**level.means, "localization_offset": estimate(0.035)},
        distributions={**level.distributions, "localization_offset": tuple(shares)},
        localization_field=level.field,
    )
    plots.lengths(Displacements({"all": level, "0": level}), "0", ax)
    assert ax.get_legend_handles_labels()[1] == ["|ΔC|", "|ΔR|"]
    assert [to_hex(line.get_color()) for line in ax.lines] == [
        PALETTE[t].lower() for t in ("classification", "localization")
    ]
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([20, 3.5])
    values, places, _ = ax.patches[-1].get_data()
    assert places[values.argmax()] == pytest.approx(3.0) and places[-1] == pytest.approx(50)
    plots.lengths(Displacements({"all": replace(level, field=None)}), "all", ax)
    assert len(ax.lines) == 3, "a task that reads P itself is left out"


def test_directions_turn_as_in_images(polar):
    whole = displaced()
    shares = [estimate(0.0, 0.0) for _ in EDGES["localization_direction"][1:]]
    shares[18] = estimate(1.0, 0.0)  # 90°…105°
    level = replace(whole.levels["all"], distributions={"localization_direction": tuple(shares)})
    plots.directions(Displacements({"all": level}), "localization_direction", polar)
    longest = max(polar.patches, key=lambda bar: bar.get_height())
    assert np.rad2deg(longest.get_x() + longest.get_width() / 2) == pytest.approx(97.5)
    assert polar.get_theta_direction() == -1 and polar.get_theta_offset() == 0
    assert [t.get_text() for t in polar.get_xticklabels()] == ["0°, right", "90°, down", "180°, left", "−90°, up"]


def test_rings_are_named_where_bars_are_short(polar):
    whole = displaced()
    shares = [estimate(0.05, 0.0) for _ in EDGES["localization_direction"][1:]]
    shares[3] = shares[4] = estimate(0.01, 0.0)  # −135°…−105°
    level = replace(whole.levels["all"], distributions={"localization_direction": tuple(shares)})
    plots.directions(Displacements({"all": level}), "localization_direction", polar)
    assert polar.texts and all(text.get_text().endswith("%") for text in polar.texts)
    assert {round(float(np.rad2deg(text.get_position()[0]))) for text in polar.texts} == {-120}


def test_a_rose_of_nothing(polar):
    level = replace(displaced().levels["all"], distributions={"localization_direction": (NONE,) * 24})
    plots.directions(Displacements({"all": level}), "localization_direction", polar)
    assert not polar.patches
