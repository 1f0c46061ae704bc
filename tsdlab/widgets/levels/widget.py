"""`explore_levels`: pick a level, a class or a range of sizes, and see where TSD's displacements lead there.

All state is in traits, so what the mouse does a script can do as well. Numbers come from `levels_table`; this file
turns them into what the page draws, and into a picture where there is no page.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from traitlets import Dict, TraitType, Unicode, observe, validate

from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.displacement import ALL_LEVELS
from tsdlab.analysis.tables import (
    ALL_CATEGORIES,
    FollowedTable,
    check_column,
    check_size,
    even_edges,
    follow_dataset,
    shares,
)
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import InputError
from tsdlab.evaluation import model_labels
from tsdlab.figures import plots
from tsdlab.models.build import as_detector
from tsdlab.widgets.pictured import PicturedWidget, image_url

# Traits that a view can be made with; every one is explained in `LevelsView`.
STATE = ("level", "category", "size", "x", "y", "selected")

# Images that are followed if nobody says how many: a minute or two on a CPU.
IMAGES = 100
# More points neither show more nor stay quick in a page; see `FollowedTable.sample` for which are drawn.
POINTS = 2000
_OTHERS = 500  # points drawn in grey of what the filters leave out
_EXAMPLES = 6
_CROP = 192  # longest side in pixels that a crop is sent with
_SIZE_BINS = 32


def explore_levels(
    model: GeneralizedRCNN, dataset: CocoDataset, images: int = IMAGES, explorer: Any = None, **state: Any
) -> LevelsView:
    """Linked views of what TSD's displacements do on each level of the pyramid.

    Follows every proposal that overlaps an object (IoU ≥ 0.5), which takes as long as detecting the images does.

    Args:
        model: a detector whose head moves its regions: TSD with one displacement per proposal for localization.
        dataset: whose images and objects; with a "salient_bbox" the columns of the salient part have values.
        images: how many of its images, from the first on.
        explorer: where a chosen proposal is opened: anything with traits `image_index` and `proposal`, such as what
            `tsdlab.explore(model, dataset)` returns. Without one the view makes its own when it is first needed, and
            shows it below.
        state: any of the view's traits to start from, such as `level="1"`; see `LevelsView`.

    Raises:
        ValueError: the model moves nothing or knows other classes, the data is no `CocoDataset`, no proposal overlaps
            an object, or a trait cannot be used; says which.
    """
    if not isinstance(dataset, CocoDataset):
        raise InputError(f"dataset must be a CocoDataset, got a {type(dataset).__name__}")
    model_labels(as_detector(model), dataset)  # now, not when the first point is clicked
    table = follow_dataset(model, dataset, images)

    def own_explorer() -> Any:
        from tsdlab.widgets.explorer.widget import explore

        return explore(model, dataset)

    return LevelsView(table, dataset, explorer, own_explorer, images, **state)


class LevelsView(PicturedWidget):
    """The widget that `explore_levels` makes. Traits that can be read, set and observed:

    - `level`: name of a level, or "all".
    - `category`: name of a class, or "all".
    - `size`: (smallest, largest) √area of the proposal in pixels, both included; by default that of all proposals.
    - `x`, `y`: names of the scatter's columns, out of `tsdlab.analysis.columns.COLUMNS`.
    - `selected`: a row of `table`, or None; setting it opens that proposal in the explorer.

    A value that cannot be raises ValueError and leaves the state as it was. `table` holds all rows, `chosen` is the
    mask of those that pass the filters, `means` are their numbers.

    Args:
        table: the proposals.
        dataset: the data set they are of.
        explorer: as in `explore_levels`.
        own_explorer: makes the explorer that is shown below; called once, when a proposal is selected and there is
            none.
        images: how many images the proposals were looked for in; only for the line that reproduces the view.
        state: any of the traits.
    """

    _esm = Path(__file__).with_name("levels.js")
    _css = Path(__file__).with_name("levels.css")

    # Of no kind of their own: the validators below say what is wrong, and as ValueErrors.
    level: Any = TraitType(ALL_LEVELS).tag(sync=True)
    category: Any = TraitType(ALL_CATEGORIES).tag(sync=True)
    size: Any = TraitType((0.0, math.inf)).tag(sync=True)
    x: Any = TraitType("classification_offset").tag(sync=True)
    y: Any = TraitType("localization_offset").tag(sync=True)
    selected: Any = TraitType(None, allow_none=True).tag(sync=True)

    # What the page draws: of the table, of the filters and columns, of the selected row; and the explorer's model.
    _fixed = Dict().tag(sync=True)
    _shown = Dict().tag(sync=True)
    _opened = Dict().tag(sync=True)
    _explorer_id = Unicode().tag(sync=True)

    def __init__(
        self,
        table: FollowedTable,
        dataset: CocoDataset,
        explorer: Any = None,
        own_explorer: Callable[[], Any] | None = None,
        images: int = IMAGES,
        **state: Any,
    ) -> None:
        unknown = [name for name in state if name not in STATE]
        if unknown:
            raise InputError(f"the view has no {', '.join(unknown)}; it has {', '.join(STATE)}")
        self.table, self.explorer = table, explorer
        self._dataset, self._own_explorer, self._asked_images = dataset, own_explorer, images
        self._images: dict[int, tuple[Tensor, dict[str, Any]]] = {}
        self._whole = float(np.floor(table.sizes.min())), float(np.ceil(table.sizes.max()))
        super().__init__(size=self._whole)
        with self.hold_sync():
            for name, value in state.items():
                setattr(self, name, value)
            self._fixed = self._describe()
            self._refresh()

    @property
    def chosen(self) -> np.ndarray:
        """[K] which rows of `table` pass the filters."""
        return self.table.select(self.level, self.category, self.size)

    @property
    def means(self) -> dict[str, float | None]:
        """Mean of every column over the proposals that pass the filters; None where none has a value."""
        return self.table.means(self.chosen)

    @property
    def python(self) -> str:
        """A line of Python that shows the same again."""
        usual = {"images": IMAGES} | {name: self.trait_defaults(name) for name in STATE} | {"size": self._whole}
        values = {"images": self._asked_images} | {name: getattr(self, name) for name in STATE}
        changed = [f"{name}={value!r}" for name, value in values.items() if value != usual[name]]
        return f"tsdlab.explore_levels({', '.join(['model', 'dataset', *changed])})"

    @observe("level", "category", "size", "x", "y")
    def _on_filter(self, _: Any) -> None:
        if self._fixed:  # else the constructor is still setting its state
            self._refresh()

    @observe("selected")
    def _on_selected(self, _: Any) -> None:
        with self.hold_sync():
            self._opened = {} if self.selected is None else self._crop_message(self.selected)
            if self._fixed:
                self._shown = {**self._shown, "python": self.python}
        if self.selected is not None:
            self._open_explorer(self.selected)

    def _open_explorer(self, row: int) -> None:
        if self.explorer is None and self._own_explorer is not None:
            self.explorer = self._own_explorer()
            self._explorer_id = self.explorer.model_id
        if self.explorer is not None:
            self.explorer.image_index = int(self.table.images[row])  # first: it resets the proposal
            self.explorer.proposal = tuple(self.table.followed.proposals[row].tolist())

    @validate(*STATE)
    def _validate(self, proposed: Any) -> Any:
        return getattr(self, f"_check_{proposed['trait'].name}")(proposed["value"])

    def _check_level(self, value: Any) -> str:
        return self.table.check_level(value)

    def _check_category(self, value: Any) -> str:
        return self.table.check_category(value)

    def _check_size(self, value: Any) -> tuple[float, float]:
        low, high = check_size(value)
        # An open end is as far as the proposals go: the page's JSON knows no infinity.
        return (low if math.isfinite(low) else self._whole[0]), (high if math.isfinite(high) else self._whole[1])

    def _check_x(self, value: Any) -> str:
        return check_column(value)

    def _check_y(self, value: Any) -> str:
        return check_column(value)

    def _check_selected(self, value: Any) -> int | None:
        return self.table.check_row(value)

    # What the page draws --------------------------------------------------------------------------------------------

    def _describe(self) -> dict:
        table = self.table
        everything = np.ones(len(table), dtype=bool)
        return {
            "columns": [
                {
                    "name": name,
                    "explained": column.explanation,
                    **{key: getattr(column, key) for key in ("title", "unit", "role")},
                }
                for name, column in COLUMNS.items()
                if np.isfinite(table.column(name)).any()
            ],
            "levels": table.levels,
            "categories": table.categories,
            "size": self._whole,
            "total": len(table),
            "images": len(np.unique(table.images)),
            "palette": {role: plots.PALETTE[role] for role in ("proposal", "classification", "localization", "truth")},
            "means": table.means(everything),
            "field": _rounded(table.field(everything)),
        }

    def _refresh(self) -> None:
        chosen = self.chosen
        x, y = self.table.column(self.x), self.table.column(self.y)
        drawable = np.isfinite(x) & np.isfinite(y)
        self._shown = {
            "count": int(chosen.sum()),
            "drawable": int((chosen & drawable).sum()),
            "points": self._points(self.table.sample(chosen & drawable, POINTS), x, y),
            "others": self._points(self.table.sample(~chosen & drawable, _OTHERS), x, y),
            "x": self._distributions(self.x),
            "y": self._distributions(self.y),
            "sizes": self._size_message(),
            "levels": self._counts("level", self.table.levels),
            "categories": self._counts("category", self.table.categories),
            "means": self.means,
            "field": _rounded(self.table.field(chosen)),
            "shift": _rounded(self.table.shift(chosen)),
            "examples": [self._crop_message(row) for row in self.table.examples(chosen, self.x, _EXAMPLES)],
            "python": self.python,
        }

    def _points(self, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[list[float]]:
        """[row, x, y, level's place, label, image] of every row."""
        followed = self.table.followed
        levels, labels = followed.levels.numpy()[rows], followed.labels.numpy()[rows]
        columns = rows, x[rows].round(5), y[rows].round(5), levels, labels, self.table.images[rows]
        return [list(point) for point in zip(*(column.tolist() for column in columns))]

    def _distributions(self, name: str) -> dict:
        """Level by level how a column is distributed: over all proposals, and over those of this class and size."""
        values = self.table.column(name)
        edges = even_edges(values)
        rows = []
        for level in self.table.levels:
            all_of_it, chosen = self.table.select(level), self.table.select(level, self.category, self.size)
            rows.append(
                {
                    "count": int(chosen.sum()),
                    "mean": self.table.means(chosen)[name],
                    "all": shares(values[all_of_it], edges).round(4).tolist(),
                    "chosen": shares(values[chosen], edges).round(4).tolist(),
                }
            )
        return {"edges": [edges[0], edges[-1]], "levels": rows}

    def _size_message(self) -> dict:
        """How many proposals have which size: all of them, and those of this level and class."""
        edges = np.linspace(*self._whole, _SIZE_BINS + 1)
        matching = self.table.select(self.level, self.category)
        counts = (np.histogram(sizes, edges)[0] for sizes in (self.table.sizes, self.table.sizes[matching]))
        return dict(zip(("all", "chosen"), (count.tolist() for count in counts)))

    def _counts(self, filter: str, names: tuple[str, ...]) -> list[int]:
        """How many proposals there would be with this filter set to each of `names`, the other filters as they are."""
        state = {"level": self.level, "category": self.category, "size": self.size}
        return [int(self.table.select(**{**state, filter: name}).sum()) for name in ("all", *names)]

    def _crop_message(self, row: int) -> dict:
        """A row with the image around it, and in that image's pixels what is drawn over it."""
        table = self.table
        image, target = self._image(row)
        proposal, truth = table.followed.proposals[row], target["boxes"][int(table.followed.objects[row])]
        x, y, side = view = _square_around(proposal.numpy(), truth.numpy(), table.moved[row], table.points[row])
        height, width = image.shape[1:]
        left, top = max(math.floor(x), 0), max(math.floor(y), 0)
        right, bottom = min(math.ceil(x + side), width), min(math.ceil(y + side), height)
        return {
            "row": int(row),
            "image": int(table.images[row]),
            "level": table.levels[table.followed.levels[row]],
            "category": table.categories[table.followed.labels[row] - 1],
            "values": {name: _rounded(values[row]) for name, values in table.followed.columns.items()},
            "view": _rounded(np.array(view)),
            "url": image_url(image[:, top:bottom, left:right].permute(1, 2, 0).cpu().numpy(), _CROP),
            "part": [left, top, right - left, bottom - top],
            "proposal": _rounded(proposal),
            "truth": _rounded(truth),
            "moved": _rounded(table.moved[row]),
            "points": _rounded(table.points[row].reshape(-1, 2)),
        }

    def _image(self, row: int) -> tuple[Tensor, dict[str, Any]]:
        """Image and target of a row; the last few are kept, as examples often stay while a filter is dragged."""
        index = int(self.table.images[row])
        item = self._images.pop(index, None) or self._dataset[index]
        self._images[index] = item  # a dict keeps its order, so the first one is the longest unused
        if len(self._images) > 2 * _EXAMPLES:
            del self._images[next(iter(self._images))]
        return item

    # A picture of it ------------------------------------------------------------------------------------------------

    def picture(self) -> Figure:
        """The current state as a matplotlib figure: what a page without a kernel shows."""
        chosen = self.chosen
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        panels = ["scatter", "distribution", "field"]
        axes = figure.subplot_mosaic([[*panels, "0", "1"], [*panels, "2", "3"]], width_ratios=(1.5, 1.3, 1.2, 0.7, 0.7))
        figure.suptitle(f"{self._caption(int(chosen.sum()))}; examples from small to large x", fontsize=11)
        self._draw_scatter(axes["scatter"], chosen)
        self._draw_distributions(axes["distribution"])
        self._draw_field(axes["field"], chosen)
        rows = self.table.examples(chosen, self.x, 4)
        for i in range(4):
            if i < len(rows):
                self._draw_crop(axes[str(i)], int(rows[i]))
            else:
                axes[str(i)].set_axis_off()
        return figure

    def _caption(self, count: int) -> str:
        low, high = self.size
        level = "all levels" if self.level == ALL_LEVELS else f"level {self.level}"
        category = "all classes" if self.category == ALL_CATEGORIES else self.category
        proposals = f"{count} of {len(self.table)} proposals" if count else "no proposal here"
        return f"{level}, {category}, √area {low:.0f}…{high:.0f} px: {proposals}"

    def _draw_scatter(self, ax: Axes, chosen: np.ndarray) -> None:
        x, y = self.table.column(self.x), self.table.column(self.y)
        ax.plot(x[~chosen], y[~chosen], ".", color="0.85", markersize=3)
        ax.plot(x[chosen], y[chosen], ".", color="0.25", markersize=4, alpha=0.6)
        if self.selected is not None:
            ax.plot(x[self.selected], y[self.selected], "o", markersize=10, markerfacecolor="none", color="black")
        ax.set(xlabel=COLUMNS[self.x].label, ylabel=COLUMNS[self.y].label)
        plots.plain_axes(ax)

    def _draw_distributions(self, ax: Axes) -> None:
        values, color = self.table.column(self.x), plots.PALETTE[COLUMNS[self.x].role]
        edges = even_edges(values)
        for i, level in enumerate(reversed(self.table.levels)):
            everything = shares(values[self.table.select(level)], edges)
            chosen = shares(values[self.table.select(level, self.category, self.size)], edges)
            height = max(everything.max(), chosen.max(), 1e-9) / 0.85
            ax.stairs(i + everything / height, edges, baseline=i, color="0.85", fill=True)
            if chosen.any():
                ax.stairs(i + chosen / height, edges, baseline=i, color=color)
        ax.set(yticks=range(len(self.table.levels)), xlabel=COLUMNS[self.x].label)
        ax.set_yticklabels([f"level {level}" for level in reversed(self.table.levels)], va="bottom")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        plots.plain_axes(ax)

    def _draw_field(self, ax: Axes, chosen: np.ndarray) -> None:
        field, shift = self.table.field(chosen), self.table.shift(chosen)
        ax.set(xlim=(-0.3, 1.3), ylim=(1.3, -0.3), aspect="equal", xticks=[], yticks=[])
        ax.set_title("mean ΔC and ΔR on P", fontsize=10)
        ax.spines[:].set_visible(False)
        unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
        plots.draw_box(unit, plots.PALETTE["proposal"], ax)
        if field is not None and shift is not None:
            dx, dy = shift.tolist()
            plots.draw_box(torch.tensor([dx, dy, 1 + dx, 1 + dy]), plots.PALETTE["localization"], ax, linestyle="--")
            plots.bin_arrows(unit, torch.from_numpy(field), plots.PALETTE["classification"], ax)

    def _draw_crop(self, ax: Axes, row: int) -> None:
        image, target = self._image(row)
        proposal, truth = self.table.followed.proposals[row], target["boxes"][int(self.table.followed.objects[row])]
        plots.show_image(image, ax)
        plots.draw_box(truth, plots.PALETTE["truth"], ax, linestyle=(0, (1, 1)))
        plots.draw_box(proposal, plots.PALETTE["proposal"], ax)
        plots.draw_box(torch.from_numpy(self.table.moved[row]), plots.PALETTE["localization"], ax, linestyle="--")
        points = self.table.points[row].reshape(-1, 2)
        ax.plot(*points.T, "o", color=plots.PALETTE["classification"], markersize=2.5, markeredgecolor="white",
                markeredgewidth=0.3)  # fmt: skip
        x, y, side = _square_around(proposal.numpy(), truth.numpy(), self.table.moved[row], points)
        ax.set(xlim=(x, x + side), ylim=(y + side, y))
        label = self.table.categories[int(self.table.followed.labels[row]) - 1]
        ax.set_title(f"{label}, {self.table.column(self.x)[row]:.2g}", fontsize=8)


def _square_around(*things: np.ndarray) -> tuple[float, float, float]:
    """(x, y, side) of a square with some room around boxes [4] and points [..., 2]."""
    places = np.concatenate([thing.reshape(-1, 2) for thing in things])
    low, high = places.min(axis=0), places.max(axis=0)
    side = 1.16 * float((high - low).max())
    x, y = ((low + high - side) / 2).tolist()
    return x, y, side


def _rounded(values: Any) -> Any:
    """Numbers for a message, as nested lists; NaN, which JSON does not know, is None."""
    if values is None:
        return None
    rounded = np.asarray(values, dtype=np.float64).round(4)
    return rounded.tolist() if np.isfinite(rounded).all() else None
