"""Scores and IoUs are drawn as the branches answer them."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from tsdlab.analysis.slide import SlideMaps
from tsdlab.figures import scores
from tsdlab.figures.style import PALETTE

NAMES = ["star", "ring", "triangle", "cross", "heart", "moon"]


def test_class_scores_are_softmax_scores(ax, traced):
    _, found = traced
    scores.class_scores({"sibling": found.sibling, "tsd": found.detection}, 0, NAMES, ax)
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(widths[0], found.sibling.logits[0].softmax(0), rtol=1e-5)
    np.testing.assert_allclose(widths[1], found.detection.logits[0].softmax(0), rtol=1e-5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["background", *NAMES]


def test_score_against_iou(ax, traced):
    _, found = traced
    truth = found.detection.boxes[0, 3]  # so the IoU is 1
    scores.score_against_iou({"tsd": found.detection}, 3, truth, ax)
    x, y = ax.lines[0].get_data()
    assert x == pytest.approx([found.detection.logits[0].softmax(0)[3].item()])
    assert y == pytest.approx([1.0], abs=1e-5)


@pytest.mark.parametrize("task", ["classification", "localization"])
def test_slide_map_has_its_tasks_colour_and_the_best_places_of_both(ax, task):
    classification, localization = torch.zeros(5, 5), torch.zeros(5, 5)
    classification[3, 0], localization[1, 4] = 0.8, 0.9
    scores.slide_map(SlideMaps(torch.linspace(-0.5, 0.5, 5), classification, localization), task, ax)
    own, way, *marks = (line.get_xydata().tolist() for line in ax.lines)
    assert own == [[0, 0]] and way == [[-0.5, 0.25], [0.5, -0.25]]  # column 4 is x, row 1 is y
    assert marks == [[place] for place in way]
    white, full = ax.images[0].cmap([0.0, 1.0])[:, :3]
    assert white.tolist() == [1, 1, 1] and np.abs(full - to_rgb(PALETTE[task])).max() < 0.15
    assert ax.images[0].get_extent() == [-0.625, 0.625, 0.625, -0.625]
