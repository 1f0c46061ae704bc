"""The region that each task reads."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from tsdlab.errors import InputError
from tsdlab.figures import tasks as plots
from tsdlab.figures.style import PALETTE
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import Answer, RegionTrace

matplotlib.use("Agg")
IMAGE = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(0))
BOX = torch.tensor([16.0, 8.0, 48.0, 24.0])


def answer_of(deformed: bool) -> Answer:
    """A proposal whose bins are moved by 10% of its width to the right."""
    points = bin_centres(BOX[None], bins=3) + torch.tensor([3.2, 0.0])
    offsets = torch.zeros_like(points)
    offsets[..., 0] = 0.1
    region = RegionTrace(BOX[None] + torch.tensor([3.2, 0, 3.2, 0]), points, offsets, deformed)
    return Answer(BOX[None], torch.zeros(1, dtype=torch.int64), {}, {"localization": region})


def test_bins_are_dots_and_a_moved_box_is_dashed(ax: Axes) -> None:
    plots.task_region(answer_of(True), 0, "localization", IMAGE, BOX, ax)
    dots, centre = (line.get_xydata() for line in ax.lines)
    np.testing.assert_allclose(dots, answer_of(True).regions["localization"].points[0].flatten(0, 1))
    np.testing.assert_allclose(centre, [[35.2, 16]], rtol=1e-6)
    assert [patch.get_linestyle() for patch in ax.patches] == ["solid", "solid"]
    (arrow,) = ax.texts
    assert arrow.xyann == (32, 16) and arrow.xy == pytest.approx((35.2, 16))
    ax.clear()
    plots.task_region(answer_of(False), 0, "localization", IMAGE, BOX, ax)
    *_, region = ax.patches
    assert region.get_linestyle() in ("--", "dashed") and region.get_bbox().extents == pytest.approx(
        [19.2, 8, 51.2, 24]
    )
    assert to_hex(region.get_edgecolor()) == PALETTE["localization"].lower()


def test_a_task_that_reads_the_proposal_has_no_region(ax: Axes) -> None:
    with pytest.raises(InputError, match="no region of classification"):
        plots.task_region(answer_of(True), 0, "classification", IMAGE, BOX, ax)


sides = st.floats(-20, 90, allow_nan=False)


@given(sides, sides, sides, sides, st.floats(0, 1))
def test_the_part_that_is_shown_is_a_square_within_the_image_or_all_of_it(
    x1: float, y1: float, x2: float, y2: float, margin: float
) -> None:
    box = torch.tensor([[min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]])
    left, top, right, bottom = plots.around(box, IMAGE, margin)
    assert 0 <= left <= right <= 64 + 1e-4 and -1e-4 <= top <= bottom <= 32 + 1e-4
    side = float((box[0, 2:] - box[0, :2]).max()) * (1 + 2 * margin)
    assert right - left == pytest.approx(min(side, 64), abs=1e-3)
    assert bottom - top == pytest.approx(min(side, 32), abs=1e-3)
