"""Boxes in another convention are recognized, and boxes in the right one are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdlab.data.conventions import BoxHabits

SIZE = np.array([640.0, 480.0])


def habits(boxes: np.ndarray, sizes: np.ndarray) -> BoxHabits:
    """Counted in two parts."""
    found = BoxHabits()
    for part in (slice(7), slice(7, None)):
        found.add(boxes[part], sizes[part])
    return found


def wrong_convention(boxes: np.ndarray, sizes: np.ndarray) -> str | None:
    return habits(boxes, sizes).wrong_convention()


def share_leaving(boxes: np.ndarray, sizes: np.ndarray) -> float:
    return habits(boxes, sizes).share_leaving()


def scene(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [x, y, width, height] of many sizes anywhere in an image."""
    rng = np.random.default_rng(seed)
    sides = SIZE * rng.uniform(0.02, 0.7, (count, 2))
    return np.concatenate([(SIZE - sides) * rng.uniform(0, 1, (count, 2)), sides], 1), np.tile(SIZE, (count, 1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(100, 300))
def test_each_convention_is_named(seed: int, count: int) -> None:
    boxes, sizes = scene(seed, count)
    assert wrong_convention(boxes, sizes) is None and share_leaving(boxes, sizes) == 0
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    centres = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    assert "corners" in str(wrong_convention(corners, sizes))
    assert "centres" in str(wrong_convention(centres, sizes))
    for other in (boxes, centres, corners):
        assert "fractions" in str(wrong_convention(other / np.tile(sizes, 2), sizes))
    # A few odd boxes hide nothing.
    for name, wrong in (("corners", corners), ("centres", centres), ("fractions", boxes / np.tile(sizes, 2))):
        odd = wrong.copy()
        odd[:: max(20, count // 5)] = (-300, 470, 900, 3)
        assert name in str(wrong_convention(odd[: count - count % 20], sizes[: count - count % 20]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300), beyond=st.floats(0, 0.3))
def test_sloppy_boxes_are_no_other_convention(seed: int, count: int, beyond: float) -> None:
    boxes, sizes = scene(seed, count)
    boxes[0] = (-beyond * 640, 3, 640 * (1 + 2 * beyond), 40)
    boxes[-1] = (500, 400, 140 * (1 + beyond / 2), 80 * (1 + beyond / 2))
    assert wrong_convention(boxes, sizes) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300), cut=st.floats(0, 0.4), right=st.integers(0, 9))
def test_outlines_that_end_below_the_image_are_no_centres(seed: int, count: int, cut: float, right: int) -> None:
    boxes, sizes = scene(seed, count)
    low = np.random.default_rng(seed).random(count) < cut
    boxes[low] = (100, 430, 30, 80)
    boxes[:right] = (630, 100, 30, 80)  # a few that end on the right
    assert "centres" not in str(wrong_convention(boxes, sizes))


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_few_boxes_and_whole_numbers_prove_nothing(count: int) -> None:
    sizes = np.tile(SIZE, (count, 1))
    for box in ((400, 300, 600, 400), (600, 440, 80, 80), (0, 0, 1, 1)):
        boxes = np.tile(np.array(box, float), (count, 1))
        assert wrong_convention(boxes, sizes) is None and share_leaving(boxes, sizes) == 0
    dots = np.tile(np.array([0.0, 1, 1, 1]), (200, 1))
    assert wrong_convention(dots, np.tile(SIZE, (200, 1))) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(40, 300))
def test_boxes_in_a_convention_without_a_name_leave_their_images(seed: int, count: int) -> None:
    boxes, sizes = scene(seed, count)
    thousandths = boxes / np.tile(sizes, 2) * 1000
    turned = np.concatenate([boxes[:, 1::-1], boxes[:, 1::-1] + boxes[:, :1:-1]], 1)  # [y1, x1, y2, x2]
    for other in (thousandths, turned):
        assert share_leaving(other, sizes) > 0.25
    boxes[: count // 2] = (-20, 3, 9, 9)
    assert abs(share_leaving(boxes, sizes) - 0.5) < 0.02


def test_no_boxes_and_tiny_images() -> None:
    assert wrong_convention(np.zeros((0, 4)), np.zeros((0, 2))) is None
    assert wrong_convention(np.array([[0.0, 0, 1, 1]]), np.array([[2.0, 2]])) is None


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.1, 0.2, 0.3, 0.4)])
def test_one_fraction_among_pixels_is_no_convention(box: tuple[float, ...]) -> None:
    boxes, sizes = scene(0, 20)
    boxes[3] = box
    assert wrong_convention(boxes, sizes) is None
