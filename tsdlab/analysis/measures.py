"""What is measured of both tasks' answers about an object: `MEASURES` and `AGREEMENT` are the only lists of it.

`MEASURES` compares the two sensitivity maps of an object, `AGREEMENT` the scores and boxes of its proposals. Each entry
says how its number is called and how it is computed; tables, plots and the report read these dictionaries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.stats import spearmanr
from torch import Tensor

from tsdlab.analysis.sensitivity import TASKS, Grid, TaskMaps
from tsdlab.analysis.statistics import Estimate, Name, Tally

TOP = 0.1  # share of the window whose best cells are compared


@dataclass(frozen=True)
class ObjectMaps:
    """The two maps of one object, on a grid around it. Numbers are NaN where a map is flat or a part has no cell."""

    maps: TaskMaps
    grid: Grid
    box: Tensor  # [4] the object
    salient: Tensor | None  # [4] the part that tells its class, or [parts, 4] if there are several

    @cached_property
    def size(self) -> Tensor:
        """[2] width and height of the object."""
        return (self.box[2:] - self.box[:2]).clamp(min=1e-6)

    def values(self, task: str) -> Tensor | None:
        """[rows, columns] the map of a task; None where it is flat."""
        values: Tensor = getattr(self.maps, task)
        return values if values.max() > values.min() else None

    def pair(self) -> tuple[Tensor, Tensor] | None:
        """Both maps [cells]; None where one is flat."""
        first, second = (self.values(task) for task in TASKS)
        return None if first is None or second is None else (first.flatten(), second.flatten())

    def peak(self, task: str) -> Tensor:
        """[2] (x, y) of the cell with the highest value; NaN where the map is flat."""
        if (values := self.values(task)) is None:
            return torch.full((2,), math.nan)
        row, column = divmod(int(values.argmax()), values.shape[1])
        ys, xs = self.grid.axes()
        return torch.stack([xs[column], ys[row]])

    def peak_distance(self) -> float:
        first, second = (self.peak(task) for task in TASKS)
        return torch.linalg.vector_norm((first - second) / self.size).item()

    def centre(self, task: str) -> float:
        """Of a map's sum over the object's box, the share in the middle half of its width and height."""
        if (values := self.values(task)) is None:
            return math.nan
        on_box = _share(values, _cover(self.box, self.grid))
        middle = torch.cat([self.box[:2] + self.size / 4, self.box[2:] - self.size / 4])
        return _share(values, _cover(middle, self.grid)) / on_box if on_box > 0 else math.nan

    def top_overlap(self) -> float:
        if (pair := self.pair()) is None:
            return math.nan
        first, second = (set(values.topk(round(TOP * values.numel())).indices.tolist()) for values in pair)
        return len(first & second) / len(first | second)

    def rank_correlation(self) -> float:
        if (pair := self.pair()) is None:
            return math.nan
        return float(spearmanr(*(values.numpy() for values in pair)).statistic)

    def peak_on_salient(self, task: str) -> float:
        """1 where the peak is on the salient part, else 0."""
        if self.salient is None or self.values(task) is None:
            return math.nan
        peak, parts = self.peak(task), self.salient.reshape(-1, 4)
        return float(((parts[:, :2] <= peak) & (peak <= parts[:, 2:])).all(dim=1).any())

    def density_on_salient(self, task: str) -> float:
        """Mean of a map over the salient part, as a multiple of its mean over the window."""
        if self.salient is None or (values := self.values(task)) is None:
            return math.nan
        cover = self._cover_of_salient(self.salient)
        return _share(values, cover) / cover.mean().item() if cover.any() else math.nan

    def salient_area(self) -> float:
        if self.salient is None or all(self.values(task) is None for task in TASKS):
            return math.nan
        return self._cover_of_salient(self.salient).mean().item()

    def _cover_of_salient(self, salient: Tensor) -> Tensor:
        """[rows, columns] the share of each cell that lies on the salient parts."""
        parts = torch.stack([_cover(part, self.grid) for part in salient.reshape(-1, 4)])
        return parts.sum(dim=0).clamp(max=1)


@dataclass(frozen=True)
class Measure:
    """One number about the two maps of an object."""

    title: str
    compute: Callable[[ObjectMaps], float]  # NaN where it has no value
    unit: str = ""  # it begins with "%" if values are fractions, which are shown in percent
    even: float | None = None  # its value where a map is even, or where the two maps have nothing to do with each other

    @property
    def scale(self) -> float:
        """What values are multiplied by to be in `unit`."""
        return 100.0 if self.unit.startswith("%") else 1.0

    @property
    def label(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


MEASURES = {
    "peak_distance": Measure("distance between the two peaks", ObjectMaps.peak_distance, "% of the object’s size"),
    "classification_centre": Measure(
        "share of the classification map in the middle half of the box",
        lambda maps: maps.centre("classification"), even=0.25,
    ),
    "localization_centre": Measure(
        "share of the localization map in the middle half of the box",
        lambda maps: maps.centre("localization"), even=0.25,
    ),
    "top_overlap": Measure("IoU of the best 10% of places for each task", ObjectMaps.top_overlap),
    "spearman": Measure("rank correlation of the two maps", ObjectMaps.rank_correlation, even=0.0),
    "classification_peak_on_salient": Measure(
        "share of objects whose classification peak is on the salient part",
        lambda maps: maps.peak_on_salient("classification"),
    ),
    "classification_energy_on_salient": Measure(
        "density of the classification map on the salient part",
        lambda maps: maps.density_on_salient("classification"), even=1.0,
    ),
    "localization_peak_on_salient": Measure(
        "share of objects whose localization peak is on the salient part",
        lambda maps: maps.peak_on_salient("localization"),
    ),
    "localization_energy_on_salient": Measure(
        "density of the localization map on the salient part",
        lambda maps: maps.density_on_salient("localization"), even=1.0,
    ),
    "salient_area": Measure(
        "share of the window that the salient part covers: how often a random place is on it", ObjectMaps.salient_area
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """One number about the scores and IoUs of the proposals of an object.

    It is either pooled over the proposals of all objects, or computed for each object and averaged over objects.
    """

    title: str
    explanation: str
    pooled: Callable[[Tally, Name], Estimate] | None = None
    of_object: Callable[[Tensor, Tensor], float] | None = None  # of scores [K] and IoUs [K]; NaN: no value


def _rank_correlation(score: Tensor, iou: Tensor) -> float:
    """Spearman's; NaN for fewer than five pairs, or where one of the two does not vary."""
    if len(score) < 5 or score.min() == score.max() or iou.min() == iou.max():
        return math.nan
    return float(spearmanr(score.numpy(), iou.numpy()).statistic)


