"""Objects worth showing: those where the two tasks of a detector disagree most, with their maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.ops import box_iou

from tsdlab.analysis.measures import ObjectMaps
from tsdlab.analysis.misalignment import window
from tsdlab.analysis.sensitivity import SensitivityMaps, differentiate, gradient_maps, sensitivity_maps
from tsdlab.data.items import Items, as_items
from tsdlab.models.build import as_detector
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe

EXAMPLES = 3
CANDIDATES = 12  # images that the examples are chosen from
FOUND = 0.5  # smallest IoU of a detection with an object that it finds


@dataclass(frozen=True)
class Example:
    """An object to show, with everything that is drawn of it. Boxes are xyxy in pixels of the image."""

    image: int  # index in the dataset
    image_id: int | str  # as in the annotation file
    object: int  # index in the image's target
    label: int  # of the model
    category: str
    level: str  # from which its box is pooled
    peak_distance: float  # between the gradients' peaks at this level, in box sizes; first branch (sibling, if any)
    pixels: Tensor  # [3, H, W] in 0…1
    box: Tensor  # [4]
    salient: Tensor | None  # [4] the part that tells its class
    strides: dict[str, tuple[float, float]]  # level → (y, x) pixels per feature cell
    maps: dict[str, SensitivityMaps]  # by method, as in METHODS

    def as_dict(self) -> dict[str, Any]:
        """Which object it is, as plain values; without image and maps."""
        names = ("image", "object", "label", "level", "peak_distance")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class _Candidate:
    found: bool  # whether a detection of its class overlaps it
    peak_distance: float
    image: int
    object: int
    label: int
    level: str


def choose_examples(model: nn.Module, dataset: Any, images: int = CANDIDATES, count: int = EXAMPLES) -> list[Example]:
    """The `count` objects whose tasks disagree most, at most one per image, from the first `images` of the data set.

    Disagreement is the distance between the two gradient peaks in box sizes, for the first branch, on the level that
    the object's box is pooled from. Objects that the detector finds come first, because the maps of others mean little.
    """
    model = as_detector(model)
    items = as_items(dataset).for_model(model)
    candidates = [
        candidate
        for index in range(min(images, len(items)))
        for candidate in _candidates(model, items, index)
        if candidate.peak_distance == candidate.peak_distance  # not NaN, the distance of a flat map
    ]
    best: dict[int, _Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (c.found, c.peak_distance), reverse=True):
        best.setdefault(candidate.image, candidate)
    return [_example(model, items, candidate) for candidate in list(best.values())[:count]]


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
        first = next(iter(maps.levels[level].values()))
        hits = trace.detections["boxes"][trace.detections["labels"] == label].cpu()
        found = len(hits) > 0 and bool((box_iou(hits, box[None]) >= FOUND).any())
        yield _Candidate(found, ObjectMaps(first, maps.grid, box, None).peak_distance(), index, i, label, level)


def _example(model: Detector, items: Items, candidate: _Candidate) -> Example:
    image, target = items[candidate.image]
    box, label = target["boxes"][candidate.object], candidate.label
    return Example(
        image=candidate.image,
        image_id=items.image_ids[candidate.image],
        object=candidate.object,
        label=label,
        category=items.names[label - 1],
        level=candidate.level,
        peak_distance=candidate.peak_distance,
        pixels=image,
        box=box,
        salient=target["salient_boxes"][candidate.object] if "salient_boxes" in target else None,
        strides=Probe(model, image).strides,
        maps={
            "proposals": sensitivity_maps(model, image, box, label),
            "gradients": gradient_maps(model, image, box, label, pooling="level"),
        },
    )
