"""`explore`: hold a proposal over an image and see what every branch of a detector makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from traitlets import Dict, observe

from tsdlab.analysis.pattern import Pattern
from tsdlab.analysis.proposal import Conflict, GroundTruth, ProposalAnswer
from tsdlab.analysis.sensitivity import Pooling
from tsdlab.errors import InputError
from tsdlab.files import claim_outputs, require_place
from tsdlab.models.steps import TrainingSteps
from tsdlab.ranges import Count, check_value
from tsdlab.widgets.explorer.messages import (
    answer_message,
    image_message,
    maps_message,
    opening_message,
    pattern_message,
    session_message,
)
from tsdlab.widgets.explorer.session import Session
from tsdlab.widgets.explorer.state import ExplorerState
from tsdlab.widgets.page import compose_script, compose_style
from tsdlab.widgets.protocol import PageWidget
from tsdlab.widgets.saved.page import saved_page, write_page
from tsdlab.widgets.saved.stored import store
from tsdlab.widgets.second_stage.packing import Packed
from tsdlab.widgets.state import index

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def explore(
    model: nn.Module | TrainingSteps | Mapping[str, nn.Module | TrainingSteps],
    dataset: Any,
    *,
    names: Sequence[str] | None = None,
    scan: int = 100,
    **state: Any,
) -> Explorer:
    """An interactive view of what detectors make of one proposal.

    Args:
        model: a detector of tsdlab or a Faster R-CNN of torchvision; or several by name, to see them side by side.
            `tsdlab.steps_of("runs/x")` follows a run over its training, with a slider over the steps that it has kept.
        dataset: a `CocoDataset`, a data set of torchvision, a list of images, one image, …: see
            `tsdlab.data.items.Items`.
        names: names of the model's classes 1…C; by default the model's own, or the data set's categories. Classes of
            the data are matched to those of the model by name.
        scan: how many images the model is asked about at most to sort them by disagreement.
        state: any fields of the explorer to start from, such as `image_index=3, level="1"`; see `Explorer`.

    Raises:
        InputError: model, dataset or a field cannot be used; the message says which and why.
    """
    return Explorer(model, dataset, names=names, scan=scan, **state)


# Seconds for which a request of the page may ask about images, to sort them. The page then asks to go on.
_SCAN = 0.5


class Explorer(ExplorerState, PageWidget):
    """The widget that `explore` makes. Its fields can be read, set and observed:

    - `image_index`: 0…len(dataset) − 1. Opening an image puts the proposal on a box shifted off an object (IoU 0.55)
      about which the branches disagree most (`tsdlab.analysis.shifted`); in an image without objects, on the RPN's best
      proposal.
    - `proposal`: (x1, y1, x2, y2) in pixels. It may lie outside the image, and its area may be zero.
    - `level`: the level that P is pooled from, such as "1"; None is the level that is assigned to its size.
    - `focus`: name of the model whose RPN proposals and levels are listed.
    - `step`: of a model that is followed over its training (`tsdlab.steps_of`), the step whose weights it has; at first
      the last one. The proposal stays where it is.
    - `category`, `size`: show only images with an object of this class and this size; None is any. The size "small" is
      below 32² px², "medium" below 96² px², as in COCO; the thirds are those of this data set's objects.
    - `order`: "file", or "disagreement". The latter asks the model in focus about the first `scan` images that pass
      the filter; the images in which its score chooses a much worse proposal than the best one come first
      (`tsdlab.analysis.proposal.Conflict`), and are opened on the proposal that the score chooses. From Python, this
      waits until all of them were asked about; the page shows what is found as it is found.
    - `underlay`: None, "classification" or "localization": the sensitivity map of that task under the boxes, for the
      nearest object and the level in use. It is that of the branch `underlay_branch`; None is the branch that
      inference uses. `opacity` is 0…1.
    - `arrows`: "summary" draws one arrow for each task, "all" one for every bin that classification reads, and "own"
      those without the pattern that is common to all proposals of the data (`pattern`).
    - `magnify`: factor by which arrows are drawn longer than they are, 0…100.
    - `layers`: what is drawn over the image: some of "truth", "salient", "classification", "localization", "decoded";
      by default all but the last.
    - `list_by`: the order of the list of RPN proposals, "score" or "iou".

    A value that is not allowed raises InputError and leaves the state as it was. So does a name that is not a field.
    An image or weights that cannot be read leave the state as it was, too.
    """

    _esm = compose_script(Path(__file__).with_name("explorer.js"))
    _css = compose_style(Path(__file__).with_name("explorer.css"))

    # What was asked for when the explorer was made, until it is done.
    _asked: Mapping[str, Any] | None = None

    # What the page shows until the first image is open.
    _opening = Dict().tag(sync=True)

    # What the page is told about the session, the image, the proposal, and the sensitivity maps by model, and
    # the displacement that all proposals have in common.
    _fixed = Dict().tag(sync=True)
    _image = Dict().tag(sync=True)
    _answer = Dict().tag(sync=True)
    _maps = Dict().tag(sync=True)
    _pattern = Dict().tag(sync=True)

    def __init__(
        self,
        model: nn.Module | TrainingSteps | Mapping[str, nn.Module | TrainingSteps],
        dataset: Any,
        *,
        names: Sequence[str] | None = None,
        scan: int = 100,
        **state: Any,
    ) -> None:
        session = Session(model, dataset, names, scan)
        self._opened = session
        self._listed = list(range(len(session.gallery)))
        self._told: dict[str, ProposalAnswer] | None = None
        self._page_asks = False  # while a request of the page is at work
        self._page_answers = False  # while a page sets what it has answered by itself
        self._left_alone = False  # since the images are being sorted, nobody has asked for anything else
        self._told_maps: tuple | None = None
        self._check_names(state)
        usual = {"focus": session.models[-1], "step": session.step}
        checked = ExplorerState()  # what cannot be used is refused now, though it is set later
        checked._begin(session, **usual)
        checked.assign(state)
        self._begin(session, **usual)
        self._opening = opening_message(session, checked)
        self._listen()
        self._asked = state

    @property
    def _session(self) -> Session:
        self._ready()
        return self._opened

    def _ready(self) -> None:
        """Open the first image, when anything of it is asked for: the page can be seen before that."""
        state, self._asked = self._asked, None
        if state is None:
            return
        try:
            with self.hold_sync():
                if self.image_index == state.get("image_index", 0):
                    self._open()
                else:
                    self.image_index = state["image_index"]
                self._fixed = session_message(self._session)
                self.assign(state)
        except BaseException as error:  # or Ctrl-C: to be done when it is asked for again
            self._asked = state
            self.send({"failed": str(error) or type(error).__name__})
            raise

    @property
    def answers(self) -> dict[str, ProposalAnswer]:
        """What every model says about the proposal, by the model's name."""
        return dict(self._session.image.answers)

    @property
    def answer(self) -> ProposalAnswer:
        """What the model in focus says: `answer.tsd.scores`, `answer.levels["1"].regions`, …"""
        return self._session.image.answers[self.focus]

    @property
    def truth(self) -> GroundTruth:
        """The objects of the image."""
        return self._session.image.truth

    @property
    def names(self) -> list[str]:
        """Names of the classes 1…C."""
        return self._session.gallery.names

    @property
    def python(self) -> str:
        """A line of Python that shows the same view again."""
        return self.call("tsdlab.explore", *self._session.arguments)

    @property
    def pattern(self) -> dict[str, dict[str, Pattern]]:
        """Mean displacement of every bin over the data, by model and task; measured when it is first asked for."""
        return self._session.pattern(self._tell_progress)

    def next(self) -> None:
        """Open the next image of the list; after the last one comes the first."""
        self._go(1)

    def previous(self) -> None:
        """Open the previous image of the list; before the first one comes the last."""
        self._go(-1)

    def picture(self) -> Figure:
        """The current state as a matplotlib figure: what a page without a kernel shows."""
        from tsdlab.widgets.explorer.picture import draw_explorer  # imports matplotlib, which takes long

        return draw_explorer(self._session, self, self._told_maps or ())

    def save(
        self, path: str | Path, images: int | Sequence[int] = 12, *, overwrite: bool = False, source: str = ""
    ) -> None:
        """Write the explorer as one HTML file that any browser opens, without Python and without a network.

        The page opens as the explorer stands. It shows the same, except that it cannot filter or sort the images.

        Args:
            path: the file; its folder must exist.
            images: how many images it holds: the open one and those that follow it in the list. Or their indices.
            overwrite: whether a file of this name may be replaced.
            source: a text at the end of the page, to say where models and images come from.

        Raises:
            InputError: `images` is out of range, or a page cannot compute what a model answers: its head is of another
                kind than sibling, d_head and tsd, or head or image are too large.
            ExistingFileError: there is such a file, and `overwrite` is False.
            MissingFileError: the folder does not exist.
        """
        path = Path(path)
        require_place(path)
        claim_outputs([path], overwrite=overwrite)
        write_page(path, self.page(images, source), overwrite)

    def page(self, images: int | Sequence[int] = 12, source: str = "") -> str:
        """What `save` writes."""
        return saved_page(store(self._session, self, self._chosen(images)), source)

    def _chosen(self, images: int | Sequence[int]) -> list[int]:
        """Indices of the images that a saved page holds."""
        if isinstance(images, Sequence):
            check = index(lambda _: len(self._session.gallery))
            chosen = list(dict.fromkeys(check("images", entry, None) for entry in images))
            if not chosen:
                raise InputError("images must name at least one image")
            return [entry for entry in chosen if entry is not None]
        check_value("images", images, Count)
        here = self._listed.index(self.image_index) if self.image_index in self._listed else 0
        return [*self._listed[here:], *self._listed[:here]][:images]

    def _go(self, by: int) -> None:
        here = self._listed.index(self.image_index) if self.image_index in self._listed else -max(by, 0)
        self.image_index = self._listed[(here + by) % len(self._listed)]

    def _receive(self, widget: Any, content: dict, buffers: Any) -> None:
        if content.get("need") == "answer":
            self._ready()
            return
        if content.get("need") == "scan":
            self._scan_on()
            return
        if "need" in content:
            self._send_part(content["need"], content.get("index"), content.get("step"))
            return
        self._page_asks, self._page_answers, self._left_alone = True, bool(content.get("quiet")), False
        try:
            super()._receive(widget, content, buffers)
        finally:
            self._page_asks = self._page_answers = False

    def _send_part(self, part: str, index: int | None, step: int | None) -> None:
        """Send the page what it needs to answer by itself. It is a message, so that no notebook stores it."""
        if step != self.step or (part == "pyramid" and index != self._session.image.index):
            # The page has gone on to another image or step, and asks about that one.
            self.send({"part": part, "index": index, "step": step, "about": None})
            return
        every = self._session.heads if part == "heads" else self._session.image.pyramids
        packed = {name: each for name, each in every.items() if isinstance(each, Packed)}
        if len(packed) == len(every):
            about = [[name, each.about] for name, each in packed.items()]
            self.send(
                {"part": part, "index": index, "step": step, "about": about}, [each.values for each in packed.values()]
            )

    # What follows from a change of the state

    @observe("image_index")
    def _open(self, change: Any = None) -> None:
        try:
            self._session.open(self.image_index)
        except BaseException:  # a file that cannot be read, or Ctrl-C: the image that is open stays
            if change is not None and self._fixed:
                proposal = self.proposal
                self.image_index = change.old
                self.proposal = proposal
            raise
        with self.hold_sync():
            self._tell_image()
            self._put_proposal()
            self._ask()  # also if the new image's first proposal is the same box

    def _put_proposal(self) -> None:
        """Put the proposal where the image is opened."""
        conflict = self._conflict
        self.proposal = self._session.image.first_proposal if conflict is None else conflict.by_score.proposal

    @observe("step")
    def _follow(self, _: Any = None) -> None:
        if self.step == self._session.step:
            return
        try:
            self._session.choose(self.step)
        except BaseException:  # weights that cannot be read, or Ctrl-C
            self.step = self._session.step
            raise
        with self.hold_sync():
            self._tell_image()
            self._ask()
            self._pattern = {}
            self._tell_pattern()

    @observe("proposal", "level")
    def _ask(self, _: Any = None) -> None:
        image = self._session.image
        image.hold(self.proposal, self.level)
        with self.hold_sync():
            if not self._page_answers and self._told is not image.answers:
                self._told = image.answers
                self._answer = answer_message(image, self.names)
            self._tell_maps()

    @observe("category", "size", "order")
    def _filter(self, _: Any) -> None:
        self._list_images()
        self._left_alone = self.order == "disagreement"
        if self._left_alone or self.image_index not in self._listed:
            self._open_first()
        self._tell_image()

    @observe("focus")
    def _focus(self, _: Any) -> None:
        if self.order == "disagreement":
            self._list_images()
            self._tell_image()

    def _list_images(self) -> None:
        """List the images that pass the filters. A request of the page ends before all of them are sorted."""
        passing = self._session.gallery.passing(self.category, self.size)
        self._listed = passing
        if self.order == "disagreement":
            scan = self._session.scan
            scan.go_on(self.focus, passing, _SCAN if self._page_asks else math.inf, self._tell_progress)
            self._listed = scan.sort(self.focus, passing)
            self._tell_progress(*scan.progress(self.focus, passing), go_on=self._page_asks)

    def _scan_on(self) -> None:
        """Go on with sorting the images, as the page asks. At the end, open the first one if it was left alone."""
        if self.order != "disagreement":
            return
        self._page_asks = True
        try:
            with self.hold_sync():
                self._list_images()
                done, total = self._session.scan.progress(self.focus, self._listed)
                if done == total:
                    if self._left_alone:
                        self._open_first()
                    self._tell_image()
        finally:
            self._page_asks = False

    def _open_first(self) -> None:
        """Open the first image of the list, with the object that it is listed for."""
        if self.image_index == self._listed[0]:
            self._put_proposal()
        else:
            self.image_index = self._listed[0]

    def _tell_progress(self, done: int, total: int, go_on: bool = False) -> None:
        """Tell the page how many images the model was asked about, and whether to ask for the next ones."""
        self.send({"progress": [done, total], "go_on": go_on and done < total})

    @property
    def _conflict(self) -> Conflict | None:
        """What the open image is listed for, in the order by disagreement."""
        return self._session.scan.conflict(self.focus, self.image_index) if self.order == "disagreement" else None

    def _tell_image(self) -> None:
        self._image = image_message(self._session, self._listed, self._conflict)

    @observe("arrows")
    def _tell_pattern(self, _: Any = None) -> None:
        if self.arrows == "own" and not self._pattern:
            self._pattern = pattern_message(self.pattern)
            self._tell_progress(1, 1)

    @observe("underlay", "underlay_branch")
    def _tell_maps(self, _: Any = None) -> None:
        """Tell the sensitivity maps of every model, if the object, the way of pooling or the branch has changed."""
        maps = {}
        if self.underlay is not None:
            # A level that was chosen is also the one that the map's own proposals are pooled from.
            pooling: Pooling = "assigned" if self.level is None else "level"
            maps = {
                name: self._session.image.sensitivity_maps(name, answer, self.underlay_branch, pooling)
                for name, answer in self._session.image.answers.items()
            }
        if tuple(maps.values()) != self._told_maps:
            self._told_maps = tuple(maps.values())
            self._maps = {name: maps_message(found) for name, found in maps.items() if found is not None}
