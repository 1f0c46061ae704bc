"""`explore`: hold a proposal over an image and watch what every branch of a detector makes of it.

All state is in traits, so what the mouse does a script can do as well. The page sends `{serial, set, go}` and gets all
that follows from it in one message, with `{done: serial, refused}`; it sends nothing more before that, so at most one
request is ever on its way, and of the moves made meanwhile only the last one is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import box_iou
from traitlets import Dict, TraitType, observe

from tsdlab.analysis.proposal import (
    Box,
    BranchAnswer,
    GroundTruth,
    ProposalAnswer,
    Shortfall,
    ask_levels,
    sound_box,
)
from tsdlab.analysis.sensitivity import Grid, Pooling, ask_everywhere, build_maps
from tsdlab.errors import InputError
from tsdlab.figures import plots
from tsdlab.models.build import as_detector
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe
from tsdlab.structures import Answer
from tsdlab.widgets.explorer.gallery import SIZES, Gallery
from tsdlab.widgets.pictured import PicturedWidget, image_url

# "salient" is where the evidence for the class is, in data that tells.
LAYERS = ("truth", "salient", "classification", "localization", "decoded")
ORDERS = ("file", "disagreement")
TASKS = ("classification", "localization")

# The order in which state is set: the later ones depend on, or are reset by, the earlier ones.
STATE = (
    "focus", "category", "size", "order", "image_index", "level", "proposal", "underlay", "underlay_branch", "opacity",
    "magnify", "layers", "list_by",
)  # fmt: skip


def explore(
    model: GeneralizedRCNN | Mapping[str, GeneralizedRCNN],
    dataset: Any,
    *,
    names: Sequence[str] | None = None,
    scan: int = 100,
    **state: Any,
) -> Explorer:
    """An interactive view of what detectors make of one proposal.

    Args:
        model: a detector of ours or a Faster R-CNN of torchvision; or several by name, to see side by side.
        dataset: anything with a length whose items are `(image, target)` as `CocoDataset`'s are, or one image
            [3, H, W] in 0…1, or one pair of image and target.
        names: of the classes 1…C; the data set's own categories by default.
        scan: how many images are asked about at most to sort by disagreement.
        state: any of the explorer's traits to start from, such as `image_index=3, level="1"`; see `Explorer`.

    Raises:
        ValueError: model, dataset or a trait cannot be used; says which and why.
    """
    return Explorer(model, dataset, names=names, scan=scan, **state)


class _State(TraitType):
    """A trait that its owner judges, by `_check_<name>`; traitlets' own kinds raise TraitError, not ValueError."""

    def validate(self, explorer: Explorer, value: Any) -> Any:
        # Defaults are sound, and are first read before there is anything to judge them by.
        return getattr(explorer, f"_check_{self.name}")(value) if explorer._judges else value