AGREEMENT = {
    "pearson": Agreement("Pearson’s r", "score and IoU of all proposals", pooled=Tally.pearson),
    "spearman": Agreement("Spearman’s ρ", "score and IoU of all proposals", pooled=Tally.spearman),
    "spearman_within": Agreement(
        "Spearman’s ρ", "score and IoU of one object’s proposals, mean over objects", of_object=_rank_correlation
    ),
    "best_iou": Agreement(
        "best IoU", "IoU of an object’s best box", of_object=lambda score, iou: iou.max().item()
    ),
    "iou_of_best_score": Agreement(
        "IoU by score", "IoU of an object’s box with the best score",
        of_object=lambda score, iou: iou[score.argmax()].item(),
    ),
    "gap": Agreement(
        "IoU gap", "IoU lost by taking the box with the best score instead of the best box",
        of_object=lambda score, iou: iou.max().item() - iou[score.argmax()].item(),
    ),
}  # fmt: skip


def _cover(box: Tensor, grid: Grid) -> Tensor:
    """[rows, columns] the share of each cell that lies in `box` [4], so that an even map measures as even."""
    x1, y1, x2, y2 = grid.extent
    rows, columns = grid.shape
    along_y = _overlap(torch.linspace(y1, y2, rows + 1), *box[1::2].tolist())
    along_x = _overlap(torch.linspace(x1, x2, columns + 1), *box[::2].tolist())
    return along_y[:, None] * along_x[None]


def _overlap(edges: Tensor, low: float, high: float) -> Tensor:
    """Share of every cell between neighbouring `edges` that lies in low…high."""
    return (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0) / (edges[1:] - edges[:-1])


def _share(values: Tensor, weights: Tensor) -> float:
    total = values.sum().item()
    return (values * weights).sum().item() / total if total > 0 else math.nan
