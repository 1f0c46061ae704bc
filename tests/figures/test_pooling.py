"""Bins, samples and weights are drawn where pooling reads."""

import numpy as np
import pytest
import torch

from tsdlab.figures import pooling


def test_feature_map_cells_are_stride_pixels_wide(ax):
    pooling.feature_map(torch.rand(3, 5), 8, ax)
    assert ax.images[0].get_extent() == [0, 40, 24, 0]
    assert ax.get_xlim() == (0, 40) and ax.get_ylim() == (24, 0)
    columns, rows = (np.array(lines.get_segments()) for lines in ax.collections)
    assert columns[:, 0, 0].tolist() == [0, 8, 16, 24, 32, 40]
    assert rows[:, 0, 1].tolist() == [0, 8, 16, 24]


def test_region_draws_every_bin_and_sample(ax):
    pooling.region(torch.tensor([10.0, 20.0, 18.0, 24.0]), "red", ax, bins=2, samples=2)
    bins = [p.get_bbox().extents.tolist() for p in ax.patches]
    assert bins == [[10, 20, 14, 22], [14, 20, 18, 22], [10, 22, 14, 24], [14, 22, 18, 24]]
    samples = {(float(x), float(y)) for x, y in zip(*ax.lines[0].get_data())}
    assert samples == {(x, y) for x in (11, 13, 15, 17) for y in (20.5, 21.5, 22.5, 23.5)}


def test_region_with_offsets_moves_bins_and_samples_and_says_from_where(ax):
    offsets = torch.zeros(2, 2, 2)
    offsets[1, 0] = torch.tensor([0.5, -0.25])  # second row, first column: 4 pixels right, 1 up
    pooling.region(torch.tensor([10.0, 20.0, 18.0, 24.0]), "red", ax, offsets, samples=1)
    assert ax.patches[2].get_bbox().extents.tolist() == [14, 21, 18, 23]
    np.testing.assert_allclose(np.stack(ax.lines[0].get_data(), 1), [[12, 21], [16, 21], [16, 22], [16, 23]])
    (arrows,) = ax.collections
    np.testing.assert_allclose(arrows.get_offsets(), [[12, 21], [16, 21], [12, 23], [16, 23]])
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], 1), [[0, 0], [0, 0], [4, -1], [0, 0]])


def test_bilinear_weights_are_those_of_interpolation(ax):
    x, y, stride = 19.0, 30.0, 8.0  # 2.375 and 3.75 cells: 0.875 from the centre of column 1, 0.25 from that of row 3
    pooling.bilinear_weights(torch.tensor([x, y]), stride, "red", ax)
    areas = [p.get_width() * p.get_height() / stride**2 for p in ax.patches]
    assert areas == pytest.approx([0.125 * 0.75, 0.125 * 0.25, 0.875 * 0.75, 0.875 * 0.25])
    assert [t.get_text() for t in ax.texts] == [f"{a:.2f}" for a in areas]
