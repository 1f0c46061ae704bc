"""From which places does each task get its best answer? The paper's Figure 1 for any image, detector and level.

The authors' recipe: every coordinate of a feature map has its own proposal. For this proposal the head gives the score
C of the object's class, and the IoU of the decoded box with the object. S·C and S·IoU are added to the two maps inside
the proposal, where S is a Gaussian that is 1 at the proposal's centre and fades to its edge. `gradient_maps` answers
the same question by another method.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from tsdlab.data.arrays import as_numbers
from tsdlab.errors import InputError, shown
from tsdlab.models.boxes import paired_iou
from tsdlab.models.probe import Probe
from tsdlab.structures import Answer

Source = Literal["rpn", "slide"]
Pooling = Literal["assigned", "level"]
Aggregation = Literal["mean", "max", "sum"]

TASKS = ("classification", "localization")

# Standard deviation of S in fractions of the proposal: three of them reach its edge, where S is 0.01.
SIGMA = 1 / 6


@dataclass(frozen=True)
class Grid:
    """Cells over a part of an image. A map is [rows, columns]; its values belong to the centres of the cells."""

    extent: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
    shape: tuple[int, int]  # rows, columns

    @staticmethod
    def over_image(image_size: tuple[int, int], cells: int = 128) -> Grid:
        """A grid with `cells` cells along the longer side of the image, or one per pixel if there are fewer pixels."""
        if cells < 1:
            raise InputError(f"cells must be at least 1, got {cells}")
        height, width = image_size
        pixels = max(1.0, max(image_size) / cells)
        return Grid((0.0, 0.0, width, height), (max(1, round(height / pixels)), max(1, round(width / pixels))))

    def axes(self) -> tuple[Tensor, Tensor]:
        """Centres of the rows (y) and of the columns (x), in pixels."""
        x1, y1, x2, y2 = self.extent
        rows, columns = self.shape
        return (
            y1 + (torch.arange(rows) + 0.5) * (y2 - y1) / rows,
            x1 + (torch.arange(columns) + 0.5) * (x2 - x1) / columns,
        )


@dataclass(frozen=True)
class TaskMaps:
    """How well each task is answered from each place; both [rows, columns] on one grid."""

    classification: Tensor
    localization: Tensor


@dataclass(frozen=True)
class SensitivityMaps:
    """Maps of one object: by level of the pyramid, then by branch ("sibling", "tsd", …)."""

    box: Tensor  # [4] the object, pixels
    label: int
    grid: Grid
    levels: dict[str, dict[str, TaskMaps]]

    def only(self, levels: Collection[str]) -> SensitivityMaps:
        """The maps of some levels; a name without a map is ignored."""
        return replace(self, levels={level: maps for level, maps in self.levels.items() if level in levels})

    def peak(self, level: str, branch: str, task: str) -> Tensor:
        """[2] (x, y) in pixels: where `task` ("classification" or "localization") is answered best.

        NaN where the map is flat.
        """
        values: Tensor = getattr(self.levels[level][branch], task)
        if not values.max() > values.min():
            return torch.full((2,), math.nan)
        row, column = divmod(int(values.argmax()), values.shape[1])
        ys, xs = self.grid.axes()
        return torch.stack([xs[column], ys[row]])

    def peak_distance(self, level: str, branch: str) -> float:
        """Between the peaks of both tasks: x in widths of the object and y in its heights. NaN where a map is flat."""
        first, second = (self.peak(level, branch, task) for task in TASKS)
        size = (self.box[2:] - self.box[:2]).clamp(min=1e-6)
        return torch.linalg.vector_norm((first - second) / size).item()


def sensitivity_maps(
    model: nn.Module,
    image: Any,
    box: Any,
    label: int,
    *,
    source: Source = "rpn",
    pooling: Pooling = "assigned",
    sigma: float = SIGMA,
    aggregation: Aggregation = "mean",
    cells: int = 128,
) -> SensitivityMaps:
    """A classification and a localization map over the image, for every level and branch.

    Args:
        model: a tsdlab detector, or any Faster R-CNN of torchvision.
        image: [3, H, W] in 0…1, or what else `tsdlab.data.arrays.as_image` takes.
        box: [4] xyxy, pixels: the object's ground truth.
        label: its class, 1…C.
        source: the proposal of a coordinate. "rpn": the one that the RPN makes from its most likely anchor there, as in
            the paper. "slide": the object's own box, centred on the coordinate, so that only the place varies.
        pooling: "assigned" pools every proposal from the level that fits its size, as the detector does. "level" pools
            it from the level of the map; levels that no region is pooled from are left out.
        sigma: standard deviation of S, in fractions of the proposal's width and height.
        aggregation: how the proposals that cover a place are combined. "mean" is ΣS·C / ΣS, which does not depend on
            their number; "max" and "sum" are of S·C. The paper does not say which it uses.
        cells: number of cells of the maps along the image's longer side.

    Raises:
        InputError: an argument is out of range, or the box has no area on the image; the message names it.
    """
    _check_choice("source", source, Source)
    probe = Probe(model, image)
    box = check_object(probe, box, label)
    answers = ask_everywhere(probe, pooling) if source == "rpn" else _ask_slid(probe, box, pooling)
    return build_maps(answers, box, label, Grid.over_image(probe.image_size, cells), sigma, aggregation)


def ask_everywhere(probe: Probe, pooling: Pooling = "assigned") -> dict[str, Answer]:
    """For every level, the detector's answer to the RPN's proposal at each coordinate, [h·w] row by row."""
    return {
        name: probe.ask(proposals.boxes.flatten(0, 1), level)
        for (name, proposals), level in _levels(probe, probe.propose_everywhere(), pooling)
    }


def _ask_slid(probe: Probe, box: Tensor, pooling: Pooling) -> dict[str, Answer]:
    half = (box[2:] - box[:2]) / 2
    slid = {}
    for name, feature in probe.features.items():
        (stride_y, stride_x), (height, width) = probe.strides[name], feature.shape[-2:]
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) * stride_y, (torch.arange(width) + 0.5) * stride_x, indexing="ij"
        )
        centres = torch.stack([x, y], dim=-1).flatten(0, 1)  # [h·w, 2]
        slid[name] = torch.cat([centres - half, centres + half], dim=1)
    return {name: probe.ask(boxes, level) for (name, boxes), level in _levels(probe, slid, pooling)}


def _levels(probe: Probe, by_level: dict, pooling: str) -> list[tuple[tuple, str | None]]:
    """The items of `by_level`, each with the level to pool its proposals from; None: the level of their size."""
    _check_choice("pooling", pooling, Pooling)
    if pooling == "assigned":
        return [(item, None) for item in by_level.items()]
    return [(item, item[0]) for item in by_level.items() if item[0] in probe.pooled]


def build_maps(
    answers: Mapping[str, Answer],
    box: Tensor,
    label: int,
    grid: Grid,
    sigma: float = SIGMA,
    aggregation: Aggregation = "mean",
    min_iou: float = 0.0,
) -> SensitivityMaps:
    """Maps on `grid` of how good the answers of each level are for the object `box` [4] of class `label`.

    Proposals whose IoU with the object is below `min_iou` are left out, because they may be about another object of the
    same class. The paper's maps include them. The other arguments are those of `sensitivity_maps`.
    """
    if sigma <= 0:
        raise InputError(f"sigma must be positive, got {sigma}")
    _check_choice("aggregation", aggregation, Aggregation)
    levels = {}
    for level, answer in answers.items():
        box = box.to(answer.proposals)
        near = box_iou(answer.proposals, box[None])[:, 0] >= min_iou
        values = []
        for branch in answer.branches.values():
            decoded = branch.boxes[near, label]
            values += [branch.scores[near, label], paired_iou(decoded, box.expand_as(decoded))]
        table = torch.stack(values, dim=1)  # [K, 2 · branches]
        maps = _accumulate(answer.proposals[near], table, grid, sigma, aggregation).unflatten(0, (-1, 2))
        levels[level] = {name: TaskMaps(*pair) for name, pair in zip(answer.branches, maps.cpu())}
    return SensitivityMaps(box.cpu(), label, grid, levels)


def _accumulate(proposals: Tensor, values: Tensor, grid: Grid, sigma: float, aggregation: str) -> Tensor:
    """Values [K, V] of proposals [K, 4] → maps [V, rows, columns]. S is the product of a Gaussian along each axis."""
    ys, xs = (axis.to(proposals) for axis in grid.axes())
    along_y = _gaussian(ys, proposals[:, 1], proposals[:, 3], sigma)  # [K, rows]
    along_x = _gaussian(xs, proposals[:, 0], proposals[:, 2], sigma)  # [K, columns]
    if aggregation == "max":
        best = values.new_zeros(values.shape[1], *grid.shape)
        if not len(values):
            return best
        for y, x, v in zip(along_y.split(64), along_x.split(64), values.split(64)):
            weights = y[:, :, None] * x[:, None, :]
            for i in range(values.shape[1]):
                torch.maximum(best[i], (v[:, i, None, None] * weights).amax(dim=0), out=best[i])
        return best
    total = (values[:, :, None] * along_y[:, None, :]).flatten(1).T @ along_x  # [V·rows, columns]
    total = total.unflatten(0, (values.shape[1], -1))
    if aggregation == "sum":
        return total
    weight = along_y.T @ along_x
    return torch.where(weight > 0, total / weight.clamp(min=torch.finfo(weight.dtype).tiny), 0.0)


def _gaussian(places: Tensor, low: Tensor, high: Tensor, sigma: float) -> Tensor:
    """[K, places] a Gaussian that is 1 in the middle of low…high [K], and 0 outside."""
    size = (high - low).clamp(min=1e-6)
    away = (places - ((low + high) / 2)[:, None]) / size[:, None]
    return torch.where(away.abs() <= 0.5, (-0.5 * (away / sigma) ** 2).exp(), 0.0)


def gradient_maps(
    model: nn.Module,
    image: Any,
    box: Any,
    label: int,
    *,
    pooling: Pooling = "assigned",
    cells: int = 128,
) -> SensitivityMaps:
    """Which features would change the answer? The gradients of the answers with respect to the features of every level.

    The answer is the mean over the RPN's proposals whose IoU with the object is at least 0.5, or the answer to the
    object's own box if there are none. A map holds the length of the gradient over the channels.

    Args:
        model, image, box, label, cells: as in `sensitivity_maps`.
        pooling: as there; with "assigned", levels that no proposal is pooled from have no gradient.

    Returns:
        Maps for the levels that regions are pooled from. The classification map is the gradient of the score's
        log-odds, which do not saturate as the score does. Values can be compared within a map, but not between two
        maps, because their units differ.
    """
    probe = Probe(model, image)
    box = check_object(probe, box, label)
    return differentiate(probe, box, label, Grid.over_image(probe.image_size, cells), pooling)


@torch.inference_mode(False)
@torch.enable_grad()
def differentiate(
    probe: Probe, box: Tensor, label: int, grid: Grid, pooling: Pooling = "assigned", proposals: Tensor | None = None
) -> SensitivityMaps:
    """`gradient_maps` for an image that is already probed, on any grid.

    With `proposals` [K, 4] the RPN is not asked again.
    """
    _check_choice("pooling", pooling, Pooling)
    proposals = probe.propose()[0] if proposals is None else proposals
    box = box.clone().to(proposals)  # one that was made in inference mode has no gradient
    near = proposals[box_iou(proposals, box[None])[:, 0] >= 0.5]
    near = near if len(near) else box[None]
    levels: dict[str, dict[str, TaskMaps]] = {}
    # "assigned": one answer gives the gradients of all levels. "level": each level needs its own answer.
    asked = [(None, probe.pooled)] if pooling == "assigned" else [(level, (level,)) for level in probe.pooled]
    for pooled, names in asked:
        watched = {name: probe.features[name].detach().requires_grad_() for name in names}
        answer = probe.answer(near, pooled, {**probe.features, **watched})
        for name in names:
            levels[name] = {}
            place = _places(probe, name, grid)
            for branch, said in answer.branches.items():
                decoded = said.boxes[:, label]
                levels[name][branch] = TaskMaps(
                    _gradient(_log_odds(said.logits, label), watched[name], place),
                    _gradient(paired_iou(decoded, box.expand_as(decoded)), watched[name], place),
                )
    return SensitivityMaps(box.cpu(), label, grid, levels)


def _log_odds(logits: Tensor, label: int) -> Tensor:
    """log p/(1 − p) of class `label`, [K], from logits [K, 1 + C]."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1)


