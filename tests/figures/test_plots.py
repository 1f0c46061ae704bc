"""Plots draw what they are given: the artists are compared with the data."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from tsdlab.analysis.slide import SlideMaps
from tsdlab.figures import plots
from tsdlab.models.build import build_detector
from tsdlab.models.probe import trace
from tsdlab.presets import PRESETS

matplotlib.use("Agg")
NAMES = ["star", "ring", "triangle", "cross", "heart", "moon"]
PROPOSAL = torch.tensor([[20.0, 30.0, 90.0, 100.0]])


@pytest.fixture(scope="module")
def traced():
    torch.manual_seed(0)
    model = build_detector(replace(PRESETS["badges-tiny"], head="tsd"))
    for name, parameter in model.named_parameters():
        if "offset" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    image = torch.rand(3, 128, 128)
    return image, trace(model, image, PROPOSAL)


def boxes_of(ax):
    """Colour → (x1, y1, x2, y2) of every rectangle."""
    return {to_hex(p.get_edgecolor()): p.get_bbox().extents.round(3).tolist() for p in ax.patches}


def test_image_is_shown_in_its_own_pixels(ax):
    image = torch.rand(3, 4, 6)
    plots.show_image(image, ax)
    assert ax.get_xlim() == (0, 6) and ax.get_ylim() == (4, 0)
    np.testing.assert_allclose(ax.images[0].get_array(), image.permute(1, 2, 0))


def test_detections_above_the_threshold_are_drawn_and_named(ax):
    found = {
        "boxes": torch.tensor([[1.0, 2.0, 30.0, 40.0], [5.0, 5.0, 9.0, 9.0]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.9, 0.4]),
    }
    plots.detections(torch.zeros(3, 64, 64), found, NAMES, ax)
    assert [p.get_bbox().extents.tolist() for p in ax.patches] == [[1.0, 2.0, 30.0, 40.0]]
    assert [t.get_text().strip() for t in ax.texts] == ["ring 0.90"]


def test_displacement_draws_all_three_regions(ax, traced):
    image, found = traced
    truth = torch.tensor([22.0, 33.0, 95.0, 99.0])
    plots.displacement(image, found, 0, ax, truth)
    boxes = boxes_of(ax)
    assert boxes[plots.PALETTE["proposal"].lower()] == PROPOSAL[0].tolist()
    assert boxes[plots.PALETTE["truth"].lower()] == truth.tolist()
    np.testing.assert_allclose(boxes[plots.PALETTE["localization"].lower()], found.localization_proposals[0], atol=1e-3)
    grid, moved = (np.stack(line.get_data(), 1) for line in ax.lines)
    np.testing.assert_allclose(moved, found.classification_points[0].flatten(0, 1), atol=1e-4)
    offsets = found.classification_offsets[0].flatten(0, 1) * 70  # the proposal is 70 pixels wide and high
    np.testing.assert_allclose(moved - grid, offsets, atol=1e-4)


def test_displacement_of_a_model_without_offsets_is_refused(ax, traced):
    image, found = traced
    with pytest.raises(ValueError, match="tsd head"):
        plots.displacement(image, replace(found, classification_points=None), 0, ax)


def test_class_scores_are_softmax_scores(ax, traced):
    _, found = traced
    plots.class_scores({"sibling": found.sibling, "tsd": found.detection}, 0, NAMES, ax)
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(widths[0], found.sibling.logits[0].softmax(0), rtol=1e-5)
    np.testing.assert_allclose(widths[1], found.detection.logits[0].softmax(0), rtol=1e-5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["background", *NAMES]


def test_score_against_iou(ax, traced):
    _, found = traced
    truth = found.detection.boxes[0, 3]  # so the IoU is 1
    plots.score_against_iou({"tsd": found.detection}, 3, truth, ax)
    x, y = ax.lines[0].get_data()
    assert x == pytest.approx([found.detection.logits[0].softmax(0)[3].item()])
    assert y == pytest.approx([1.0], abs=1e-5)


def test_slide_map_marks_the_best_place(ax):
    values = torch.zeros(5, 5)
    values[1, 4] = 0.9
    plots.slide_map(SlideMaps(torch.linspace(-0.5, 0.5, 5), torch.zeros(5, 5), values), "localization", ax)
    ring = ax.lines[0].get_data()
    assert (ring[0][0], ring[1][0]) == (0.5, -0.25)  # column 4 is x, row 1 is y
    assert ax.images[0].get_extent() == [-0.625, 0.625, 0.625, -0.625]


def test_training_curve_is_a_running_mean(ax):
    rows = [{"step": i, "total": float(i)} for i in range(1, 6)]
    plots.training_curve({"tsd": rows}, smooth=3, ax=ax)
    x, y = ax.lines[0].get_data()
    assert x.tolist() == [3, 4, 5] and y == pytest.approx([2, 3, 4])


def test_average_precision_with_errors(ax):
    results = {"sibling": {"AP": 20.0, "AP50": 30.0}, "tsd": {"AP": 50.0, "AP50": 60.0}}
    errors = {name: dict.fromkeys(values, 2.0) for name, values in results.items()}
    plots.average_precision(results, ("AP", "AP50"), ax, errors)
    assert [bar.get_height() for bar in ax.patches] == [20, 30, 50, 60]
    assert not ax.texts, "whiskers in the place of values"
    segments = ax.collections[1].get_segments()  # tsd's whiskers
    assert [(low[1], high[1]) for low, high in segments] == [(48, 52), (58, 62)]


def test_average_precision_bars(ax):
    plots.average_precision(
        {"sibling": {"AP": 10, "AP50": 20, "AP75": 5}, "tsd": {"AP": 30, "AP50": 50, "AP75": 28}}, ax=ax
    )
    assert [bar.get_height() for bar in ax.patches] == [10, 20, 5, 30, 50, 28]


def test_a_model_has_one_colour_everywhere(ax):
    plots.training_curve({"tsd 400 steps": [{"step": 1, "total": 1.0}]}, ax=ax)
    assert to_hex(ax.lines[0].get_color()) == plots.PALETTE["tsd"].lower()


def test_feature_map_cells_are_stride_pixels_wide(ax):
    plots.feature_map(torch.rand(3, 5), 8, ax)
    assert ax.images[0].get_extent() == [0, 40, 24, 0]
    assert ax.get_xlim() == (0, 40) and ax.get_ylim() == (24, 0)
    columns, rows = (np.array(lines.get_segments()) for lines in ax.collections)
    assert columns[:, 0, 0].tolist() == [0, 8, 16, 24, 32, 40]
    assert rows[:, 0, 1].tolist() == [0, 8, 16, 24]


def test_region_draws_every_bin_and_sample(ax):
    plots.region(torch.tensor([10.0, 20.0, 18.0, 24.0]), "red", ax, bins=2, samples=2)
    bins = [p.get_bbox().extents.tolist() for p in ax.patches]
    assert bins == [[10, 20, 14, 22], [14, 20, 18, 22], [10, 22, 14, 24], [14, 22, 18, 24]]
    samples = {(float(x), float(y)) for x, y in zip(*ax.lines[0].get_data())}
    assert samples == {(x, y) for x in (11, 13, 15, 17) for y in (20.5, 21.5, 22.5, 23.5)}


def test_region_with_offsets_moves_bins_and_samples_and_says_from_where(ax):
    offsets = torch.zeros(2, 2, 2)
    offsets[1, 0] = torch.tensor([0.5, -0.25])  # second row, first column: 4 pixels right, 1 up
    plots.region(torch.tensor([10.0, 20.0, 18.0, 24.0]), "red", ax, offsets, samples=1)
    assert ax.patches[2].get_bbox().extents.tolist() == [14, 21, 18, 23]
    np.testing.assert_allclose(np.stack(ax.lines[0].get_data(), 1), [[12, 21], [16, 21], [16, 22], [16, 23]])
    (arrows,) = ax.collections
    np.testing.assert_allclose(arrows.get_offsets(), [[12, 21], [16, 21], [12, 23], [16, 23]])
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], 1), [[0, 0], [0, 0], [4, -1], [0, 0]])


def test_bilinear_weights_are_those_of_interpolation(ax):
    x, y, stride = 19.0, 30.0, 8.0  # 2.375 and 3.75 cells: 0.875 from the centre of column 1, 0.25 from that of row 3
    plots.bilinear_weights(torch.tensor([x, y]), stride, "red", ax)
    areas = [p.get_width() * p.get_height() / stride**2 for p in ax.patches]
    assert areas == pytest.approx([0.125 * 0.75, 0.125 * 0.25, 0.875 * 0.75, 0.875 * 0.25])
    assert [t.get_text() for t in ax.texts] == [f"{a:.2f}" for a in areas]


def test_speedup_bars_leave_from_the_peer(ax):
    row = {
        "torchvision": {"times_torchvision": 1.0},
        "grid_sample": {"times_torchvision": 0.5},
        "tsdlab": {"times_torchvision": 8.0},
    }
    settings = {"small": {"forward": row}, "large": {"forward": {k: v for k, v in row.items() if k != "grid_sample"}}}
    plots.speedup(settings, "forward", ax)
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert ends == [(1, 0.5), (1, 8), (1, 8)]  # small: grid_sample; tsdlab: small, large
    assert ax.get_legend_handles_labels()[1] == ["grid_sample", "tsdlab"]
    low, high = ax.get_ylim()
    assert low > high  # the first setting is on top
