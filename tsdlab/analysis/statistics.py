"""Numbers with confidence intervals over a data set of any size, from one pass over the images.

Every statistic here is a function of sums over observations (of x, x², xy, and of counts in cells). Memory therefore
does not grow with the number of images, and the sums of different processes can be added. The bootstrap draws images,
not objects, because objects in one image are not independent samples. In each replicate an image counts Poisson(1)
times (Chamandy et al. 2012, "Estimating uncertainty for massive data streams"); the draw depends only on its index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import distributed

FEW_IMAGES = 20  # below, a number says more about which images were chosen than about the detector
REPLICATES = 1000
_TAILS = (0.025, 0.975)  # of a 95% interval

# The name of an observed quantity is a path, such as ("maps", level, branch, measure).
Name = tuple[str, ...]

# Ranks are ranks of cells with even widths in log-odds, because scores cluster near 0 and 1, and IoUs between ½ and 1.
_SCORE_EDGES = 1 / (1 + np.exp(-np.linspace(-9, 9, 47)))
_IOU_EDGES = 1 / (1 + np.exp(-np.linspace(-3, 6, 47)))


@dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap 95% interval; value, low and high are None if it has no value."""

    value: float | None
    low: float | None
    high: float | None
    count: int  # observations behind it

    def scaled(self, factor: float) -> Estimate:
        """The statistic in another unit."""
        value, low, high = (None if of is None else factor * of for of in (self.value, self.low, self.high))
        return Estimate(value, low, high, self.count)

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


NOTHING = Estimate(None, None, None, 0)  # nothing was observed


def draws(image: int, replicates: int, seed: int = 0) -> np.ndarray:
    """How often an image counts, [1 + replicates]: once in the data, and in each replicate as often as it is drawn."""
    return np.concatenate([[1.0], np.random.default_rng([seed, image]).poisson(1.0, replicates)])


