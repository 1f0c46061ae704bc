"""What a detector says about one proposal, as plain data.

`ask_levels` asks a detector about a proposal, pooled from every level of the pyramid. `find_conflict` finds the object
of an image for which the best-scored proposal and the best-fitting proposal differ most. Boxes are xyxy in pixels of
the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from tsdlab.data.targets import as_target
from tsdlab.errors import InputError, shown
from tsdlab.models.boxes import paired_iou
from tsdlab.models.probe import Probe
from tsdlab.structures import Answer, BranchTrace, RegionTrace, map_tensors

Box = tuple[float, float, float, float]

# A proposal belongs to an object if their IoU is at least this, as in training (default of roi.fg_iou) and COCO's AP50.
_BELONGS = 0.5


@dataclass(frozen=True)
class GroundTruth:
    """The objects of an image; the tensors are empty if it has none."""

    boxes: Tensor = field(default_factory=lambda: torch.zeros(0, 4))  # [N, 4]
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # [N] 1…C
    salient_boxes: Tensor | None = None  # [N, 4] the part that shows the class of each object, if the data says so

    @classmethod
    def of(cls, target: Mapping[str, Any]) -> GroundTruth:
        """The objects of a data set's target; see `tsdlab.data.targets.as_target`."""
        target = as_target(target)
        return cls(target["boxes"], target["labels"], target.get("salient_boxes"))


@dataclass(frozen=True)
class Nearest:
    """The object that a proposal is compared with: the one it overlaps most, or the closest one if it overlaps none."""

    index: int  # into the image's ground truth
    label: int  # 1…C
    box: Tensor  # [4]
    overlap: float  # IoU of the proposal itself, 0…1


@dataclass(frozen=True)
class BranchAnswer:
    """What one branch says about the proposal."""

    scores: Tensor  # [1 + C] 0…1, background first
    boxes: Tensor  # [1 + C, 4] decoded for every class, clipped to the image
    label: int  # class of the nearest object if the proposal overlaps it, else the class with the highest score
    iou: float | None  # of the box of class `label` with the nearest object; None if the proposal overlaps no object

    @property
    def score(self) -> float:
        """The score of class `label`, 0…1."""
        return self.scores[self.label].item()

    @property
    def box(self) -> Tensor:
        """[4] The box that is decoded for class `label`."""
        return self.boxes[self.label]


@dataclass(frozen=True)
class LevelAnswer:
    """What a detector says about the proposal when it is pooled from one level."""

    branches: dict[str, BranchAnswer]  # "sibling", if there is one, then what inference uses
    regions: dict[str, RegionTrace]  # by task, without the dimension of proposals; none if it is pooled from P itself
    answer: Answer  # the same as `trace` returns it and plots draw it, for K = 1 proposal


@dataclass(frozen=True)
class Shortfall:
    """One term of the progressive constraint: |sibling − own + min(margin, 1 − sibling)|₊, all in 0…1."""

    sibling: float
    own: float
    margin: float

    @property
    def value(self) -> float:
        return max(0.0, self.sibling - self.own + min(self.margin, 1 - self.sibling))


@dataclass(frozen=True)
class ProposalAnswer:
    """Everything that one detector says about one proposal. `answer.tsd` is the branch "tsd" at the level in use."""

    proposal: Tensor  # [4]
    assigned: str  # the level that the detector pools a proposal of this size from
    level: str  # the level in use
    levels: dict[str, LevelAnswer]  # by level, finest first
    nearest: Nearest | None
    classification_constraint: Shortfall | None  # M_cls of class y; None without a TSD head, a margin, or an overlap
    localization_constraint: Shortfall | None  # M_loc likewise

    @property
    def branches(self) -> dict[str, BranchAnswer]:
        return self.levels[self.level].branches

    @property
    def regions(self) -> dict[str, RegionTrace]:
        return self.levels[self.level].regions

    def __getattr__(self, name: str) -> BranchAnswer:
        # Python calls this for names that are not fields. copy and pickle ask for private names before `levels` is set.
        if not name.startswith("_") and name in self.branches:
            return self.branches[name]
        raise AttributeError(f"no branch {name!r}")


@dataclass(frozen=True)
class Candidate:
    """One of the proposals that belong to an object, and what a detector makes of it."""

    proposal: Box
    box: Box  # decoded from it for the object's class
    score: float  # of the object's class, 0…1
    iou: float  # of `box` with the object, 0…1


@dataclass(frozen=True)
class Conflict:
    """The object of an image for which the detector's score chooses a proposal far worse than the best one.

    A proposal belongs to the object that it overlaps most, if their IoU is at least 0.5. Of the proposals that belong
    to an object, a detector keeps the one with the highest score. `gap` is the IoU that is lost by choosing by score:
    the best IoU of a decoded box, minus the IoU of the box that is kept; 0…1.
    """

    object: int  # index among the image's objects
    label: int
    by_score: Candidate  # the one with the highest score
    by_iou: Candidate  # the one whose decoded box has the highest IoU

    @property
    def gap(self) -> float:
        return self.by_iou.iou - self.by_score.iou


