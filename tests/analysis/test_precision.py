from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tsdlab.analysis.precision import RECALLS, average_precision, precision_at_recalls


def by_repeating(correct: list[bool], times: list[int], positives: int) -> np.ndarray:
    """The precision at each recall, when every detection stands in the list as often as it counts."""
    repeated = [right for right, count in zip(correct, times) for _ in range(count)]
    found = np.cumsum(repeated) if repeated else np.zeros(0)
    precision = [f / (i + 1) for i, f in enumerate(found)]
    return np.array([max((p for p, f in zip(precision, found) if f / positives >= r), default=0.0) for r in RECALLS])


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 1)), max_size=12),
    st.integers(0, 5),
)
def test_weights_count_like_repetitions(rows: list[tuple[bool, int, int]], missed: int):
    correct, *weights = (list(column) for column in zip(*rows)) if rows else ([], [], [])
    positives = np.array([sum(w for right, w in zip(correct, row) if right) + missed for row in weights])
    arguments = np.array(correct, dtype=bool), np.array(weights, dtype=float), positives.astype(float)
    curves, means = precision_at_recalls(*arguments), average_precision(*arguments)
    for row, count, curve, mean in zip(weights, positives, curves, means):
        if count == 0:
            assert np.isnan(curve).all() and np.isnan(mean)
        else:
            np.testing.assert_allclose(curve, by_repeating(correct, row, count))
            np.testing.assert_allclose(mean, curve.mean())