class Explorer(PicturedWidget):
    """The widget that `explore` makes. Traits that can be read, set and observed:

    - `image_index`: 0…len(dataset) − 1; opening an image puts the proposal on one of the RPN's.
    - `proposal`: (x1, y1, x2, y2) in pixels; may leave the image, or have no area.
    - `level`: the level that P is pooled from, such as "1"; None takes the one assigned to its size.
    - `focus`: name of the model whose RPN proposals and levels are listed.
    - `category`, `size`: only images with an object of this class and size (`SIZES`); None for any. The size "small" is
      below 32² px², "medium" below 96², as in COCO; thirds are of this data set's objects.
    - `order`: "file", or "disagreement": of the first `scan` images that pass the filter, those first in which the
      score chooses a proposal that fits much worse than the best one (`exploration.Conflict`; of the model in focus).
    - `underlay`: None, "classification" or "localization": that task's sensitivity map for the nearest object under the
      boxes, of the level in use; of the branch `underlay_branch`, or if that is None of those inference uses.
      `opacity` 0…1.
    - `magnify`: how much longer than they are displacements are drawn.
    - `layers`: which of `LAYERS` are drawn over the image.
    - `list_by`: what the list of RPN proposals is sorted by: "score" or "iou".

    A value that cannot be raises ValueError and leaves the state as it was.
    """

    _esm = Path(__file__).with_name("explorer.js")
    _css = Path(__file__).with_name("explorer.css")

    image_index = _State(0).tag(sync=True)
    proposal = _State((0.0, 0.0, 0.0, 0.0)).tag(sync=True)
    level = _State(None).tag(sync=True)
    focus = _State("").tag(sync=True)
    category = _State(None).tag(sync=True)
    size = _State(None).tag(sync=True)
    order = _State("file").tag(sync=True)
    underlay = _State(None).tag(sync=True)
    underlay_branch = _State(None).tag(sync=True)
    opacity = _State(0.6).tag(sync=True)
    magnify = _State(1.0).tag(sync=True)
    layers = _State(LAYERS).tag(sync=True)
    list_by = _State("score").tag(sync=True)

    # What the page draws: of the session, of the image, of the proposal, and the underlay. Rarely to often changed.
    # And which of its requests it shows then.
    _fixed = Dict().tag(sync=True)
    _image = Dict().tag(sync=True)
    _answer = Dict().tag(sync=True)
    _maps = Dict().tag(sync=True)
    _request = Dict().tag(sync=True)

    _judges = False

    def __init__(
        self,
        model: GeneralizedRCNN | Mapping[str, GeneralizedRCNN],
        dataset: Any,
        *,
        names: Sequence[str] | None = None,
        scan: int = 100,
        **state: Any,
    ) -> None:
        self._several = isinstance(model, Mapping)
        self._detectors = _detectors(model)
        classes = next(iter(self._detectors.values())).config.num_classes
        self._gallery = Gallery(dataset, classes, names)
        unknown = [name for name in state if name not in STATE]
        if unknown:
            raise InputError(f"the explorer has no {', '.join(unknown)}; it has {', '.join(STATE)}")
        if scan < 1:
            raise InputError(f"scan must be at least 1, got {scan}")
        self._scan = scan
        self._listed: list[int] = list(range(len(self._gallery)))
        self._opened: int | None = None
        self._asked: tuple | None = None
        self.focus = next(reversed(self._detectors))
        self.image_index = self._check_image_index(state.get("image_index", 0))
        self._open()
        self._fixed = self._describe()
        super().__init__()
        self.on_msg(self._receive)
        self._judges = True
        self._set(state)

    # Asking ---------------------------------------------------------------------------------------------------------

    @property
    def answers(self) -> dict[str, ProposalAnswer]:
        """What every model says of the proposal."""
        return dict(self._answers)

    @property
    def answer(self) -> ProposalAnswer:
        """What the model in focus says: `answer.tsd.scores`, `answer.levels["1"].displacement`, …"""
        return self._answers[self.focus]

    @property
    def truth(self) -> GroundTruth:
        """The objects of the image."""
        return self._truth

    @property
    def names(self) -> list[str]:
        """Of the classes 1…C."""
        return self._gallery.names

    @property
    def python(self) -> str:
        """A line of Python that shows the same again."""
        model, data = "models" if self._several else "model", self._gallery.variable
        changed = [
            f"{name}={value!r}"
            for name in STATE
            if (value := getattr(self, name)) != self.trait_defaults(name)
            and not (name == "focus" and not self._several)
        ]
        return f"tsdlab.explore({', '.join([model, data, *changed])})"

    def next(self) -> None:
        """Open the next image of the list; after the last one comes the first."""
        self._step(1)

    def previous(self) -> None:
        """Open the previous image of the list."""
        self._step(-1)

    def _step(self, by: int) -> None:
        here = self._listed.index(self.image_index) if self.image_index in self._listed else -max(by, 0)
        self.image_index = self._listed[(here + by) % len(self._listed)]

    @observe("image_index")
    def _on_image_index(self, _: Any) -> None:
        self._open()

    @observe("proposal", "level")
    def _on_proposal(self, _: Any) -> None:
        self._ask()

    @observe("category", "size", "order")
    def _on_filter(self, _: Any) -> None:
        self._list_images()
        if self.order == "disagreement" or self.image_index not in self._listed:
            self.image_index = self._listed[0]
        self._send_image()

    @observe("focus")
    def _on_focus(self, _: Any) -> None:
        if self.order == "disagreement" and self._opened is not None:
            self._list_images()
        self._refresh_line()

    @observe("underlay", "underlay_branch")
    def _on_underlay(self, _: Any) -> None:
        self._draw_maps()

    @observe("opacity", "magnify", "layers", "list_by")
    def _on_look(self, _: Any) -> None:
        self._refresh_line()

    def _list_images(self) -> None:
        """Which images there are to step through, and in which order."""
        listed = self._gallery.passing(self.category, self.size)
        if self.order == "disagreement":
            detector = self._detectors[self.focus]
            asked = self._gallery.by_disagreement(listed[: self._scan], self.focus, detector, self._tell_progress)
            listed = asked + listed[self._scan :]
        self._listed = listed

    def _tell_progress(self, done: int, total: int) -> None:
        self.send({"progress": [done, total]})

    def _open(self) -> None:
        """Read the image, compute every model's features, put the proposal on one of the RPN's."""
        if self._opened == self.image_index:
            return
        self._pixels, self._truth = self._gallery[self.image_index]
        self._probes = {name: Probe(model, self._pixels) for name, model in self._detectors.items()}
        self._proposed = {name: probe.propose() for name, probe in self._probes.items()}
        self._everywhere: dict[tuple[str, str], dict[str, Answer]] = {}
        self._drawn: tuple | None = None
        self._opened, self._asked = self.image_index, None
        with self.hold_sync():
            self._send_image()
            self.proposal = self._first_proposal()
            self._ask()

    def _first_proposal(self) -> Box:
        """The best-scored RPN proposal that fits an object at all; without one the best-scored, or the middle."""
        height, width = self._pixels.shape[1:]
        boxes, _ = self._proposed[self.focus]
        if len(boxes) == 0:
            return width / 4, height / 4, width * 3 / 4, height * 3 / 4
        fits = _best_overlap(boxes, self._truth) >= 0.5
        return _rounded_box(boxes[int(fits.int().argmax())])

    def _ask(self) -> None:
        asked = (self.image_index, self.proposal, self.level)
        if asked == self._asked:
            return
        self._answers = {
            name: ask_levels(probe, self.proposal, self._truth, self.level) for name, probe in self._probes.items()
        }
        self._asked = asked
        with self.hold_sync():
            self._answer = self._answer_message()
            self._draw_maps()

    # What may be set ------------------------------------------------------------------------------------------------

    def _check_image_index(self, value: Any) -> int:
        count = len(self._gallery)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < count:
            raise InputError(f"image_index must be 0…{count - 1}, got {value!r}")
        return int(value)

    def _check_proposal(self, value: Any) -> Box:
        return sound_box(value)

    def _check_level(self, value: Any) -> str | None:
        return _one_of("level", value, self._levels, optional=True)

    def _check_focus(self, value: Any) -> str | None:
        return _one_of("focus", value, list(self._detectors))

    def _check_category(self, value: Any) -> str | None:
        self._check_filter(_one_of("category", value, self.names, optional=True), self.size)
        return value

    def _check_size(self, value: Any) -> str | None:
        self._check_filter(self.category, _one_of("size", value, SIZES, optional=True))
        return value

    def _check_filter(self, category: str | None, size: str | None) -> None:
        if not self._gallery.passing(category, size):
            raise InputError(f"no image has an object of class {category or 'any'} and size {size or 'any'}")

    def _check_order(self, value: Any) -> str | None:
        return _one_of("order", value, ORDERS)

    def _check_underlay(self, value: Any) -> str | None:
        return _one_of("underlay", value, TASKS, optional=True)

    def _check_underlay_branch(self, value: Any) -> str | None:
        return _one_of("underlay_branch", value, self._branches, optional=True)

    def _check_opacity(self, value: Any) -> float:
        return _number("opacity", value, 0, 1)

    def _check_magnify(self, value: Any) -> float:
        return _number("magnify", value, 0, 100)

    def _check_layers(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence) or not set(value) <= set(LAYERS):
            raise InputError(f"layers must be some of {', '.join(LAYERS)}; got {value!r}")
        return tuple(layer for layer in LAYERS if layer in value)

    def _check_list_by(self, value: Any) -> str | None:
        return _one_of("list_by", value, ("score", "iou"))

    @property
    def _levels(self) -> list[str]:
        """Levels that every model pools from."""
        pooled = [probe.pooled for probe in self._probes.values()]
        return [level for level in pooled[0] if all(level in of_model for of_model in pooled)]

    @property
    def _branches(self) -> list[str]:
        return list(dict.fromkeys(branch for answer in self._answers.values() for branch in answer.branches))

    # What the page is told ------------------------------------------------------------------------------------------

    def _receive(self, _: Any, content: dict, __: Any) -> None:
        refused = None
        with self.hold_sync():
            try:
                self._set(content.get("set", {}))
                if content.get("go") in (1, -1):
                    self._step(content["go"])
            except ValueError as error:
                refused = str(error)
            # With the rest, not after it: every message costs JupyterLab about as much as the answer costs Python.
            self._request = {"done": content.get("serial"), "refused": refused}

    def _set(self, state: Mapping[str, Any]) -> None:
        for name in STATE:
            if name in state:
                value = state[name]
                setattr(self, name, tuple(value) if isinstance(value, list) else value)

    def _describe(self) -> dict:
        return {
            "palette": plots.PALETTE,
            "names": ["background", *self.names],
            "series": self._series,
            "models": {name: {"levels": list(probe.pooled)} for name, probe in self._probes.items()},
            "levels": self._levels,
            "branches": self._branches,
            "sizes": SIZES,
            "count": len(self._gallery),
            "gradient": [_css_color(value) for value in np.linspace(0, 1, 6)],
        }

    @cached_property
    def _series(self) -> list[dict[str, str]]:
        """Every branch of every model with the name and colour it has in the answers; no two share a colour."""
        series: list[dict[str, str]] = []
        taken = {plots.PALETTE[role] for role in ("proposal", "localization", "truth")}
        for model, answer in self._answers.items():
            *others, used = answer.branches
            for branch in (*others, used):
                alone = len(self._detectors) == 1
                label = branch if alone else model if branch == used else f"{branch} in {model}"
                own = (plots.color_of(label if i == 0 else f"\0{label}", len(series) + i) for i in range(100))
                color = next(color for color in own if color not in taken)
                taken.add(color)
                series.append({"model": model, "branch": branch, "label": label, "color": color})
        return series

    def _send_image(self) -> None:
        boxes = self._truth.boxes.tolist()
        salient = self._truth.salient_boxes
        conflict = self._gallery.conflict(self.focus, self.image_index)
        self._image = {
            "index": self.image_index,
            "position": self._listed.index(self.image_index) + 1 if self.image_index in self._listed else None,
            "listed": len(self._listed),
            "width": self._pixels.shape[2],
            "height": self._pixels.shape[1],
            "url": image_url(self._pixels.permute(1, 2, 0).cpu().numpy()),
            "objects": [
                {"box": box, "name": self.names[label - 1]} for box, label in zip(boxes, self._truth.labels.tolist())
            ],
            "salient": [] if salient is None else salient.tolist(),
            "proposals": {
                name: [
                    [*_rounded_box(box), round(score, 4), round(iou, 4)]
                    for box, score, iou in zip(proposed, scores.tolist(), _best_overlap(proposed, self._truth).tolist())
                ]
                for name, (proposed, scores) in self._proposed.items()
            },
            "conflict": conflict and {
                "name": self.names[conflict.label - 1],
                "by_score": [round(v, 2) for v in conflict.by_score],
                "by_iou": [round(v, 2) for v in conflict.by_iou],
                "score_iou": conflict.score_iou,
                "best_iou": conflict.best_iou,
            },
        }  # fmt: skip

    def _answer_message(self) -> dict:
        nearest = self.answer.nearest
        return {
            "image": self.image_index,
            "proposal": self.proposal,
            "python": self.python,
            "nearest": nearest
            and {
                "index": nearest.index,
                "name": self.names[nearest.label - 1],
                "label": nearest.label,
                "overlap": nearest.overlap,
            },
            "models": {name: self._model_message(answer) for name, answer in self._answers.items()},
        }

    def _model_message(self, answer: ProposalAnswer) -> dict:
        return {
            "assigned": answer.assigned,
            "level": answer.level,
            "branches": {name: _branch_message(branch) for name, branch in answer.branches.items()},
            "levels": {name: _level_message(at_level) for name, at_level in answer.levels.items()},
            "constraint": [
                _shortfall_message(term) for term in (answer.classification_constraint, answer.localization_constraint)
            ],
        }

    def _refresh_line(self) -> None:
        """State that no answer depends on still changes the line that reproduces it."""
        if self._asked is not None:
            self._answer = {**self._answer, "python": self.python}

    def _draw_maps(self) -> None:
        """The underlay of every model; drawn anew only where the object, the level or the branch is another one."""
        nearest = self.answer.nearest
        if self.underlay is None or nearest is None:
            self._drawn, self._maps = None, {}
        else:
            levels = {name: answer.level for name, answer in self._answers.items()}
            wanted = (nearest.index, levels, self.level, self.underlay, self.underlay_branch)
            if wanted != self._drawn:
                self._drawn = wanted
                self._maps = {name: self._draw_map(name, level) for name, level in levels.items()}
        self._refresh_line()

    def _draw_map(self, model: str, level: str) -> dict:
        # With a level chosen its proposals are pooled from it, too; "as assigned" they are pooled by their own size.
        pooling: Pooling = "assigned" if self.level is None else "level"
        probe, answer = self._probes[model], self._answers[model]
        if (model, pooling) not in self._everywhere:
            self._everywhere[model, pooling] = ask_everywhere(probe, pooling)
        everywhere = self._everywhere[model, pooling]
        assert answer.nearest is not None
        grid = Grid.over_image(probe.image_size, cells=96)
        maps = build_maps({level: everywhere[level]}, answer.nearest.box, answer.nearest.label, grid)
        branch = self.underlay_branch if self.underlay_branch in answer.branches else next(reversed(answer.branches))
        values: Tensor = getattr(maps.levels[level][branch], self.underlay)
        top = max(values.max().item(), 1e-6)
        return {
            "url": image_url(colormaps["viridis"](values.numpy() / top)[..., :3]),
            "top": top,
            "branch": branch,
            "level": level,
        }

    # A picture of it ------------------------------------------------------------------------------------------------

    def picture(self) -> Figure:
        """The current state as a matplotlib figure: what a page without a kernel shows."""
        figure = Figure(figsize=(3.6 * len(self._answers) + 4.2, 3.9), layout="constrained")
        axes = figure.subplots(1, len(self._answers) + 1)
        nearest = self.answer.nearest
        truth = None if nearest is None else nearest.box
        for (name, answer), ax in zip(self._answers.items(), axes):
            raw = answer.levels[answer.level].answer
            if raw.classification_points is None or raw.localization_proposals is None:
                plots.show_image(self._pixels, ax)
                if truth is not None:
                    plots.draw_box(truth, plots.PALETTE["truth"], ax, "ground truth", linestyle=(0, (1, 1)))
                plots.draw_box(answer.proposal, plots.PALETTE["proposal"], ax, "P: proposal")
            else:
                plots.displacement(self._pixels, raw, 0, ax, truth, margin=2.0)
                height, width = self._pixels.shape[1:]
                ax.set(xlim=(0, width), ylim=(height, 0))
            ax.set_title(f"{name}, level {answer.level}", fontsize=10)
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, fontsize=8)
        branches = {
            entry["label"]: self._answers[entry["model"]]
            .levels[self._answers[entry["model"]].level]
            .answer.branches[entry["branch"]]
            for entry in self._series
        }
        colors = {entry["label"]: entry["color"] for entry in self._series}
        plots.class_scores(branches, 0, self.names, axes[-1], colors)
        return figure