def valid_box(value: object) -> Box:
    """`value` as a box with x1 ≤ x2 and y1 ≤ y2; its area may be zero.

    Args:
        value: four finite numbers, as a sequence or a tensor. Swapped corners are put in order.

    Raises:
        InputError: it is anything else.
    """
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
        raise InputError(f"a proposal must be four numbers (x1, y1, x2, y2), got {shown(value)}")
    try:
        x1, y1, x2, y2 = (float(number) for number in value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"a proposal must be four numbers (x1, y1, x2, y2), got {shown(value)}") from None
    # Beyond a million pixels, float32 no longer holds fractions of a pixel.
    if not all(math.isfinite(v) and abs(v) <= 1e6 for v in (x1, y1, x2, y2)):
        raise InputError(f"the numbers of a proposal must be finite and within ±1,000,000 pixels, got {shown(value)}")
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def find_nearest(proposal: Tensor, truth: GroundTruth) -> Nearest | None:
    """The object that `proposal` [4] is compared with; None if the image has no objects."""
    if len(truth.boxes) == 0:
        return None
    proposal = proposal.to(truth.boxes)
    overlap = paired_iou(proposal.expand_as(truth.boxes), truth.boxes)  # 0, not NaN, where both are empty
    away = (_centre(truth.boxes) - _centre(proposal)).norm(dim=-1)
    index = int(overlap.argmax() if overlap.max() > 0 else away.argmin())
    return Nearest(index, int(truth.labels[index]), truth.boxes[index], overlap[index].item())


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def ask_levels(probe: Probe, proposal: Box, truth: GroundTruth, level: str | None = None) -> ProposalAnswer:
    """What a detector says of a proposal, pooled from each of its levels.

    Args:
        level: the one in use; None is the one assigned to a box of this size.

    Raises:
        ValueError: no such level.
    """
    if level is not None and level not in probe.pooled:
        raise InputError(f"no region is pooled from level {level!r}; levels are {', '.join(probe.pooled)}")
    box = torch.tensor(proposal)
    # All levels in one pass: a pass over a single RoI spends its time on reading the head's weights.
    answer = probe.ask(box.expand(len(probe.pooled), 4), probe.pooled)
    assigned = probe.level_of(box)
    nearest = find_nearest(box, truth)
    levels = {name: _level_answer(answer, i, nearest) for i, name in enumerate(probe.pooled)}
    used = levels[level or assigned]
    classification, localization = _constraints(probe, used, nearest)
    return ProposalAnswer(box, assigned, level or assigned, levels, nearest, classification, localization)


def _level_answer(answer: Answer, row: int, nearest: Nearest | None) -> LevelAnswer:
    one: Answer = map_tensors(lambda of_all: of_all[row : row + 1], answer)
    return LevelAnswer(
        {name: _branch_answer(branch, nearest) for name, branch in one.branches.items()},
        map_tensors(lambda of_one: of_one[0].cpu(), one.regions),
        one,
    )


def _branch_answer(branch: BranchTrace, nearest: Nearest | None) -> BranchAnswer:
    scores, boxes = branch.scores[0].cpu(), branch.boxes[0].cpu()
    if nearest is None or nearest.overlap == 0:
        return BranchAnswer(scores, boxes, int(scores[1:].argmax()) + 1, None)
    iou = paired_iou(boxes[nearest.label][None], nearest.box[None].to(boxes)).item()
    return BranchAnswer(scores, boxes, nearest.label, iou)


def _constraints(
    probe: Probe, answer: LevelAnswer, nearest: Nearest | None
) -> tuple[Shortfall | None, Shortfall | None]:
    sibling, tsd = answer.branches.get("sibling"), answer.branches.get("tsd")
    if sibling is None or tsd is None or sibling.iou is None or tsd.iou is None:
        return None, None
    margins = probe.model.config.tsd
    m_c, m_r = margins.classification_margin, margins.localization_margin
    return (
        None if m_c is None else Shortfall(sibling.score, tsd.score, m_c),
        None if m_r is None else Shortfall(sibling.iou, tsd.iou, m_r),
    )


def find_conflict(probe: Probe, truth: GroundTruth) -> Conflict | None:
    """The conflict with the largest gap in an image; None if no proposal belongs to an object."""
    proposals, _ = probe.propose()
    if len(proposals) == 0 or len(truth.boxes) == 0:
        return None
    detection = probe.ask(proposals).detection
    overlap, owner = box_iou(proposals, truth.boxes.to(proposals)).max(dim=1)
    conflicts = []
    for index, (box, label) in enumerate(zip(truth.boxes.to(proposals), truth.labels.tolist())):
        mine = torch.where((owner == index) & (overlap >= _BELONGS))[0]
        if len(mine) == 0:
            continue
        scores, decoded = detection.scores[mine, label], detection.boxes[mine, label]
        iou = paired_iou(decoded, box.expand_as(decoded))
        scored, fitting = (
            Candidate(valid_box(proposals[mine[k]]), valid_box(decoded[k]), scores[k].item(), iou[k].item())
            for k in (int(scores.argmax()), int(iou.argmax()))
        )
        conflicts.append(Conflict(index, label, scored, fitting))
    return max(conflicts, key=lambda conflict: conflict.gap, default=None)
