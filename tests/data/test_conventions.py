"""Boxes in another convention are recognized, and boxes in the right one are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdlab.data.conventions import wrong_convention

SIZE = np.array([640.0, 480.0])


def scene(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [x, y, width, height] of many sizes anywhere in an image."""
    rng = np.random.default_rng(seed)
    sides = SIZE * rng.uniform(0.02, 0.7, (count, 2))
    return np.concatenate([(SIZE - sides) * rng.uniform(0, 1, (count, 2)), sides], 1), np.tile(SIZE, (count, 1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(40, 300))
def test_each_convention_is_named(seed: int, count: int) -> None:
    boxes, sizes = scene(seed, count)
    assert wrong_convention(boxes, sizes) is None
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    centres = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    assert "corners" in str(wrong_convention(corners, sizes))
    assert "centres" in str(wrong_convention(centres, sizes))
    for other in (boxes, centres, corners):
        assert "fractions" in str(wrong_convention(other / np.tile(sizes, 2), sizes))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300), beyond=st.floats(0, 0.3))
def test_sloppy_boxes_are_no_other_convention(seed: int, count: int, beyond: float) -> None:
    boxes, sizes = scene(seed, count)
    boxes[0] = (-beyond * 640, 3, 640 * (1 + 2 * beyond), 40)
    boxes[-1] = (500, 400, 140 * (1 + beyond / 2), 80 * (1 + beyond / 2))
    assert wrong_convention(boxes, sizes) is None or count <= 2


def test_no_boxes_and_tiny_images() -> None:
    assert wrong_convention(np.zeros((0, 4)), np.zeros((0, 2))) is None
    assert wrong_convention(np.array([[0.0, 0, 1, 1]]), np.array([[2.0, 2]])) is None


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.1, 0.2, 0.3, 0.4)])
def test_one_fraction_among_pixels_is_no_convention(box: tuple[float, ...]) -> None:
    boxes, sizes = scene(0, 20)
    boxes[3] = box
    assert wrong_convention(boxes, sizes) is None