def _places(probe: Probe, level: str, grid: Grid) -> Tensor:
    """[1, rows, columns, 2] the centres of the grid's cells in the coordinates −1…1 that `grid_sample` takes."""
    ys, xs = grid.axes()
    feature = probe.features[level]
    (stride_y, stride_x), (height, width) = probe.strides[level], feature.shape[-2:]
    y, x = torch.meshgrid(2 * ys / (stride_y * height) - 1, 2 * xs / (stride_x * width) - 1, indexing="ij")
    return torch.stack([x, y], dim=-1)[None].to(feature)


def _gradient(values: Tensor, features: Tensor, places: Tensor) -> Tensor:
    """[rows, columns] the length over the channels of d mean(values) / d features, at `places`."""
    (gradient,) = torch.autograd.grad(values.mean(), features, retain_graph=True, materialize_grads=True)
    length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    return F.grid_sample(length, places, align_corners=False, padding_mode="border")[0, 0].float().cpu()


def check_object(probe: Probe, box: Any, label: int) -> Tensor:
    """`box` as a tensor [4]; InputError unless it has an area on the image and `label` is a class of the model."""
    classes = probe.model.config.num_classes
    if not isinstance(label, int | np.integer | Tensor) or not 1 <= label <= classes:
        raise InputError(f"label must be 1…{classes}, got {shown(label)}")
    box = as_numbers(box)
    if box is None or box.shape != (4,):
        raise InputError(f"box must be [4] xyxy, got {shown(box) if box is None else tuple(box.shape)}")
    box = box if box.is_floating_point() else box.float()
    height, width = probe.image_size
    x1, y1, x2, y2 = box.tolist()
    if not (min(x2, width) > max(x1, 0) and min(y2, height) > max(y1, 0)):  # NaN fails too
        raise InputError(f"box {[round(v, 1) for v in box.tolist()]} has no area on the image of {width}×{height}")
    return box


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise InputError(f"{name} must be one of {', '.join(get_args(choices))}; got {value!r}")
