"""What an explorer's models say: about an image when it is opened, and about any proposal in it. Answers are kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import box_iou

from tsdlab.analysis.pattern import Pattern, measure_pattern
from tsdlab.analysis.proposal import Box, GroundTruth, ProposalAnswer, ask_levels
from tsdlab.analysis.sensitivity import Grid, Pooling, SensitivityMaps, ask_everywhere, build_maps
from tsdlab.analysis.shifted import find_disagreement
from tsdlab.errors import InputError
from tsdlab.models.build import as_detector, unwrapped
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe
from tsdlab.models.steps import TrainingSteps
from tsdlab.ranges import Count, check_value
from tsdlab.structures import Answer
from tsdlab.widgets.explorer.gallery import Gallery
from tsdlab.widgets.explorer.scan import Scan
from tsdlab.widgets.second_stage.packing import Packed, TooLarge, pack_head, pack_pyramid

_MAP_CELLS = 96  # along the longer side of a sensitivity map
_PATTERN_IMAGES = 32  # hundreds of proposals each: over more images the mean stays the same


@dataclass(frozen=True, eq=False)
class ObjectMaps:
    """The sensitivity maps of one object in one image, over the whole image, by level and branch."""

    maps: SensitivityMaps
    branch: str  # the one that is shown
    image: int
    object: int


class OpenImage:
    """One image inside every model: features and proposals are computed once, then any box can be asked about.

    Attributes:
        index: of the image in the gallery.
        pixels: [3, H, W] in 0…1.
        truth: the objects of the image.
        probes: the image inside each model, by the model's name.
        proposed: by model, the RPN's proposals [K, 4], best first, and their objectness [K] in 0…1.
    """

    def __init__(self, index: int, pixels: Tensor, truth: GroundTruth, detectors: Mapping[str, Detector]) -> None:
        self.index, self.pixels, self.truth = index, pixels, truth
        self.probes = {name: Probe(detector, pixels) for name, detector in detectors.items()}
        self.proposed = {name: probe.propose() for name, probe in self.probes.items()}
        self._held: tuple[Box, str | None] = self.first_proposal, None
        self._answers: dict[str, ProposalAnswer] | None = None
        self._everywhere: dict[tuple[str, Pooling], dict[str, Answer]] = {}
        self._maps: dict[tuple, SensitivityMaps] = {}
        self._shown_maps: dict[tuple, ObjectMaps] = {}

    def hold(self, proposal: Box, level: str | None) -> None:
        """The proposal that `answers` are about, and the level that it is pooled from."""
        if self._held != (proposal, level):
            self._held, self._answers = (proposal, level), None

    @property
    def answers(self) -> dict[str, ProposalAnswer]:
        """What every model says about the proposal; the same object as long as it is held."""
        if self._answers is None:
            box, level = self._held
            self._answers = {n: ask_levels(probe, box, self.truth, level) for n, probe in self.probes.items()}
        return self._answers

    def ask(self, proposal: Box, level: str | None) -> dict[str, ProposalAnswer]:
        """What every model says about a proposal, pooled from a level (None: the assigned one)."""
        self.hold(proposal, level)
        return self.answers

    @cached_property
    def pyramids(self) -> dict[str, Packed | TooLarge]:
        """The features of the image inside each model, as a page needs them."""
        return {name: pack_pyramid(probe) for name, probe in self.probes.items()}

    @cached_property
    def first_proposal(self) -> Box:
        """The proposal that the image is opened with, in hundredths of a pixel.

        A box shifted off an object, about which the branches disagree most; without objects, the last model's best RPN
        proposal; else the middle of the image.
        """
        height, width = self.pixels.shape[1:]
        shifted = find_disagreement(self.probes.values(), self.truth.boxes, self.truth.labels)
        *_, (boxes, _) = self.proposed.values()
        if shifted is not None:
            box = shifted.box.tolist()
        elif len(boxes):
            box = boxes[0].tolist()
        else:
            box = [width / 4, height / 4, width * 3 / 4, height * 3 / 4]
        x1, y1, x2, y2 = (round(v, 2) for v in box)
        return x1, y1, x2, y2

    def sensitivity_maps(
        self, model: str, answer: ProposalAnswer, branch: str | None, pooling: Pooling
    ) -> ObjectMaps | None:
        """The sensitivity maps for the nearest object of `answer`; None if the image has no objects.

        The same object is returned for the same question.

        Args:
            model: its name.
            answer: what it says about a proposal.
            branch: a branch of the model; if None, or if the model has no such branch, the one that inference uses.
            pooling: see `tsdlab.analysis.sensitivity.ask_everywhere`.
        """
        nearest = answer.nearest
        if nearest is None:
            return None
        if branch not in answer.branches:
            branch = next(reversed(answer.branches))
        key = (model, nearest.index, pooling)
        if key not in self._maps:
            probe = self.probes[model]
            if (model, pooling) not in self._everywhere:
                self._everywhere[model, pooling] = ask_everywhere(probe, pooling)
            everywhere = {level: self._everywhere[model, pooling][level] for level in answer.levels}
            grid = Grid.over_image(probe.image_size, cells=_MAP_CELLS)
            self._maps[key] = build_maps(everywhere, nearest.box, nearest.label, grid)
        shown = (*key, branch)
        if shown not in self._shown_maps:
            self._shown_maps[shown] = ObjectMaps(self._maps[key], branch, self.index, nearest.index)
        return self._shown_maps[shown]


class Session:
    """The models and the images of one explorer, and the image that is open.

    Args:
        model: one model, or several by name. `TrainingSteps` in the place of a model are followed over a training.
        dataset: see `Gallery`.
        names: names of the classes 1…C; see `Gallery`.
        scan: how many images are asked about at most to sort them by disagreement.

    Attributes:
        detectors: the models by name; a single model has the name of its head.
        several: whether models were given by name.
        steps: the steps of the training that can be chosen, ascending; empty if no model is followed.
        step: the one whose weights the models have; None if no model is followed.
        scan: what is known about the order by disagreement.
        image: the image that is open; the first one of the data as long as `open` was not called.

    Raises:
        InputError: model, dataset, names or scan cannot be used; the message says which and why.
    """

    def __init__(self, model: Any, dataset: Any, names: Sequence[str] | None, scan: int) -> None:
        self.several = isinstance(model, Mapping)
        models = dict(model) if isinstance(model, Mapping) else {"": model}
        followed = {name: each for name, each in models.items() if isinstance(each, TrainingSteps)}
        self.steps = sorted({step for each in followed.values() for step in each})
        self.step = self.steps[-1] if self.steps else None
        models |= {name: each.load(self.steps[-1]) for name, each in followed.items()}
        self.detectors = _detectors(models if self.several else models[""])
        # A single model has the name of its head.
        self._followed = dict(zip(self.detectors, followed.values())) if not self.several else followed
        named = (detector for detector in self.detectors.values() if detector.categories)
        self.gallery = Gallery(dataset, next(named, next(iter(self.detectors.values()))), names)
        check_value("scan", scan, Count)
        self.scan = Scan(self.gallery, self.detectors, scan)
        self._image: OpenImage | None = None
        self._pattern: dict[str, dict[str, Pattern]] | None = None

    def choose(self, step: int | None) -> None:
        """Give the models that are followed their weights after `step` steps, and open the image again."""
        if step is None or step == self.step:
            return
        detectors = self.detectors | {name: as_detector(each.load(step)) for name, each in self._followed.items()}
        index = self.image.index
        image = OpenImage(index, *self.gallery[index], detectors)
        # Only now: weights or an image that cannot be read leave everything as it was.
        self.step, self.detectors, self._image = step, detectors, image
        self.__dict__.pop("heads", None)
        self._pattern = None
        self.scan = Scan(self.gallery, self.detectors, self.scan.most)

    def open(self, index: int) -> None:
        """Read an image, compute every model's features and proposals. An image that is open already stays so."""
        if self._image is None or self._image.index != index:
            self._image = OpenImage(index, *self.gallery[index], self.detectors)

    def apart(self) -> Session:
        """The same models and data, with no image open: what is opened and asked there changes nothing here."""
        other = copy.copy(self)
        other._image = None
        return other

    @property
    def image(self) -> OpenImage:
        if self._image is None:
            self.open(0)
        assert self._image is not None
        return self._image

    @property
    def arguments(self) -> tuple[str, str]:
        """What a line of Python calls the models and the data."""
        return "models" if self.several else "model", self.gallery.variable

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(self.detectors)

    @cached_property
    def heads(self) -> dict[str, Packed | TooLarge]:
        """The second stage of each model, as a page needs it."""
        return {name: pack_head(detector) for name, detector in self.detectors.items()}

    @property
    def by_kernel(self) -> str | None:
        """Why a page cannot answer about the open image by itself; None if it can."""
        for name, packed in [*self.heads.items(), *self.image.pyramids.items()]:
            if isinstance(packed, TooLarge):
                return f"{name}: {packed.reason}" if self.several else packed.reason
        return None

    @property
    def levels(self) -> list[str]:
        """Names of the levels that every model pools from, finest first."""
        first, *others = (probe.pooled for probe in self.image.probes.values())
        return [level for level in first if all(level in pooled for pooled in others)]

    @property
    def branches(self) -> list[str]:
        """Names of the branches of all models; for each model, the branch that inference uses comes last."""
        answers = self.image.answers.values()
        return list(dict.fromkeys(branch for answer in answers for branch in answer.branches))

    def pattern(self, tell: Callable[[int, int], None]) -> dict[str, dict[str, Pattern]]:
        """What the displacements of all proposals have in common, by model and task.

        Up to 32 images, evenly over the data, are asked about. `tell` is called with (images done, images in all).
        """
        if self._pattern is None:
            self._pattern = measure_pattern(self.detectors, self._pattern_images(tell))
        return self._pattern

    def _pattern_images(self, tell: Callable[[int, int], None]) -> Iterator[Tensor]:
        count = min(_PATTERN_IMAGES, len(self.gallery))
        for done in range(count):
            tell(done, count)
            yield self.gallery[done * len(self.gallery) // count][0]


def best_overlap(boxes: Tensor, truth: GroundTruth) -> Tensor:
    """[K] IoU of each box with the object that it overlaps most; 0 if there are no objects."""
    if len(truth.boxes) == 0:
        return boxes.new_zeros(len(boxes))
    return box_iou(boxes, truth.boxes.to(boxes)).amax(dim=1)


def _detectors(model: Any) -> dict[str, Detector]:
    models = dict(model) if isinstance(model, Mapping) else {"": model}
    if not models or not all(isinstance(name, str) for name in models):
        raise InputError("model must be a detector, or a mapping of names to detectors with at least one entry")
    for name, each in models.items():
        if not isinstance(unwrapped(each), GeneralizedRCNN):
            which = f"model {name!r}" if name else "model"
            raise InputError(f"{which} must be a detector, got {type(each).__name__}")
    detectors = {name: as_detector(each) for name, each in models.items()}
    if not isinstance(model, Mapping):
        detectors = {detector.config.head: detector for detector in detectors.values()}
    counts = {name: detector.config.num_classes for name, detector in detectors.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"all models must know the same number of classes; their numbers are {counts}")
    named = {tuple(category.name for category in each.categories) for each in detectors.values() if each.categories}
    if len(named) > 1:
        raise InputError("all models must know the same classes in the same order; they are named differently")
    return detectors
