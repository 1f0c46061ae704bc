"""Objects worth showing, with their maps: a typical one, and those where the two tasks of a detector disagree most."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from tsdlab.analysis.misalignment import window
from tsdlab.analysis.sensitivity import SensitivityMaps, differentiate, gradient_maps, sensitivity_maps
from tsdlab.data.items import Items, as_items
from tsdlab.models.build import as_detector
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe
from tsdlab.progress import progress_bar
from tsdlab.structures import Answer

EXAMPLES = 3
CANDIDATES = 12  # images that the examples are chosen from
FOUND = 0.5  # smallest IoU of a detection with an object that it finds


@dataclass(frozen=True)
class Example:
    """An object to show, with everything that is drawn of it. Boxes are xyxy in pixels of the image."""

    image: int  # index in the dataset
    image_id: int | str  # as in the annotation file
    file: str | None  # of the image, as the annotation file names it; None if the data set does not name files
    object: int  # index in the image's target
    label: int  # of the model
    category: str
    level: str  # from which its box is pooled
    peak_distance: float  # between the gradients' peaks at this level, fractions of the object's size; first branch
    pixels: Tensor  # [3, H, W] in 0…1
    box: Tensor  # [4]
    salient: Tensor | None  # [4] the part that tells its class
    strides: dict[str, tuple[float, float]]  # level → (y, x) pixels per feature cell
    maps: dict[str, SensitivityMaps]  # by method, as in METHODS
    moved: Answer | None = None  # one proposal of the object; None if the head moves none, or no proposal overlaps it

    def as_dict(self) -> dict[str, Any]:
        """Which object it is, as plain values; without image and maps."""
        names = ("image", "image_id", "file", "object", "label", "level", "peak_distance")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Shown:
    """The objects that a report shows."""

    typical: Example | None  # None if there is no object
    farthest: list[Example]

    @property
    def all(self) -> list[Example]:
        """Each of them, the typical one first."""
        return [*([] if self.typical is None else [self.typical]), *self.farthest]


@dataclass(frozen=True)
class _Candidate:
    found: bool  # whether a detection of its class overlaps it
    peak_distance: float  # of the first branch
    detecting_distance: float  # of the branch that detects; the same where there is only one
    image: int
    object: int
    label: int
    level: str


def choose_examples(
    model: nn.Module, dataset: Any, images: int = CANDIDATES, count: int = EXAMPLES, progress: bool = True
) -> list[Example]:
    """The `count` objects whose tasks disagree most, at most one per image, from the first `images` of the data set.

    Disagreement is the distance between the two gradient peaks in fractions of the object's size, for the first branch,
    on the level that the object's box is pooled from. Objects that the detector finds come first, because the maps of
    others mean little.
    """
    model = as_detector(model)
    items = as_items(dataset).for_model(model)
    chosen = _farthest(_measure(model, items, images, progress), count)
    return [_example(model, items, candidate) for candidate in progress_bar(chosen, "examples", shown=progress)]


def choose_shown(
    model: nn.Module, dataset: Any, images: int = CANDIDATES, count: int = EXAMPLES, progress: bool = True
) -> Shown:
    """A typical object, and those of `choose_examples`.

    Typical is the object whose distance between the gradient peaks of the detecting branch is the median, among those
    that the detector finds; among all if it finds none.
    """
    model = as_detector(model)
    items = as_items(dataset).for_model(model)
    candidates = _measure(model, items, images, progress)
    chosen = [*_typical(candidates), *_farthest(candidates, count)]
    examples = [_example(model, items, candidate) for candidate in progress_bar(chosen, "examples", shown=progress)]
    return Shown(examples[0], examples[1:]) if examples else Shown(None, [])


def _measure(model: Detector, items: Items, images: int, progress: bool) -> list[_Candidate]:
    """Every object of the first images whose maps are not flat."""
    indices = range(min(images, len(items)))
    return [
        candidate
        for index in progress_bar(indices, "objects", shown=progress)
        for candidate in _candidates(model, items, index)
        if not math.isnan(candidate.peak_distance + candidate.detecting_distance)
    ]


def _farthest(candidates: list[_Candidate], count: int) -> list[_Candidate]:
    best: dict[int, _Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (c.found, c.peak_distance), reverse=True):
        best.setdefault(candidate.image, candidate)
    return list(best.values())[:count]


def _typical(candidates: list[_Candidate]) -> list[_Candidate]:
    """One candidate, or none if there is none."""
    found = [candidate for candidate in candidates if candidate.found] or candidates
    ordered = sorted(found, key=lambda c: c.detecting_distance)
    return ordered[(len(ordered) - 1) // 2 :][:1]


def _candidates(model: Detector, items: Items, index: int) -> Iterator[_Candidate]:
    image, target = items[index]
    if not len(target["boxes"]):
        return
    probe = Probe(model, image)
    trace = probe.trace()
    levels = probe.ask(target["boxes"]).levels.tolist()
    for i, (box, label) in enumerate(zip(target["boxes"], target["labels"].tolist())):
        level = probe.pooled[levels[i]]
        maps = differentiate(probe, box, label, window(box, probe.image_size), proposals=trace.proposals)
        distances = [maps.peak_distance(level, branch) for branch in maps.levels[level]]
        hits = trace.detections["boxes"][trace.detections["labels"] == label].cpu()
        found = len(hits) > 0 and bool((box_iou(hits, box[None]) >= FOUND).any())
        yield _Candidate(found, distances[0], distances[-1], index, i, label, level)


def _example(model: Detector, items: Items, candidate: _Candidate) -> Example:
    image, target = items[candidate.image]
    box, label = target["boxes"][candidate.object], candidate.label
    probe = Probe(model, image)
    return Example(
        image=candidate.image,
        image_id=items.image_ids[candidate.image],
        file=items.file_name(candidate.image),
        object=candidate.object,
        label=label,
        category=items.names[label - 1],
        level=candidate.level,
        peak_distance=candidate.peak_distance,
        pixels=image,
        box=box,
        salient=target["salient_boxes"][candidate.object] if "salient_boxes" in target else None,
        strides=probe.strides,
        maps={
            "proposals": sensitivity_maps(model, image, box, label),
            "gradients": gradient_maps(model, image, box, label, pooling="level"),
        },
        moved=_middle_proposal(probe, box),
    )


def _middle_proposal(probe: Probe, box: Tensor) -> Answer | None:
    """What the head says about the proposal of an object that it moves by the median length."""
    trace = probe.trace()
    near = box_iou(trace.proposals, box[None].to(trace.proposals))[:, 0] >= FOUND
    if not trace.regions or not near.any():
        return None
    length = torch.stack([region.moved for region in trace.regions.values()]).sum(dim=0)[near]
    place = near.nonzero()[length.argsort()[(len(length) - 1) // 2]]
    return probe.ask(trace.proposals[place])