# What may be explored -----------------------------------------------------------------------------------------------


def _detectors(model: Any) -> dict[str, Detector]:
    models = dict(model) if isinstance(model, Mapping) else {"": model}
    if not models or not all(isinstance(name, str) for name in models):
        raise InputError("model must be a detector, or detectors by name; got a mapping without names or models")
    for name, each in models.items():
        if not isinstance(each, GeneralizedRCNN):
            which = f"model {name!r}" if name else "model"
            raise InputError(f"{which} must be a detector, got {type(each).__name__}")
    detectors = {name: as_detector(each) for name, each in models.items()}
    if not isinstance(model, Mapping):
        detectors = {detector.config.head: detector for detector in detectors.values()}
    counts = {name: detector.config.num_classes for name, detector in detectors.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"models must know the same classes; their numbers are {counts}")
    return detectors


def _one_of(name: str, value: Any, allowed: Sequence[str], optional: bool = False) -> str | None:
    if (optional and value is None) or value in allowed:
        return value
    known = ", ".join(map(repr, allowed))
    raise InputError(f"{name} must be {'None or ' if optional else ''}one of {known}; got {value!r}")


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} must be a number in {low}…{high}, got {value!r}")
    return float(value)


# Messages -----------------------------------------------------------------------------------------------------------


