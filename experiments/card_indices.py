"""Do detectors of playing cards read the class off the index corners, the small rank and suit in a card's corners?

    python experiments/card_indices.py WEIGHTS… --data DIR              # prints tables
    python experiments/card_indices.py WEIGHTS… --data DIR --out NAME   # also writes data/results/NAME.json

`data/results/cards_indices.json` has the index corners of the cards in DIR's test split. For each of these cards:

- The peaks of both tasks' gradient maps (tsdlab/analysis/sensitivity.py), in a window of 1.5 times the card's box: are
  they on an index? The pointing game.
- Of heads that move the bins of the class one by one: the proposals that overlap the card by at least 0.5, and their
  bins in P's own grid, in P̂c, and in P̂c without the displacement that all proposals of the split have in common. How
  many lie on an index, and how far are they from the nearest one?
- The score of the card's class, mean over these proposals, when its indices are painted over, and when patches of the
  same size elsewhere on the card are.

Intervals are 95% intervals of a bootstrap over images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from tsdlab.analysis.displacement import Followed, follow
from tsdlab.analysis.measures import MEASURES, ObjectMaps
from tsdlab.analysis.misalignment import window
from tsdlab.analysis.pattern import Pattern, measure_pattern
from tsdlab.analysis.sensitivity import TASKS, differentiate
from tsdlab.analysis.statistics import Estimate, Tally
from tsdlab.data.coco import CocoDataset
from tsdlab.data.items import Items, as_items
from tsdlab.errors import DataError
from tsdlab.memory import keep_freed_memory
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe
from tsdlab.models.weights import load_detector
from tsdlab.ops.sampling import bin_centres
from tsdlab.progress import progress_bar
from tsdlab.provenance import provenance, write_results
from tsdlab.shipped import RESULTS
from tsdlab.structures import DetectionTrace
from tsdlab.terminal import name_column

INDICES = RESULTS / "cards_indices.json"
GRID, MOVED, OWN, COMMON = "grid", "moved", "moved without the pattern", "the pattern alone"
POINTS = {
    GRID: "P's own grid",
    MOVED: "P̂c",
    OWN: "P̂c without the common pattern",
    COMMON: "the common pattern alone",
}
NOTHING = "nothing"
PATCHES = {
    "indices": "its indices",
    "mirrored": "the other corners: the same boxes, mirrored",
    "middle": "the middle: the same boxes, moved 85% of the way there",
}
FRAME = 2  # pixels around a patch, whose median colour it is painted with
# Levels differ in how many of a card's proposals are pooled from them.
LEVELS = {
    "main": "the level that most of the card's proposals are pooled from",
    "finest": "the finest level that one of them is pooled from",
}


@dataclass(frozen=True)
class Looked:
    """Where a detector looks for the class of a card. Shares are 0…1, distances fractions of P's size."""

    cards: int
    peaks: dict[str, dict[str, dict[str, Estimate]]]  # by branch, level as in LEVELS, and measure as in MEASURES
    difference: dict[str, dict[str, Estimate]]  # likewise: share of peaks on an index, classification − localization
    chance_on_card: Estimate  # the share of a card's box that its indices cover
    chance_in_window: Estimate  # the share of the window of the maps
    proposals: int  # followed proposals; 0 if the head does not move the bins of the class one by one
    on_index: dict[str, Estimate]  # by points as in POINTS, the share of bins that lie on an index
    distance: dict[str, Estimate]  # likewise, mean distance of a bin from the nearest index
    gain_on_index: dict[str, Estimate]  # on_index minus that of P's own grid
    gain_distance: dict[str, Estimate]  # distance likewise; negative: nearer
    score: dict[str, Estimate]  # by branch, mean score of the cards' classes
    loss: dict[str, dict[str, Estimate]]  # by branch and patch as in PATCHES, how much of it painting over takes


