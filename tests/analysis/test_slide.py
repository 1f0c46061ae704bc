"""Sliding a box, on detectors whose answer is known."""

from dataclasses import replace

import pytest
import torch

from tsdlab.analysis.slide import slide_box
from tsdlab.models.build import build_detector
from tsdlab.models.heads import Head
from tsdlab.presets import PRESETS
from tsdlab.structures import HeadOutput

BOX = torch.tensor([40.0, 30.0, 90.0, 110.0])  # 50 wide, 80 high


class Spot(Head):
    """Scores class 2 by how near the RoI's centre is to a spot, and leaves every box as it is."""

    def __init__(self, spot: tuple[float, float]) -> None:
        super().__init__()
        self.spot = torch.tensor(spot)

    def forward(self, pool, rois, all_branches=False):
        centre = (rois[:, 1:3] + rois[:, 3:5]) / 2
        logits = torch.zeros(len(rois), 7)
        logits[:, 2] = -(centre - self.spot).norm(dim=1)
        return HeadOutput(logits, torch.zeros(len(rois), 7, 4), rois[:, 1:])


@pytest.fixture(scope="module")
def maps():
    model = build_detector(replace(PRESETS["badges-tiny"], head="sibling"))
    model.roi_heads.head = Spot((65.0 + 0.25 * 50, 70.0 - 0.375 * 80))  # a quarter right of the centre, and up
    return slide_box(model, torch.rand(3, 128, 128), BOX, label=2, steps=17)


def test_classification_peaks_on_the_spot(maps):
    torch.testing.assert_close(maps.best_place("classification"), torch.tensor([0.25, -0.375]))


def test_localization_peaks_where_the_box_is_the_truth(maps):
    torch.testing.assert_close(maps.best_place("localization"), torch.zeros(2), atol=1e-6, rtol=0)
    assert maps.localization.max() == pytest.approx(1.0, abs=1e-4)
    half_right = maps.localization[8, 16]  # shifted by half a width: IoU 1/3
    assert half_right == pytest.approx(1 / 3, abs=1e-3)


def test_overlap_is_that_of_the_slid_box(maps):
    # The head leaves boxes as they are; rows further out are clipped by the image.
    torch.testing.assert_close(maps.overlap[6:11], maps.localization[6:11], atol=1e-4, rtol=0)


def test_bad_input_is_named():
    model = build_detector(PRESETS["badges-tiny"])
    with pytest.raises(ValueError, match=r"steps must be odd.*got 4"):
        slide_box(model, torch.rand(3, 128, 128), BOX, 1, steps=4)
    with pytest.raises(ValueError, match=r"box must be \[4\] xyxy, got \(1, 4\)"):
        slide_box(model, torch.rand(3, 128, 128), BOX[None], 1)