def _branch_message(branch: BranchAnswer) -> dict:
    return {
        "scores": [round(score, 4) for score in branch.scores.tolist()],
        "box": _rounded_box(branch.box),
        "label": branch.label,
        "iou": branch.iou,
    }


def _level_message(at_level: Any) -> dict:
    moved, detection = at_level.displacement, next(reversed(at_level.branches.values()))
    message = {"score": detection.score, "iou": detection.iou, "label": detection.label}
    if moved is None:
        return message
    if moved.points is not None:
        message["points"] = [[round(v, 2) for v in point] for point in moved.points.flatten(0, 1).tolist()]
        message["moved"] = moved.offsets.norm(dim=-1).mean().item()
    if moved.region is not None:
        message["region"] = _rounded_box(moved.region)
        message["shift"] = moved.offset.norm().item()
    return message


def _shortfall_message(term: Shortfall | None) -> dict | None:
    if term is None:
        return None
    return {"value": term.value, "sibling": term.sibling, "own": term.own, "margin": term.margin}


def _rounded_box(box: Tensor) -> Box:
    x1, y1, x2, y2 = (round(v, 2) for v in box.tolist())
    return x1, y1, x2, y2


def _best_overlap(boxes: Tensor, truth: GroundTruth) -> Tensor:
    """[K] IoU of each box with the object it overlaps most; 0 without objects."""
    if len(truth.boxes) == 0:
        return boxes.new_zeros(len(boxes))
    return box_iou(boxes, truth.boxes.to(boxes)).amax(dim=1)


def _css_color(value: float) -> str:
    red, green, blue, _ = colormaps["viridis"](value, bytes=True)
    return f"rgb({red} {green} {blue})"
