"""A picture of an explorer, for pages without a kernel: it says what the live page says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Annotation

from tsdlab.analysis.proposal import ProposalAnswer
from tsdlab.figures import plots
from tsdlab.figures.names import drawn, find_fonts
from tsdlab.figures.peaks import mark_peaks, write_below
from tsdlab.figures.style import PALETTE, clear_to
from tsdlab.ops.sampling import bin_centres
from tsdlab.widgets.explorer.headline import TASKS, Run, find_headline
from tsdlab.widgets.explorer.messages import answer_message
from tsdlab.widgets.explorer.series import Series, list_series
from tsdlab.widgets.explorer.session import ObjectMaps, Session
from tsdlab.widgets.explorer.state import ExplorerState

_INCH = 72  # units of the layout are points
_SIDE, _TABLE, _GAP, _LINE = 300, 400, 14, 14
_INK, _FAINT, _TRACK = "#222222", "#666666", "#eeeeee"
_SYMBOLS = dict(zip(TASKS, ("|ΔC|", "|ΔR|")))
_TOPS = (0.1, 0.25, 0.5, 1, 2, 5, 10)  # ends that the scale of the bars may have, as in level_table.js
_MATTERS, _MOST = 0.01, 8  # as in class_scores.js
_BLUE = PALETTE["classification"]
# Scores are blue, because they are the classification's; branches differ as their lines do.
_BARS: dict[str, dict[str, Any]] = {
    "solid": {"facecolor": _BLUE},
    "dashed": {"facecolor": "white", "hatch": "/////"},
    "dotted": {"facecolor": "white", "hatch": "....."},
    "dashdot": {"facecolor": "white"},
}


def draw_explorer(session: Session, state: ExplorerState, maps: Sequence[ObjectMaps | None]) -> Figure:
    """The headline, the proposal over the image once for each model, the levels as a table, and the class scores.

    Args:
        session: what was asked.
        state: which arrows, layers and map are drawn.
        maps: of each model, the sensitivity maps of the object; empty if no map is shown.
    """
    return _Picture(session, state, maps).figure


class _Picture:
    def __init__(self, session: Session, state: ExplorerState, maps: Sequence[ObjectMaps | None]) -> None:
        self.image, self.state = session.image, state
        self.maps = dict(zip(session.models, maps))
        self.pattern = session.pattern(lambda done, total: None) if state.arrows == "own" else {}
        self.names = drawn(["background", *session.gallery.names])
        self.series = list_series(session)
        self.message = answer_message(self.image, self.names[1:])
        several = len(self.image.answers) > 1
        height, width = self.image.pixels.shape[1:]
        tall = min(_SIDE * height / width, 1.5 * _SIDE)
        shown_models = dict(zip(drawn(self.message["models"]), self.message["models"].values()))
        said = {**self.message, "models": shown_models}
        lines = find_headline(self.names, {"width": width, "height": height}, said)
        rows = [(level, name) for level in self._levels() for name in self.message["models"] if level in self._of(name)]
        row = 46 if several else 58
        shown, rest = self._classes()
        self.width = _GAP + len(self.image.answers) * (_SIDE + _GAP) + _TABLE + _GAP
        head = _GAP + 19 * len(lines)
        table = 3 * _LINE + row * len(rows)
        scores = (2 + len(shown) * len(self.series) + (1 if rest else 0)) * _LINE
        body = max(tall + 2 * _LINE, table + scores)
        self.height = head + body + 4 * _LINE
        self.figure = Figure(figsize=(self.width / _INCH, self.height / _INCH))
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set(xlim=(0, self.width), ylim=(self.height, 0))
        self.ax.axis("off")
        self._write_headline(lines)
        for i, (name, answer) in enumerate(self.image.answers.items()):
            self._draw_stage(name, answer, _GAP + i * (_SIDE + _GAP), head, tall)
        right = self.width - _TABLE - _GAP
        bottom = self._draw_levels(rows, row, right, head, several)
        self._draw_scores(shown, rest, right, bottom + _LINE)
        self._draw_key(head + body + _LINE)
        find_fonts(self.figure)

    def _of(self, name: str) -> Mapping[str, Any]:
        return self.message["models"][name]["levels"]

    def _levels(self) -> list[str]:
        return list(dict.fromkeys(level for own in self.message["models"].values() for level in own["levels"]))

    def _classes(self) -> tuple[list[int], list[int]]:
        """The labels that are shown, the object's first and the background last, and the others."""
        models, nearest = self.message["models"], self.message["nearest"]
        truth = None if nearest is None else nearest["label"]
        scores = [models[each.model]["branches"][each.branch]["scores"] for each in self.series]
        best = [max(of_class) for of_class in zip(*scores)]
        order = sorted(range(len(best)), key=lambda label: (label not in (0, truth), -best[label]))
        shown = [label for label in order[:_MOST] if label in (0, truth) or best[label] >= _MATTERS]
        place = {0: math.inf, truth: -1}
        return sorted(shown, key=lambda label: place.get(label, label)), [each for each in order if each not in shown]

    def _write_headline(self, lines: Sequence[Sequence[Run]]) -> None:
        rows: list[Artist] = []
        for i, line in enumerate(lines):
            size = 11 if i else 13
            texts: list[Artist] = [
                TextArea(
                    text.replace(" ", "\u00a0"),  # spaces at the ends of a run would be dropped
                    textprops={"color": _ink(role), "fontweight": "bold" if role else "normal", "fontsize": size},
                )
                for text, role in line
            ]
            rows.append(HPacker(children=texts, pad=0, sep=0, align="baseline"))
        words = VPacker(children=rows, pad=0, sep=4)
        self.ax.add_artist(
            AnnotationBbox(words, (_GAP, _GAP), box_alignment=(0, 1), frameon=False, pad=0, annotation_clip=False)
        )

    def _draw_stage(self, name: str, answer: ProposalAnswer, x: float, y: float, tall: float) -> None:
        self._text(x, y + _LINE, f"{drawn([name])[0]}, level {answer.level}", weight="bold")
        ax = self._inset(x, y + 1.4 * _LINE, _SIDE, tall)
        plots.show_image(self.image.pixels, ax)
        found = self.maps.get(name)
        if found is not None:
            self._draw_map(found, answer.level, ax)
            task, values = (
                self.state.underlay,
                getattr(found.maps.levels[answer.level][found.branch], self.state.underlay),
            )
            text = f"{'score' if task == 'classification' else 'IoU'} 0 … {max(values.max().item(), 0):.2g}"
            self._text(x + _SIDE, y + _LINE, f"map of {task}: {text}", _ink(task), ha="right")
            distance = found.maps.peak_distance(answer.level, found.branch)
            if math.isfinite(distance):
                write_below(f"best places {100 * distance:.1f} % of the object apart", ax)
        truth = self.image.truth
        marked = [] if truth.salient_boxes is None else [box for box in truth.salient_boxes if box.isfinite().all()]
        for layer, boxes, dashes in (("truth", truth.boxes, (0, (5, 4))), ("salient", marked, (0, (1.5, 2.5)))):
            if layer in self.state.layers:
                for box in boxes:
                    plots.draw_box(box, PALETTE["truth"], ax, linewidth=1.6, linestyle=dashes)
        self._draw_regions(name, answer, answer.level, ax)
        if "decoded" in self.state.layers:
            for each in self.series:
                if each.model == name:
                    box = answer.branches[each.branch].box
                    plots.draw_box(box, PALETTE["localization"], ax, linewidth=1.4, linestyle=each.line)
        height, width = self.image.pixels.shape[1:]
        ax.set(xlim=(0, width), ylim=(height, 0))

    def _draw_map(self, found: ObjectMaps, level: str, ax: Axes) -> None:
        """The map of the chosen task, and the best places of both."""
        x1, y1, x2, y2 = found.maps.grid.extent
        values = getattr(found.maps.levels[level][found.branch], self.state.underlay).clamp(min=0).numpy()
        ax.imshow(values, extent=(x1, x2, y2, y1), cmap=clear_to(PALETTE[self.state.underlay]), vmin=0,
                  vmax=values.max() or 1, alpha=self.state.opacity, interpolation="bilinear")  # fmt: skip
        places = {task: found.maps.peak(level, found.branch, task) for task in TASKS}
        mark_peaks({task: place for task, place in places.items() if place.isfinite().all()}, ax)

    def _draw_regions(self, name: str, answer: ProposalAnswer, level: str, ax: Axes) -> None:
        """P and where the tasks read, as layers.js draws them."""
        plots.draw_box(answer.proposal, PALETTE["proposal"], ax, linewidth=2)
        start = (answer.proposal[:2] + answer.proposal[2:]) / 2
        regions = answer.levels[level].regions
        for task in (task for task in reversed(TASKS) if task in regions and task in self.state.layers):
            region, color = regions[task], PALETTE[task]
            if not region.deformed:
                plots.draw_box(region.boxes, color, ax, linewidth=2.2)
            points = region.points.flatten(0, 1)
            if region.deformed:
                ax.plot(*points.T.numpy(), "o", color=color, markersize=3.5, markeredgecolor="white",
                        markeredgewidth=0.5)  # fmt: skip
            if region.deformed and self.state.arrows != "summary":
                grid = bin_centres(answer.proposal[None], bins=len(region.points))[0]
                pattern = self.pattern.get(name, {}).get(task)
                if pattern is not None:
                    grid = grid + pattern.offsets * (answer.proposal[2:] - answer.proposal[:2])
                starts = grid.flatten(0, 1)
                arrows = self.state.magnify * (points - starts)
                ax.quiver(*starts.T.numpy(), *arrows.T.numpy(), angles="xy", scale_units="xy", scale=1,
                          width=0.005, color=color)  # fmt: skip
            else:
                x, y = (start + self.state.magnify * (points.mean(dim=0) - start)).tolist()
                look = {"arrowstyle": "-|>", "color": color, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0}
                halo = [Stroke(linewidth=4, foreground="white"), Normal()]
                arrow = {**look, "mutation_scale": 11, "path_effects": halo}
                ax.annotate("", (x, y), (start[0].item(), start[1].item()), arrowprops=arrow, annotation_clip=False)

    def _draw_levels(self, rows: Sequence[tuple[str, str]], tall: float, x: float, y: float, several: bool) -> float:
        moved = [
            region["moved"] for level, name in rows for region in self._of(name)[level]["regions"].values()
        ]  # fmt: skip
        most = max(moved, default=0)
        end = next((top for top in _TOPS if most <= top), most)
        bars, answers, right = x + 120, x + 276, x + _TABLE
        self._text(x, y + _LINE, "P pooled from each level", weight="bold")
        self._text(
            right, y + _LINE, f"displacement of each task; a full bar is {100 * end:.0f} % of P", _FAINT, ha="right"
        )
        for i, task in enumerate(TASKS):
            self._text(bars - 25 + 100 * i, y + 2 * _LINE, f"{_SYMBOLS[task]} {task}", _ink(task))
        self._text(answers + 78, y + 2 * _LINE, "score", _ink("classification"), ha="right")
        self._text(right, y + 2 * _LINE, "box IoU", _ink("localization"), ha="right")
        y += 2.5 * _LINE
        first = next(iter(self.message["models"].values()))
        for i, (level, name) in enumerate(rows):
            top = y + i * tall
            if i == 0 or rows[i - 1][0] != level:
                self.ax.plot([x, right], [top, top], color="#dddddd", linewidth=0.8)
                marks = [mark for mark in ("assigned", "level") if first[mark] == level]
                self._text(x + 4, top + tall / 2, f"level {level}", weight="bold")
                for k, mark in enumerate(marks):
                    self._text(x + 4, top + tall / 2 + 11 * (k + 1), {"level": "in use"}.get(mark, mark), _FAINT, 7)
            if self.message["models"][name]["level"] == level:
                self.ax.add_patch(Rectangle((x - 4, top + 2), 3, tall - 4, color=_INK))
            crop = self._inset(x + 62, top + 3, tall - 6, tall - 6)
            self._draw_crop(name, level, crop)
            at = self._of(name)[level]
            line = top + tall / 2 - (6 if several else 1)
            if several:
                self._text(bars, line - 5, drawn([name])[0], weight="bold")
                line += 9
            if not at["regions"]:
                self._text(bars, line, "P itself", _FAINT)
            for k, (task, region) in enumerate(at["regions"].items()):
                here = line + 13 * k
                self._text(bars, here, _SYMBOLS[task], _ink(task))
                self._bar(bars + 28, here - 7, 76, region["moved"] / end, {"facecolor": PALETTE[task]})
                self._text(bars + 148, here, f"{100 * region['moved']:.1f} %", _ink(task), ha="right")
            for k, (branch, found) in enumerate(at["branches"].items()):
                here = top + tall / 2 + 3 + 13 * (k - (len(at["branches"]) - 1) / 2)
                weight = "bold" if k == len(at["branches"]) - 1 else "normal"
                self._text(answers, here, branch, weight=weight)
                self._text(
                    answers + 78, here, f"{found['score']:.2f}", _ink("classification"), weight=weight, ha="right"
                )
                iou = "–" if found["iou"] is None else f"{found['iou']:.2f}"
                self._text(right, here, iou, _ink("localization"), weight=weight, ha="right")
        return y + tall * len(rows)

    def _draw_scores(self, shown: Sequence[int], rest: Sequence[int], x: float, y: float) -> None:
        self._text(x, y, "Class scores", weight="bold")
        nearest = self.message["nearest"]
        for label in shown:
            true = nearest is not None and label == nearest["label"]
            self._text(
                x, y + _LINE, self.names[label], _ink("truth") if true else _INK, weight="bold" if true else "normal"
            )
            for each in self.series:
                y += _LINE
                self._draw_score(each, label, x, y)
        if rest:
            self._text(x, y + _LINE, f"and {len(rest)} more with lower scores", _FAINT)

    def _draw_score(self, series: Series, label: int, x: float, y: float) -> None:
        score = self.message["models"][series.model]["branches"][series.branch]["scores"][label]
        self._text(x + 90, y, drawn([series.label])[0], _FAINT, 7.5)
        self._bar(x + 165, y - 7, _TABLE - 197, score, {**_BARS[series.line], "edgecolor": _BLUE})
        self._text(x + _TABLE, y, f"{score:.2f}", ha="right")

    def _draw_key(self, y: float) -> None:
        entries: dict[str, tuple[str, str, dict[str, Any]]] = {
            "truth": ("ground truth", "truth", {"linestyle": "--"}),
            "salient": ("evidence", "truth", {"linestyle": ":"}),
            "classification": ("P̂c for the class", "classification", {"linestyle": "", "marker": "o", "markersize": 4}),
            "localization": ("P̂r for the box", "localization", {"linestyle": "-"}),
            "decoded": ("decoded boxes, lines as the scores' branches", "localization", {"linestyle": "-."}),
        }
        drawn_layers = [entry for layer, entry in entries.items() if layer in self.state.layers]
        handles = [
            Line2D([], [], color=PALETTE[role], label=label, linewidth=2, **look)
            for label, role, look in [("P: proposal", "proposal", {}), *drawn_layers]
        ]
        self.ax.legend(
            handles=handles, loc="center left", bbox_to_anchor=(_GAP / self.width, 1 - y / self.height), ncols=6,
            frameon=False, fontsize=8.5, borderpad=0, borderaxespad=0,
        )  # fmt: skip

        if any(answer.levels[answer.level].regions for answer in self.image.answers.values()):
            kinds = {
                "summary": "arrows: from P’s middle to the middle of what a task reads",
                "all": "arrows: the displacement of every bin",
                "own": "arrows: the displacement of every bin, without the pattern common to all proposals",
            }
            factor = "" if self.state.magnify == 1 else f", ×{self.state.magnify:g}"
            self._text(_GAP, y + 1.5 * _LINE, kinds[self.state.arrows] + factor, _FAINT)

    def _draw_crop(self, name: str, level: str, ax: Axes) -> None:
        answer = self.image.answers[name]
        plots.show_image(self.image.pixels, ax)
        if (found := self.maps.get(name)) is not None:
            self._draw_map(found, level, ax)
        self._draw_regions(name, answer, level, ax)
        x1, y1, x2, y2 = answer.proposal.tolist()
        half = 0.75 * max(x2 - x1, y2 - y1, 8)
        ax.set(xlim=((x1 + x2) / 2 - half, (x1 + x2) / 2 + half), ylim=((y1 + y2) / 2 + half, (y1 + y2) / 2 - half))
        for line in ax.lines:
            line.set(markersize=0.4 * line.get_markersize(), linewidth=0.6, markeredgewidth=0.6, clip_on=True)
            line.set_path_effects([])
        arrows = [text.arrow_patch for text in ax.texts if isinstance(text, Annotation) and text.arrow_patch]
        for shape in (*ax.patches, *arrows):
            shape.set(linewidth=1, path_effects=[])

    def _inset(self, x: float, y: float, width: float, height: float) -> Axes:
        of_width, of_height = 1 / self.width, 1 / self.height
        return self.figure.add_axes((x * of_width, 1 - (y + height) * of_height, width * of_width, height * of_height))

    def _text(self, x: float, y: float, text: str, color: str = _INK, size: float = 8.5, **style: Any) -> None:
        self.ax.text(x, y, text, color=color, fontsize=size, **style)

    def _bar(self, x: float, y: float, width: float, part: float, look: Mapping[str, Any]) -> None:
        self.ax.add_patch(Rectangle((x, y), width, 8, facecolor=_TRACK))
        self.ax.add_patch(Rectangle((x, y), width * min(part, 1), 8, linewidth=0.6, **look))


def _ink(role: str | None) -> str:
    """The colour of a role, dark enough for text on white."""
    if role is None or role not in PALETTE:
        return _INK
    red, green, blue = (0.65 * own + 0.35 * ink for own, ink in zip(to_rgb(PALETTE[role]), to_rgb(_INK)))
    return to_hex((red, green, blue))
