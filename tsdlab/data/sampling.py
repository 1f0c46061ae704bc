"""The order of training images: it depends on the seed and the step alone, so that a run resumes exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from tsdlab.errors import InputError
from tsdlab.ranges import BatchSize, Count, CountOrZero, Seed, check_value


class TrainingBatches(Sampler[list[tuple[int, int]]]):
    """A batch sampler: for every step, the keys `(image index, sample seed)` that `CocoDataset` takes.

    Each epoch is a new permutation of all images. The epochs follow one another without a gap and are cut into batches,
    so a batch may contain the end of one epoch and the start of the next, and no image is skipped. A sampler with a
    `start_step` gives exactly the rest of the sequence.

    Args:
        num_images: how many images the data set has.
        batch_size: images per step, over all processes.
        steps: how many steps the whole sequence has.
        seed: for the permutations and the sample seeds; not negative.
        start_step: steps that are completed already.
        rank, world_size: this process gets its `batch_size / world_size` keys of every batch.

    Raises:
        InputError: there are no images, the batch cannot be divided among the processes, or an argument is out of
            range.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        steps: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_images == 0:
            raise InputError("there are no images to train on")
        for name, value, allowed in (
            ("num_images", num_images, Count),
            ("batch_size", batch_size, BatchSize),
            ("steps", steps, CountOrZero),
            ("seed", seed, Seed),
            ("start_step", start_step, CountOrZero),
            ("world_size", world_size, Count),
            ("rank", rank, CountOrZero),
        ):
            check_value(name, value, allowed)
        if rank >= world_size:
            raise InputError(f"rank must be below world_size, which is {world_size}, got {rank}")
        if batch_size % world_size:
            raise InputError(f"batch_size {batch_size} is not a positive multiple of the {world_size} processes")
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.steps, self.start_step = steps, start_step
        self.share = batch_size // world_size
        self.offset = rank * self.share

    def __len__(self) -> int:
        return max(0, self.steps - self.start_step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, permutation = -1, np.empty(0, np.int64)
        for step in range(self.start_step, self.steps):
            batch = []
            first = step * self.batch_size + self.offset
            for position in range(first, first + self.share):
                if position // self.num_images != epoch:
                    epoch = position // self.num_images
                    permutation = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
                batch.append((int(permutation[position % self.num_images]), self._sample_seed(position)))
            yield batch

    def _sample_seed(self, position: int) -> int:
        # Three numbers, where a permutation has two: no sample shares its random stream with a permutation.
        return int(np.random.SeedSequence([self.seed, position, 1]).generate_state(1, np.uint64)[0]) >> 1
