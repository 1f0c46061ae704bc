"""Objects worth showing: where the two tasks of a detector disagree most."""

from __future__ import annotations

from dataclasses import dataclass

from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import box_iou

from tsdlab.analysis.measures import ObjectMaps
from tsdlab.analysis.misalignment import window
from tsdlab.analysis.sensitivity import differentiate
from tsdlab.data.coco import CocoDataset
from tsdlab.evaluation import model_labels
from tsdlab.models.build import as_detector
from tsdlab.models.probe import Probe

EXAMPLES = 3
CANDIDATES = 12  # images that the examples are chosen from
FOUND = 0.5  # IoU of a detection with an object that it finds


@dataclass(frozen=True)
class Example:
    """An object to show: what of it, and how far its peaks lie apart."""

    image: int  # index in the dataset
    object: int  # index in the image's target
    label: int  # of the model
    level: str  # that its own box is pooled from
    peak_distance: float  # of the gradients at this level, in box sizes, by the first branch: the sibling, if any


def choose_examples(
    model: GeneralizedRCNN, dataset: CocoDataset, images: int = CANDIDATES, count: int = EXAMPLES
) -> list[Example]:
    """Of the objects of the first images the `count` whose tasks disagree most, at most one of an image.

    Disagreement is the distance of the gradients' two peaks in box sizes, by the first branch at the level that the
    object's box is pooled from. Objects that the detector finds come first: of others its maps have little to say.
    """
    model = as_detector(model)
    to_model = model_labels(model, dataset)
    candidates = []
    for index in range(min(images, len(dataset))):
        image, target = dataset[index]
        if not len(target["boxes"]):
            continue
        probe = Probe(model, image)
        trace = probe.trace()
        levels = probe.ask(target["boxes"]).levels.tolist()
        for i, (box, label) in enumerate(zip(target["boxes"], to_model[target["labels"]].tolist())):
            level = probe.pooled[levels[i]]
            maps = differentiate(probe, box, label, window(box, probe.image_size), proposals=trace.proposals)
            first = next(iter(maps.levels[level].values()))
            distance = ObjectMaps(first, maps.grid, box, None).peak_distance()
            hits = trace.detections["boxes"][trace.detections["labels"] == label].cpu()
            found = len(hits) > 0 and bool((box_iou(hits, box[None]) >= FOUND).any())
            if distance == distance:  # not NaN, as of a flat map
                candidates.append((found, distance, Example(index, i, label, level, distance)))
    best: dict[int, Example] = {}
    for _, _, example in sorted(candidates, key=lambda entry: entry[:2], reverse=True):
        best.setdefault(example.image, example)
    return list(best.values())[:count]