def estimate(values: np.ndarray, count: float) -> Estimate:
    """The estimate of a statistic, [1 + replicates]: its value on the data, then on each replicate."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]):
        return Estimate(None, None, None, round(count))
    low, high = np.quantile(drawn, _TAILS) if len(drawn) else (values[0], values[0])
    return Estimate(float(values[0]), float(low), float(high), round(count))


class Tally:
    """Collects observations over a data set, by name, and gives their means, correlations and shares.

    Call `begin` for each image, then add its observations. Values that are not finite are left out and not counted.

    Args:
        replicates: of the bootstrap.
        seed: of its draws.
    """

    def __init__(self, replicates: int = REPLICATES, seed: int = 0) -> None:
        self.replicates = replicates
        self.seed = seed
        self._sums: dict[Name, np.ndarray] = {}  # name → [sums, 1 + replicates]; the first column is the data's own
        self._weights = np.ones(0)

    def begin(self, image: int) -> None:
        """Observations added from now on belong to image number `image` of the data set."""
        self._weights = draws(image, self.replicates, self.seed)

    def add(self, name: Name, values: Any) -> None:
        """Add values [n] or [n, columns], for `mean` and `means`."""
        columns = _table(values)
        self._add(name, np.hstack([np.ones((len(columns), 1)), columns]))

    def add_pairs(self, name: Name, x: Any, y: Any) -> None:
        """Add pairs of scores x and IoUs y, [n] each in 0…1, for `pearson` and `spearman`."""
        pair = np.hstack([_table(x), _table(y)])
        pair = pair[np.isfinite(pair).all(axis=1)]
        x, y = pair.T
        self._add((*name, "moments"), np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1))
        cells = len(_IOU_EDGES) + 1
        cell = np.digitize(x, _SCORE_EDGES) * cells + np.digitize(y, _IOU_EDGES)
        self._add_counts((*name, "cells"), np.bincount(cell, minlength=(len(_SCORE_EDGES) + 1) * cells))

    def add_counts(self, name: Name, values: Any, edges: np.ndarray) -> None:
        """Add values [n], for the `shares` between `edges`; values outside are counted in the first or last bin."""
        values = _table(values)[:, 0]
        values = values[np.isfinite(values)].clip(edges[0], edges[-1])
        self._add_counts(name, np.histogram(values, edges)[0])

    def _add(self, name: Name, rows: np.ndarray) -> None:
        self._add_counts(name, rows[np.isfinite(rows).all(axis=1)].sum(axis=0))

    def _add_counts(self, name: Name, total: np.ndarray) -> None:
        if name not in self._sums:
            self._sums[name] = np.zeros((len(total), 1 + self.replicates))
        some = np.flatnonzero(total)  # most cells of a histogram are empty
        self._sums[name][some] += np.outer(total[some], self._weights)

    def merge(self, other: Tally) -> None:
        """Add the observations of another part of the data set."""
        for name, sums in other._sums.items():
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums.copy()

    def gather(self) -> Tally:
        """Under torchrun, the observations of all processes, in each of them; otherwise this tally itself."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        parts: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self)
        whole = Tally(self.replicates, self.seed)
        for part in parts:
            whole.merge(part)
        return whole

    def names(self, *start: str) -> list[Name]:
        """All names that begin with `start`."""
        return [name for name in self._sums if name[: len(start)] == start]

    def mean(self, name: Name) -> Estimate:
        """The mean of values [n]."""
        found = self.means(name)
        return found[0] if found else NOTHING

    def means(self, name: Name) -> list[Estimate]:
        """The means of values [n, columns]; empty if nothing was added."""
        if name not in self._sums:
            return []
        count, *totals = self._sums[name]
        return [_estimate(total, count, count[0]) for total in totals]

    def difference(self, name: Name, other: Name) -> Estimate:
        """The mean of `name` minus the mean of `other`; both use the same images in each replicate."""
        if name not in self._sums or other not in self._sums:
            return NOTHING
        (count, total), (other_count, other_total) = self._sums[name], self._sums[other]
        below = count * other_count
        return _estimate(total * other_count - other_total * count, below, min(count[0], other_count[0]))

    def pearson(self, name: Name) -> Estimate:
        """Pearson's correlation of pairs."""
        sums = self._sums.get((*name, "moments"))
        if sums is None:
            return NOTHING
        n, x, y, xx, yy, xy = sums
        return _estimate(n * xy - x * y, np.sqrt(_variance(n, x, xx) * _variance(n, y, yy)), n[0])

    def spearman(self, name: Name) -> Estimate:
        """Spearman's rank correlation of pairs. Scores that differ by less than about 0.4 in log-odds, and IoUs that
        differ by less than about 0.2, may count as ties."""
        sums = self._sums.get((*name, "cells"))
        if sums is None:
            return NOTHING
        joint = sums.reshape(len(_SCORE_EDGES) + 1, len(_IOU_EDGES) + 1, -1)  # [x, y, replicates]
        n = sums.sum(axis=0)
        x, y = joint.sum(axis=1), joint.sum(axis=0)
        # The rank of a cell is the mean rank of its ties, shifted so that the mean over all observations is 0.
        rank_x, rank_y = ((c.cumsum(axis=0) - c / 2 - n / 2) for c in (x, y))
        product = np.einsum("xyr,xr,yr->r", joint, rank_x, rank_y)
        return _estimate(product, np.sqrt((x * rank_x**2).sum(0) * (y * rank_y**2).sum(0)), n[0])

    def shares(self, name: Name) -> list[Estimate]:
        """The share of values in each bin, 0…1; empty if nothing was added."""
        if name not in self._sums:
            return []
        sums = self._sums[name]
        return [_estimate(row, sums.sum(axis=0), row[0]) for row in sums]

    def survival(self, name: Name, before: Name) -> list[Estimate]:
        """For each bin, the counts of `name` as a share of those of `before`; empty if nothing was added."""
        if before not in self._sums:
            return []
        start = self._sums[before]
        left = self._sums.get(name, np.zeros_like(start))
        return [_estimate(a, b, b[0]) for a, b in zip(left, start)]


def _table(values: Any) -> np.ndarray:
    """Arrays or tensors, [n] or [n, columns], as float64 [n, columns]."""
    table = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    return table.reshape(len(table), -1) if len(table) else table.reshape(0, max(1, int(np.prod(table.shape[1:]))))


def _variance(n: np.ndarray, x: np.ndarray, xx: np.ndarray) -> np.ndarray:
    """n² times the variance; 0 where it is no more than rounding error."""
    variance = n * xx - x * x
    return np.where(variance > 1e-12 * n * xx, variance, 0.0)


def _estimate(above: np.ndarray, below: np.ndarray, count: float) -> Estimate:
    """The estimate above / below; entry 0 of both is from the data, the others are from the replicates."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = above / below
    return estimate(values, count)
