"""The picture of boxes and anchors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes

from tsdlab.data.anchors import AnchorFit, Anchors
from tsdlab.figures.anchors import anchors

OWN = Anchors((16.0, 32.0), (1.0, 4.0), 0.6, 0.9, 0.25)
BETTER = Anchors((20.0,), (0.25, 1.0), 0.8, 1.0, 0.75)
FIT = AnchorFit(384, 640, {}, {}, OWN, None, np.array([[10.0, 20.0], [40.0, 30.0], [300.0, 8.0]]))


def drawn_points(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    """What is marked, by the first words of its label."""
    return {
        str(points.get_label()).split(":")[0]: [tuple(p) for p in np.asarray(points.get_offsets()).round(6).tolist()]
        for points in ax.collections
    }


@pytest.mark.parametrize("better", [None, BETTER])
def test_boxes_and_anchors_are_where_their_width_and_height_are(better: Anchors | None, ax: Axes) -> None:
    anchors(replace(FIT, suggested=better), ax)
    points = drawn_points(ax)
    assert points.pop("boxes") == [(10, 20), (40, 30), (300, 8)]
    assert points.pop("anchors") == [(16, 16), (8, 32), (32, 32), (16, 64)]  # a ratio is height / width
    assert points == ({} if better is None else {"better anchors": [(40, 10), (20, 20)]})
    texts = " ".join(text.get_text() for text in ax.get_legend().get_texts())
    assert "25% of boxes" in texts and ("75% of boxes" in texts) == (better is not None)
    assert ax.get_xscale() == ax.get_yscale() == "log"
