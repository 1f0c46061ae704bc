"""Sums against numpy and scipy, intervals against what they promise."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tsdlab.analysis.statistics import Estimate, Tally

NOTHING = Estimate(None, None, None, 0)
EDGES = np.linspace(0, 1, 5)


def tally_of(images, replicates=50, start=0):
    """Everything a tally can keep, of images [n, 2] each with numbers in 0…1."""
    tally = Tally(replicates)
    for i, values in enumerate(images, start):
        add_image(tally, i, values)
    return tally


def add_image(tally, index, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    tally.begin(index)
    tally.add(("mean",), values[:, 0])
    tally.add(("other",), values[: len(values) // 2, 1])
    tally.add(("means",), values)
    tally.add_pairs(("pairs",), values[:, 0], values[:, 1])
    tally.add_counts(("before",), values[:, 0], EDGES)
    tally.add_counts(("after",), values[:, 0][values[:, 1] > 0.5], EDGES)


def answers(tally):
    """All estimates, flat."""
    return [
        tally.mean(("mean",)),
        *tally.means(("means",)),
        tally.difference(("mean",), ("other",)),
        tally.pearson(("pairs",)),
        tally.spearman(("pairs",)),
        *tally.shares(("before",)),
        *tally.survival(("after",), ("before",)),
    ]


def scores(rng, count, skew):
    """Pairs in 0…1 that go together; the larger the skew, the closer to 0 and 1, as class scores are."""
    x = rng.normal(size=count)
    y = 0.7 * x + 0.5 * rng.normal(size=count)
    return np.stack([1 / (1 + np.exp(-skew * x)), 1 / (1 + np.exp(-y))], axis=1)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [scores(rng, int(rng.integers(0, 30)), skew=2.0) for _ in range(25)]


def test_values_are_those_of_numpy_and_scipy(images):
    tally, all_of_it = tally_of(images), np.concatenate(images)
    x, y = all_of_it.T
    other = np.concatenate([image[: len(image) // 2, 1] for image in images])
    assert tally.mean(("mean",)).value == pytest.approx(x.mean(), rel=1e-12)
    assert [e.value for e in tally.means(("means",))] == pytest.approx([x.mean(), y.mean()], rel=1e-12)
    assert tally.difference(("mean",), ("other",)).value == pytest.approx(x.mean() - other.mean(), rel=1e-9)
    assert tally.difference(("mean",), ("other",)).count == len(other) < len(x)
    assert tally.pearson(("pairs",)).value == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-9)
    assert tally.spearman(("pairs",)).value == pytest.approx(stats.spearmanr(x, y).statistic, abs=0.01)
    shares = np.histogram(x, EDGES)[0] / len(x)
    assert [e.value for e in tally.shares(("before",))] == pytest.approx(shares)
    left = np.histogram(x[y > 0.5], EDGES)[0] / np.histogram(x, EDGES)[0]
    assert [e.value for e in tally.survival(("after",), ("before",))] == pytest.approx(left)
    assert [e.count for e in tally.survival(("after",), ("before",))] == np.histogram(x, EDGES)[0].tolist()
    assert {e.count for e in [tally.mean(("mean",)), tally.pearson(("pairs",)), tally.spearman(("pairs",))]} == {len(x)}


def test_columns_of_replicates_are_weighted_statistics(images):
    """Replicate r of image i counts it as often as its draws say: numpy with repeated observations."""
    tally = tally_of(images, replicates=3)
    found = tally._sums[("mean",)]
    for r in range(3):
        repeated = []
        for i, image in enumerate(images):
            repeated += [image[:, 0]] * int(np.random.default_rng([0, i]).poisson(1.0, 3)[r])
        assert found[:, 1 + r] == pytest.approx([len(np.concatenate(repeated)), np.concatenate(repeated).sum()])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(5, 300), st.sampled_from([0.3, 1.0, 3.0, 8.0, 20.0]), st.sampled_from([1, 2, 10])
)
def test_rank_correlation_of_ties_is_scipys(seed, count, skew, steps):
    """Multiples of a tenth lie in cells of their own, so that nothing is lost."""
    pairs = np.round(scores(np.random.default_rng(seed), count, skew) * steps) / steps
    found = spearman(pairs)
    if np.ptp(pairs, axis=0).min() == 0:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(*pairs.T).statistic, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(200, 1000), st.floats(0.7, 4), st.sampled_from([0, 2, 4]))
def test_rank_correlation_is_scipys_but_for_the_width_of_cells(seed, count, skew, shift):
    """Scores crowded near 0 or 1: cells are as wide there as they should be."""
    pairs = scores(np.random.default_rng(seed), count, skew)
    pairs[:, 0] = 1 / (1 + (1 / pairs[:, 0] - 1) * math.exp(shift))
    assert spearman(pairs) == pytest.approx(stats.spearmanr(*pairs.T).statistic, abs=0.05)


def spearman(pairs):
    tally = Tally(0)
    tally.begin(0)
    tally.add_pairs(("pairs",), *pairs.T)
    return tally.spearman(("pairs",)).value


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_parts_add_up_to_the_whole_however_it_is_split(data):
    values = st.floats(0, 1, width=16)
    images = data.draw(st.lists(st.lists(st.tuples(values, values), max_size=6), min_size=1, max_size=8))
    owner = data.draw(st.lists(st.integers(0, 3), min_size=len(images), max_size=len(images)))
    parts = [Tally(20) for _ in range(4)]
    for i in data.draw(st.permutations(range(len(images)))):
        add_image(parts[owner[i]], i, images[i])
    whole, merged = tally_of(images, 20), Tally(20)
    for part in data.draw(st.permutations(parts)):
        merged.merge(part)
    assert merged._sums.keys() == whole._sums.keys()
    for name, sums in whole._sums.items():
        np.testing.assert_allclose(merged._sums[name], sums, rtol=1e-12, atol=1e-12)


def test_adding_after_a_merge_leaves_the_part_alone(images):
    part, whole = tally_of(images[:3]), Tally(50)
    before = answers(part)
    whole.merge(part)
    add_image(whole, 3, images[3])
    assert answers(part) == before


def test_draws_depend_on_the_image_alone(images):
    forwards, backwards = Tally(50), Tally(50)
    for i, image in enumerate(images):
        add_image(forwards, i, image)
    for i, image in reversed(list(enumerate(images))):
        add_image(backwards, i, image)
    for name, sums in forwards._sums.items():
        np.testing.assert_allclose(sums, backwards._sums[name], rtol=1e-12)
    shifted = tally_of(images, start=1)
    assert np.array_equal(shifted._sums[("before",)][:, 0], forwards._sums[("before",)][:, 0])
    assert not np.array_equal(shifted._sums[("before",)][:, 1:], forwards._sums[("before",)][:, 1:])
    reseeded = Tally(50, seed=1)
    add_image(reseeded, 0, images[0])
    assert not np.array_equal(reseeded._weights, tally_of(images[:1])._weights)


def test_intervals_know_that_objects_of_an_image_go_together():
    """200 data sets of 60 images with 1…12 objects each, which share most of what makes them vary."""
    rng, covered, naive, replicates = np.random.default_rng(7), 0, 0, 300
    draws = np.stack([_weights(i, replicates) for i in range(60)])
    for _ in range(200):
        sizes = rng.integers(1, 13, 60)
        images = [0.3 + rng.normal() + 0.5 * rng.normal(size=n) for n in sizes]
        tally = Tally(replicates)
        for values, weights in zip(images, draws):
            tally._weights = weights  # as `begin` draws them, once instead of 200 times
            tally.add(("x",), values)
        found, flat = tally.mean(("x",)), np.concatenate(images)
        half = 1.96 * flat.std() / math.sqrt(len(flat))
        covered += found.low <= 0.3 <= found.high
        naive += abs(flat.mean() - 0.3) <= half
        assert found.high - found.low > 2 * half
    assert 0.88 <= covered / 200 <= 0.99
    assert naive / 200 < 0.75


def test_an_interval_is_of_ninety_five_percent():
    """Of 400 independent values, one per image: the mean ± 1.96 standard errors."""
    tally, values = Tally(4000), np.random.default_rng(0).normal(3.0, 2.0, 400)
    for i, value in enumerate(values):
        tally.begin(i)
        tally.add(("x",), [value])
    found, half = tally.mean(("x",)), 1.96 * values.std() / 20  # 99%: 2.58, 90%: 1.64
    assert found.low == pytest.approx(values.mean() - half, abs=0.08 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.08 * half)
    assert Tally().replicates == 1000  # with few, the ends of an interval would be drawn by chance


def _weights(image, replicates):
    tally = Tally(replicates)
    tally.begin(image)
    return tally._weights


def test_intervals_of_a_paired_difference_are_narrower_than_those_of_its_parts():
    rng, tally = np.random.default_rng(0), Tally(500)
    for i in range(100):
        shared = rng.normal(size=5) + 3 * rng.normal()
        tally.begin(i)
        tally.add(("a",), shared + 0.2 + 0.1 * rng.normal(size=5))
        tally.add(("b",), shared)
    found, alone = tally.difference(("a",), ("b",)), tally.mean(("a",))
    assert found.low < 0.2 < found.high and found.count == 500
    assert found.high - found.low < 0.1 * (alone.high - alone.low)
    same = tally.difference(("a",), ("a",))
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_an_interval_encloses_its_value(images):
    for found in answers(tally_of(images, 500)):
        assert found.low <= found.value <= found.high


def test_what_is_not_finite_is_left_out_and_not_counted():
    tally = Tally(10)
    tally.begin(0)
    tally.add(("x",), [1.0, math.nan, 3.0, math.inf, -math.inf])
    tally.add(("columns",), [[1.0, 2.0], [math.nan, 100.0], [3.0, 4.0]])  # a row counts as a whole
    tally.add_pairs(("pairs",), [0.1, 0.2, math.nan, 0.4], [0.2, 0.3, 0.9, math.inf])
    tally.add_counts(("bins",), [0.1, math.nan, math.inf, 0.9], EDGES)
    assert tally.mean(("x",)) == Estimate(2.0, 2.0, 2.0, 2)
    assert [(e.value, e.count) for e in tally.means(("columns",))] == [(2.0, 2), (3.0, 2)]
    assert tally.pearson(("pairs",)).count == tally.spearman(("pairs",)).count == 2
    assert tally.pearson(("pairs",)).value == pytest.approx(1)
    assert [e.value for e in tally.shares(("bins",))] == [0.5, 0, 0, 0.5]


def test_of_nothing_there_is_no_estimate():
    tally = Tally(10)
    names = [("unknown",), ("empty",), ("nan",)]
    tally.begin(0)
    for name, values in zip(names[1:], ([], [math.nan])):
        tally.add(name, values)
        tally.add_pairs(name, values, values)
        tally.add_counts((*name, "counts"), values, EDGES)
    for name in names:
        assert tally.mean(name) == tally.pearson(name) == tally.spearman(name) == NOTHING
        assert tally.difference(name, ("empty",)) == tally.difference(("empty",), name) == NOTHING
        assert set(tally.shares((*name, "counts"))) <= {NOTHING}
        assert set(tally.survival((*name, "counts"), (*name, "counts"))) <= {NOTHING}
    assert tally.means(("unknown",)) == tally.shares(("unknown",)) == tally.survival(("unknown",), ("unknown",)) == []
    assert str(NOTHING) == "–"
    assert Tally(10).gather().names() == []


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.999999, 1.0])
def test_what_does_not_vary_does_not_correlate(value):
    tally = Tally(20)
    for i in range(7):
        tally.begin(i)
        tally.add_pairs(("flat",), np.full(13, value), np.linspace(0, 1, 13))
        tally.add_pairs(("both",), np.full(13, value), np.full(13, value))
    for name in ("flat", "both"):
        assert tally.pearson((name,)) == tally.spearman((name,)) == Estimate(None, None, None, 91)


def test_bins_without_anything_have_no_survivors():
    tally = Tally(10)
    tally.begin(0)
    tally.add_counts(("before",), [0.1, 0.1, 0.9], EDGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 0/0 is expected here
        assert [e.value for e in tally.survival(("after",), ("before",))] == [0.0, None, None, 0.0]
    tally.add_counts(("after",), [0.1], EDGES)
    found = tally.survival(("after",), ("before",))
    assert [(e.value, e.count) for e in found] == [(0.5, 2), (None, 0), (None, 0), (0.0, 1)]


def test_the_ends_of_a_histogram_take_what_lies_beyond():
    tally = Tally(0)
    tally.begin(0)
    tally.add_counts(("bins",), [-3.0, 0.0, 1.0, 8.0], EDGES)
    assert [e.value for e in tally.shares(("bins",))] == [0.5, 0, 0, 0.5]
    assert sum(e.value for e in tally.shares(("bins",))) == 1


def test_tensors_are_taken_too():
    tally = Tally(5)
    tally.begin(0)
    tally.add(("x",), torch.tensor([1.0, 2.0], requires_grad=True))
    tally.add(("none",), torch.zeros(0, 49))
    tally.add(("none",), torch.ones(2, 49))
    assert tally.mean(("x",)).value == 1.5
    thirds = torch.full((1000,), 1 / 3)
    tally.add(("thirds",), thirds)
    assert tally.mean(("thirds",)).value == pytest.approx(thirds[0].item(), rel=1e-12), "sums have double precision"
    assert [e.value for e in tally.means(("none",))] == [1.0] * 49


def test_names_are_found_by_how_they_begin(images):
    tally = tally_of(images[:2])
    assert tally.names("pairs") == [("pairs", "moments"), ("pairs", "cells")]
    assert len(tally.names()) == 7