class Annotated:
    """The index corners of a split's objects, from a file such as `data/results/cards_indices.json`."""

    def __init__(self, file: Path) -> None:
        content = json.loads(file.read_text())
        self.file = file
        self.split: str = content["split"]
        self._by_image: dict[str, list[dict[str, Any]]] = {}
        for entry in content["objects"]:
            self._by_image.setdefault(entry["file_name"], []).append(entry)

    def check(self, items: Items) -> None:
        """Raises DataError if an image with annotated objects is not among the items."""
        absent = self._by_image.keys() - {items.file_name(index) for index in range(len(items))}
        if absent:
            raise DataError(
                f"{items.name} has no image {min(absent)}, which {self.file} names; give its folder to --data"
            )

    def find(self, items: Items, index: int, target: dict[str, Any]) -> dict[int, Tensor]:
        """The indices [n, 4] xyxy of each annotated object of an image, by the object's place in `target`.

        Raises:
            DataError: an annotated object is not in `target`.
        """
        found = {}
        for entry in self._by_image.get(items.file_name(index), ()):
            same = box_iou(_corners([entry["bbox"]]), target["boxes"])[0] > 0.99
            same &= torch.tensor([items.names[label - 1] == entry["category"] for label in target["labels"]])
            if same.sum() != 1:
                raise DataError(
                    f"{items.name} has no {entry['category']} at {entry['bbox']} in {entry['file_name']}, which "
                    f"{self.file} names; give the folder that it was made for to --data"
                )
            found[int(same.nonzero())] = _corners(entry["indices"])
        return found


def look(model: Detector, items: Items, annotated: Annotated, replicates: int = 1000) -> Looked:
    """Measure one detector on the annotated objects of a data set, whose labels are the model's.

    Raises:
        DataError: the annotation is of another data set.
    """
    annotated.check(items)
    pixels = (items[index][0] for index in progress_bar(range(len(items)), "pattern"))
    pattern = measure_pattern({"": model}, pixels)[""].get("classification")
    tally = Tally(replicates)
    for index in progress_bar(range(len(items)), "look"):
        image, target = items[index]
        indices = annotated.find(items, index, target)
        if not indices:
            continue
        probe = Probe(model, image)
        trace = probe.trace()
        tally.begin(index)
        for place, parts in indices.items():
            box, label = target["boxes"][place], int(target["labels"][place])
            tally_peaks(tally, probe, trace, box, label, parts)
            tally_painted(tally, probe, image, trace, box, label, parts)
        if pattern is not None:
            tally_points(tally, follow(trace, target), pattern, indices)
    return looked(tally)


def tally_peaks(tally: Tally, probe: Probe, trace: DetectionTrace, box: Tensor, label: int, parts: Tensor) -> None:
    """Add where the maps of one card peak, and how often a random place is on its indices, `parts` [n, 4]."""
    area = ((parts[:, 2:] - parts[:, :2]).prod(dim=1).sum() / (box[2:] - box[:2]).prod()).item()
    tally.add(("chance on card",), [area])
    maps = differentiate(probe, box, label, window(box, probe.image_size), proposals=trace.proposals)
    for name, level in levels_of(probe, trace, box).items():
        for branch, pair in maps.levels[level].items():
            measured = ObjectMaps(pair, maps.grid, maps.box, parts)
            for measure, of in MEASURES.items():
                tally.add(("peaks", branch, name, measure), [of.compute(measured)])


def levels_of(probe: Probe, trace: DetectionTrace, box: Tensor) -> dict[str, str]:
    """The levels in LEVELS of one card; without a proposal, that of its own box, which the maps are of then."""
    levels = trace.levels[overlapping(trace, box)]
    if not len(levels):
        return dict.fromkeys(LEVELS, probe.level_of(box))
    return {"main": probe.pooled[int(levels.mode().values)], "finest": probe.pooled[int(levels.min())]}


def overlapping(trace: DetectionTrace, box: Tensor) -> Tensor:
    """[K] which proposals overlap a card by at least 0.5."""
    return box_iou(trace.proposals, box[None].to(trace.proposals))[:, 0] >= 0.5


