"""Where AP is lost: what the section of a report says about a detector's errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsdlab.analysis.confusion import Confusion
from tsdlab.analysis.costs import Costs, ErrorCosts
from tsdlab.analysis.errors import KINDS
from tsdlab.analysis.find_errors import Errors
from tsdlab.analysis.image_errors import ImageErrors
from tsdlab.analysis.statistics import Estimate
from tsdlab.figures.errors import LOSSES, loss_of, title_of
from tsdlab.report.table import CellValue, Row, Table
from tsdlab.report.verdict import Sentence, compared
from tsdlab.structures import TASKS

MOST_CLASSES = 20  # of a confusion matrix; of more classes, only the most frequent pairs are listed
_PAIRS = 20
# What is lost, as a sentence calls it; the keys are those of LOSSES.
IN_WORDS = {
    "classification": "errors of classification",
    "localization": "errors of localization",
    "loose": "loose boxes",
    "both": "wrong classes at wrong places",
    "duplicate": "duplicates",
    "background": "detections of background",
    "missed": "missed objects",
}
TENTH = 0.1  # the last digit that is shown


@dataclass(frozen=True)
class MatrixCell:
    """A cell of a confusion matrix."""

    count: int
    share: float  # of its row, 0…1
    role: str  # "right", "wrong", or "background"


@dataclass(frozen=True)
class ErrorSection:
    """What the section shows beside its pictures."""

    verdict: list[Sentence]
    kinds: Table
    sizes: Table
    classes: Table
    matrix: list[tuple[str, list[MatrixCell]]]  # the rows with their classes; empty if there are too many classes
    pairs: list[tuple[str, str, int]]  # object, detection, count: the most frequent confusions, if there is no matrix
    categories: tuple[str, ...]
    score_thresh: float
    worst: list[ImageErrors]


def error_section(errors: Errors, worst: list[ImageErrors]) -> ErrorSection:
    """The section about `errors`, with the images that it shows."""
    confusion = errors.confusion
    few = len(confusion.categories) <= MOST_CLASSES
    return ErrorSection(
        errors_verdict(errors.costs),
        _kind_table(errors.costs),
        _size_table(errors.costs),
        _class_table(errors.costs),
        _matrix(confusion) if few else [],
        [] if few else _pairs(confusion),
        confusion.categories,
        confusion.score_thresh,
        worst,
    )


def errors_verdict(costs: ErrorCosts) -> list[Sentence]:
    """Whether classification or localization loses more AP, and what costs most of the rest."""
    overall = costs.overall
    if overall.AP.value is None:
        return [[("There is no AP, because there is no object.", "")]]
    word = compared(
        costs.localization_minus_classification,
        "More AP is lost to localization than to classification",
        "More AP is lost to classification than to localization",
        TENTH,
    )
    if not word.startswith("More"):
        word = f"Classification and localization ({word})" if word else "Classification and localization"
    classification, localization = (overall.kinds[kind] for kind in TASKS)
    answer: Sentence = [
        (f"{word}: ", ""),
        (f"errors of classification cost {number(classification)}", "classification"),
        (f" {interval(classification)}, ", "interval"),
        (f"errors of localization {number(localization)}", "localization"),
        (f" {interval(localization)} ", "interval"),
        ("and ", ""),
        (f"loose boxes {number(overall.loose)}", "localization"),
        (f" {interval(overall.loose)} ", "interval"),
        ("points of AP.", ""),
    ]
    total: Sentence = [
        (f"AP is {number(overall.AP)}", ""),
        (f" {interval(overall.AP)}", "interval"),
        (f", and AP50 is {number(overall.AP50)}", ""),
        (f" {interval(overall.AP50)}", "interval"),
        (".", ""),
    ]
    kind, most = max(((k, of) for k, of in overall.kinds.items() if k not in TASKS), key=lambda k: k[1].value or 0.0)
    if (most.value or 0.0) >= TENTH / 2:
        total += [
            (f" Of the other errors, {IN_WORDS[kind]} cost most: {number(most)}", ""),
            (f" {interval(most)} ", "interval"),
            ("points.", ""),
        ]
    return [answer, total]


def number(estimate: Estimate) -> str:
    """A number with one decimal."""
    return "–" if estimate.value is None else f"{estimate.value:.1f}".replace("-", "−")


def interval(estimate: Estimate) -> str:
    """Its interval."""
    return "" if estimate.value is None else f"[{estimate.low:.1f}, {estimate.high:.1f}]".replace("-", "−")


def _kind_table(costs: ErrorCosts) -> Table:
    rows: list[tuple[str, Estimate, int | None]] = [("AP", costs.overall.AP, None), ("AP50", costs.overall.AP50, None)]
    for name, meaning in LOSSES.items():
        of = loss_of(costs.overall, name)
        rows.append((f"{title_of(name)}: {meaning}", of, None if name == "loose" else of.count))
    rows += [
        ("all wrong detections", costs.wrong_detections, costs.wrong_detections.count),
        ("all objects that are not found", costs.objects_not_found, costs.objects_not_found.count),
    ]
    return Table(["", "points of AP", "errors"], [Row(title, [[of, count]], 1) for title, of, count in rows])


def _size_table(costs: ErrorCosts) -> Table:
    rows = [Row(size, [[kinds[kind] for kind in KINDS]], 1) for size, kinds in costs.per_size.items()]
    return Table(["size", *KINDS], rows)


def _class_table(costs: ErrorCosts) -> Table:
    rows = [Row(name, [_of_class(of)], 1) for name, of in costs.per_class.items()]
    return Table(["class", "objects", "AP", "AP50", *(title_of(name) for name in LOSSES)], rows)


def _of_class(costs: Costs) -> list[CellValue]:
    return [costs.AP50.count, costs.AP, costs.AP50, *(loss_of(costs, name) for name in LOSSES)]


def _matrix(confusion: Confusion) -> list[tuple[str, list[MatrixCell]]]:
    """Objects in rows, those of the background last; detections in columns, in the same order."""
    order = [*range(1, 1 + len(confusion.categories)), 0]
    names = dict(enumerate(confusion.categories, 1))
    rows = []
    for row in order:
        counts = confusion.counts[row, order]
        shares = counts / max(1, counts.sum())
        cells = [
            MatrixCell(int(count), float(share), "background" if 0 in (row, column) else _role(row, column))
            for column, count, share in zip(order, counts, shares)
        ]
        rows.append((names.get(row, "background"), cells))
    return rows


def _role(row: int, column: int) -> str:
    return "right" if row == column else "wrong"


def _pairs(confusion: Confusion) -> list[tuple[str, str, int]]:
    """The classes that are confused most often, with their counts; at most `_PAIRS`."""
    wrong = confusion.counts[1:, 1:] * (1 - np.eye(len(confusion.categories), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    rows, columns = np.unravel_index(order, wrong.shape)
    names = confusion.categories
    return [
        (names[row], names[column], int(wrong[row, column]))
        for row, column in zip(rows, columns)
        if wrong[row, column] > 0
    ]
