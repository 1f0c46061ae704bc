"""The order of training images depends on the seed and the step alone."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdlab.data.sampling import TrainingBatches

sizes = st.integers(1, 12)


@settings(max_examples=60, deadline=None)
@given(images=sizes, batch=sizes, steps=st.integers(0, 12), stop=st.integers(0, 12), seed=st.integers(0, 2**40))
def test_resuming_gives_the_rest_of_the_sequence(images: int, batch: int, steps: int, stop: int, seed: int) -> None:
    whole = list(TrainingBatches(images, batch, steps, seed))
    rest = TrainingBatches(images, batch, steps, seed, start_step=stop)
    assert list(rest) == whole[stop:] and len(rest) == len(whole[stop:])


@settings(max_examples=30, deadline=None)
@given(images=sizes, share=st.integers(1, 4), world=st.integers(1, 4), seed=st.integers(0, 99))
def test_ranks_divide_each_batch(images: int, share: int, world: int, seed: int) -> None:
    batch = share * world
    whole = list(TrainingBatches(images, batch, 5, seed))
    ranks = [list(TrainingBatches(images, batch, 5, seed, rank=r, world_size=world)) for r in range(world)]
    assert [list(chain(*parts)) for parts in zip(*ranks)] == whole


@settings(max_examples=30, deadline=None)
@given(images=sizes, batch=sizes, seed=st.integers(0, 99))
def test_every_epoch_shows_every_image_once(images: int, batch: int, seed: int) -> None:
    keys = list(chain(*TrainingBatches(images, batch, 3 * images, seed)))
    for epoch in range(3 * batch):
        indices = [index for index, _ in keys[epoch * images : (epoch + 1) * images]]
        assert sorted(indices) == list(range(images))


def test_epochs_seeds_and_sample_seeds_differ() -> None:
    keys = list(chain(*TrainingBatches(50, 50, 2, seed=0)))
    assert len({seed for _, seed in keys}) == 100
    assert [i for i, _ in keys[:50]] != [i for i, _ in keys[50:]]
    assert [i for i, _ in keys[:50]] != [i for i, _ in next(iter(TrainingBatches(50, 50, 1, seed=1)))]


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 5 is not a positive multiple of the 2"):
        TrainingBatches(10, 5, 1, 0, world_size=2)
    with pytest.raises(ValueError, match="no images"):
        TrainingBatches(0, 5, 1, 0)