def tally_painted(
    tally: Tally, probe: Probe, image: Tensor, trace: DetectionTrace, box: Tensor, label: int, parts: Tensor
) -> None:
    """Add the score of a card's class with each of PATCHES painted over; the proposals stay those of the photograph."""
    proposals = trace.proposals[overlapping(trace, box)]
    if not len(proposals):
        return
    for name, boxes in {NOTHING: None, **patches(box, parts)}.items():
        asked = probe if boxes is None else Probe(probe.model, paint_over(image, boxes))
        for branch, said in asked.ask(proposals).branches.items():
            tally.add(("score", branch, name), [said.scores[:, label].mean().item()])


def patches(box: Tensor, parts: Tensor) -> dict[str, Tensor]:
    """The places in PATCHES [n, 4] on a card `box` [4] with indices `parts` [n, 4]."""
    mirrored = parts.clone()
    mirrored[:, ::2] = (box[0] + box[2] - parts[:, ::2]).flip(1)
    to_centre = (box[:2] + box[2:] - parts[:, :2] - parts[:, 2:]) / 2
    return {"indices": parts, "mirrored": mirrored, "middle": parts + 0.85 * to_centre.repeat(1, 2)}


def paint_over(image: Tensor, boxes: Tensor) -> Tensor:
    """A copy of an image [3, H, W] with every box, rounded outwards, in the median colour of the frame around it."""
    painted = image.clone()
    height, width = image.shape[1:]
    for x1, y1, x2, y2 in torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1).int().clamp(min=0).tolist():
        around = (slice(max(y1 - FRAME, 0), y2 + FRAME), slice(max(x1 - FRAME, 0), x2 + FRAME))
        is_frame = torch.zeros(height, width, dtype=torch.bool)
        is_frame[around] = True
        is_frame[y1:y2, x1:x2] = False
        painted[:, y1:y2, x1:x2] = image[:, is_frame].median(dim=1).values[:, None, None]
    return painted


def tally_points(tally: Tally, followed: Followed, pattern: Pattern, indices: dict[int, Tensor]) -> None:
    """Add the bins of the followed proposals of all cards with `indices`."""
    for place, parts in indices.items():
        chosen = followed.objects == place
        proposals, moved = followed.proposals[chosen], followed.regions["classification"].points[chosen]
        size = (proposals[:, 2:] - proposals[:, :2]).clamp(min=1e-6)[:, None, None]  # [K, 1, 1, 2]
        grid, common = bin_centres(proposals, bins=moved.shape[1]), pattern.offsets * size
        for name, points in {GRID: grid, MOVED: moved, OWN: moved - common, COMMON: grid + common}.items():
            distance = nearest(points, parts, size)
            tally.add(("on index", name), (distance == 0).float().mean(dim=(1, 2)))
            tally.add(("distance", name), distance.mean(dim=(1, 2)))


def nearest(points: Tensor, boxes: Tensor, size: Tensor) -> Tensor:
    """Distance of points [..., 2] from the nearest of boxes [n, 4], 0 inside, x and y in units of `size` [..., 2]."""
    low, high, each = boxes[:, :2], boxes[:, 2:], points[..., None, :]
    apart = torch.maximum(low - each, each - high).clamp(min=0) / size[..., None, :]  # [..., n, 2]
    return torch.linalg.vector_norm(apart, dim=-1).amin(dim=-1)


def looked(tally: Tally) -> Looked:
    """The results of what has been added."""
    peaks: dict[str, dict[str, dict[str, Estimate]]] = {}
    difference: dict[str, dict[str, Estimate]] = {}
    for _, branch, level, measure in tally.names("peaks"):
        name = ("peaks", branch, level)
        peaks.setdefault(branch, {}).setdefault(level, {})[measure] = tally.mean((*name, measure))
        both = [(*name, f"{task}_peak_on_salient") for task in TASKS]
        difference.setdefault(branch, {})[level] = tally.difference(both[0], both[1])
    points = [name for _, name in tally.names("on index")]
    score = {branch: tally.mean(("score", branch, NOTHING)) for branch in peaks}
    branch = next(iter(peaks), None)
    return Looked(
        cards=tally.mean(("chance on card",)).count,
        peaks=peaks,
        difference=difference,
        chance_on_card=tally.mean(("chance on card",)),
        chance_in_window=tally.mean(("peaks", str(branch), "main", "salient_area")),
        proposals=tally.mean(("on index", GRID)).count,
        on_index={name: tally.mean(("on index", name)) for name in points},
        distance={name: tally.mean(("distance", name)) for name in points},
        gain_on_index={name: tally.difference(("on index", name), ("on index", GRID)) for name in points},
        gain_distance={name: tally.difference(("distance", name), ("distance", GRID)) for name in points},
        score=score,
        loss={
            branch: {name: tally.difference(("score", branch, NOTHING), ("score", branch, name)) for name in PATCHES}
            for branch in score
        },
    )


