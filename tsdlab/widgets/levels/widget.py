"""`explore_levels`: choose a level, a class or a range of sizes, and see what a head's displacements do there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn
from traitlets import Dict, Unicode, observe

from tsdlab.analysis.tables import FollowedTable, follow_dataset
from tsdlab.data.items import as_items
from tsdlab.models.build import as_detector
from tsdlab.widgets.levels.crops import Crops
from tsdlab.widgets.levels.messages import chosen_message, row_message, table_message
from tsdlab.widgets.levels.state import LevelsState, first_columns, whole_size
from tsdlab.widgets.page import compose_script, compose_style
from tsdlab.widgets.protocol import PageWidget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 100  # by default; following their proposals takes a minute or two on a CPU


def explore_levels(
    model: nn.Module, dataset: Any, images: int = IMAGES, explorer: Any = None, **state: Any
) -> LevelsView:
    """Linked views of what a head's displacements do on each level of the pyramid.

    The view follows every proposal that overlaps an object (IoU ≥ 0.5). This takes as long as running the detector on
    the images.

    Args:
        model: a detector whose head moves a region: TSD, Double-Head, or one of your own.
        dataset: the images and objects: a `CocoDataset`, or what `tsdlab.data.items.Items` takes. If the objects have
            a "salient_bbox", the columns of the salient part have values.
        images: how many of its images are used, from the first on.
        explorer: where a selected proposal is opened: anything with the fields `image_index` and `proposal`, such as
            what `tsdlab.explore(model, dataset)` returns. If None, the view makes an explorer when the first proposal
            is selected, and shows it below.
        state: any fields of the view to start from, such as `level="1"`; see `LevelsView`.

    Raises:
        InputError: the model moves nothing or knows other classes, the data cannot be used, no proposal overlaps an
            object, or a field cannot be used; the message says which.
    """
    items = as_items(dataset)
    detector = as_detector(model)
    table = follow_dataset(detector, items, images)

    def make_explorer() -> Any:
        from tsdlab.widgets.explorer.widget import explore

        return explore(model, dataset)

    return LevelsView(table, items, explorer, make_explorer, images, **state)


class LevelsView(LevelsState, PageWidget):
    """The widget that `explore_levels` makes. Its fields can be read, set and observed:

    - `level`: name of a level, or "all".
    - `category`: name of a class, or "all".
    - `size`: (smallest, largest) √area of the proposal in pixels, both included; by default that of all proposals.
    - `x`, `y`: the columns of the scatter plot, names in `tsdlab.analysis.columns.COLUMNS`.
    - `selected`: a row of `table`, or None. Setting it opens that proposal in the explorer.

    A value that is not allowed raises InputError and leaves the state as it was. So does a name that is not a field.

    Args:
        table: the proposals.
        dataset: the data set that they come from.
        explorer: see `explore_levels`.
        make_explorer: makes an explorer; called once, when a proposal is selected and there is no explorer yet.
        images: how many images were searched for proposals; only for the line of Python that shows the view again.
        state: any of the fields.
    """

    _esm = compose_script(Path(__file__).with_name("levels.js"))
    _css = compose_style(Path(__file__).with_name("levels.css"))

    # What the page is told about the table, about the filters and columns, and about the selected row; and the id of
    # the explorer that it shows.
    _fixed = Dict().tag(sync=True)
    _shown = Dict().tag(sync=True)
    _opened = Dict().tag(sync=True)
    _explorer_id = Unicode().tag(sync=True)

    def __init__(
        self,
        table: FollowedTable,
        dataset: Any,
        explorer: Any = None,
        make_explorer: Callable[[], Any] | None = None,
        images: int = IMAGES,
        **state: Any,
    ) -> None:
        self._table, self._explorer, self._make_explorer, self._images = table, explorer, make_explorer, images
        self._crops = Crops(table, dataset)
        self._check_names(state)
        x, y = first_columns(table)
        self._begin(table, size=whole_size(table), x=x, y=y)
        self.assign(state)
        self._fixed = table_message(table)
        self._tell_chosen()
        self._listen()

    @property
    def table(self) -> FollowedTable:
        """All proposals, one row each."""
        return self._table

    @property
    def explorer(self) -> Any:
        """Where a selected proposal is opened; None if there is none yet."""
        return self._explorer

    @property
    def chosen(self) -> np.ndarray:
        """[K] Which rows of `table` pass the filters."""
        return self._table.select(self.level, self.category, self.size)

    @property
    def means(self) -> dict[str, float | None]:
        """Mean of every column over the proposals that pass the filters; None if none of them has a value."""
        return self._table.means(self.chosen)

    @property
    def python(self) -> str:
        """A line of Python that shows the same view again."""
        images = [] if self._images == IMAGES else [f"images={self._images}"]
        return self.call("tsdlab.explore_levels", "model", "dataset", *images)

    def picture(self) -> Figure:
        """The current state as a matplotlib figure: what a page without a kernel shows."""
        from tsdlab.widgets.levels.picture import draw_levels  # imports matplotlib, which takes long

        return draw_levels(self._table, self, self._crops)

    # What follows from a change of the state

    @observe("level", "category", "size", "x", "y")
    def _tell_chosen(self, _: Any = None) -> None:
        if self._fixed:  # else the constructor is still setting fields
            self._shown = chosen_message(self._table, self, self._crops)

    @observe("selected")
    def _open(self, _: Any) -> None:
        row = self.selected
        self._opened = {} if row is None else row_message(self._table, row, self._crops)
        if row is None:
            return
        if self._explorer is None and self._make_explorer is not None:
            self._explorer = self._make_explorer()
            self._explorer_id = self._explorer.model_id
        if self._explorer is not None:
            self._explorer.image_index = int(self._table.images[row])  # first, because it resets the proposal
            self._explorer.proposal = tuple(self._table.followed.proposals[row].tolist())