def lines(name: str, found: Looked) -> Iterator[str]:
    """The tables of one model, in percent."""
    yield f"\n{name}: {found.cards} cards"
    rows = [(f"{branch}, {level} level", branch, level) for branch in found.peaks for level in found.peaks[branch]]
    names = name_column([row for row, _, _ in rows], "% of cards whose map peaks on an index")
    yield _row(names[0], "classification", "localization", "difference")
    for text, (_, branch, level) in zip(names[1:], rows):
        of_tasks = (found.peaks[branch][level][f"{task}_peak_on_salient"] for task in TASKS)
        yield _row(text, *map(_percent, of_tasks), _percent(found.difference[branch][level]))
    yield (
        f"a random place of the card: {_percent(found.chance_on_card)}, of the window: "
        f"{_percent(found.chance_in_window)}"
    )
    yield f"\n{name}: score of the class in %, and what is lost when a part of the card is painted over"
    names = name_column(list(found.score), "branch")
    yield _row(names[0], "photograph", *PATCHES)
    for text, branch in zip(names[1:], found.score):
        yield _row(text, _percent(found.score[branch]), *(_percent(loss) for loss in found.loss[branch].values()))
    if not found.proposals:
        return
    yield f"\n{name}: {found.proposals} proposals"
    names = name_column([POINTS[points] for points in found.on_index], "bins of the class")
    yield _row(names[0], "% on an index", "more than P's grid", "from the nearest, % of P", "further than P's grid")
    for text, points in zip(names[1:], found.on_index):
        numbers = (found.on_index, found.gain_on_index, found.distance, found.gain_distance)
        yield _row(text, *(_percent(of[points]) for of in numbers))


def _row(name: str, *cells: str) -> str:
    return "  ".join([name, *(f"{cell:<24}" for cell in cells)]).rstrip()


def _percent(share: Estimate) -> str:
    return str(share.scaled(100))


def _corners(boxes: list[list[float]]) -> Tensor:
    """[n, 4] xyxy of boxes (x, y, width, height)."""
    found = torch.tensor(boxes, dtype=torch.float32)
    return torch.cat([found[:, :2], found[:, :2] + found[:, 2:]], dim=1)


def name_of(weights: str) -> str:
    """A run's weights are named after its folder, others after themselves."""
    return Path(weights).parent.name or weights


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="a file, or the name of shipped weights")
    parser.add_argument("--data", type=Path, required=True, help="data set in COCO format")
    parser.add_argument("--indices", type=Path, default=INDICES, help=f"default: data/results/{INDICES.name}")
    parser.add_argument("--out", help="name of a results file")
    arguments = parser.parse_args()
    names = [name_of(weights) for weights in arguments.weights]
    if len(set(names)) < len(names):
        parser.error(f"the weights need folders with different names, got {', '.join(names)}")
    annotated = Annotated(arguments.indices)
    items = as_items(CocoDataset(arguments.data, annotated.split))
    found = {}
    for name, weights in zip(names, arguments.weights):
        model = load_detector(weights)
        found[name] = look(model, items.for_model(model), annotated)
        print("\n".join(lines(name, found[name])), flush=True)
    if arguments.out:
        models = {name: dataclasses.asdict(of) for name, of in found.items()}
        write_results(
            arguments.out, {"levels": LEVELS, "points": POINTS, "patches": PATCHES, "models": models, **provenance()}
        )


if __name__ == "__main__":
    main()
