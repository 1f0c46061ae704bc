"""Two detectors side by side as a page: `compare.html`, the numbers behind it, and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from tsdlab.analysis.comparison import Comparison
from tsdlab.analysis.image_errors import ImageErrors
from tsdlab.analysis.statistics import FEW_IMAGES, Estimate
from tsdlab.figures.errors import LOSSES, error_costs, loss_of, title_of
from tsdlab.files import claim_outputs
from tsdlab.provenance import versions
from tsdlab.report.error_pictures import draw_images
from tsdlab.report.errors import IN_WORDS, TENTH, interval, number
from tsdlab.report.folder import write_folder
from tsdlab.report.pictures import render
from tsdlab.report.table import CellValue, Row, Table
from tsdlab.report.template import picture_urls, template
from tsdlab.report.verdict import Sentence, compared, plain
from tsdlab.structures import TASKS

SHOWN = 6  # images that are repaired, and as many that are broken
PICTURES = (
    "compare-errors.png",
    *(f"{change}-{place}.jpg" for change in ("repaired", "broken") for place in range(1, 1 + SHOWN)),
)


@dataclass(frozen=True)
class Compared:
    """Where a comparison comes from."""

    names: tuple[str, str]  # of the two detectors
    folder: str  # of the data set
    split: str
    command: str  # the line that made the page


def write_comparison(
    comparison: Comparison, source: Compared, out: Path, overwrite: bool = False, progress: bool = True
) -> Path:
    """Write `compare.html`, which needs no other file, `compare.json`, and every picture.

    Args:
        comparison: of two detectors.
        source: where it comes from.
        out: a folder; it is made if it does not exist.
        overwrite: whether files with these names may be replaced.
        progress: show a progress bar.

    Returns:
        The path of `compare.html`.

    Raises:
        ExistingFileError: there are such files already, and `overwrite` is False; nothing was written.
    """
    claim_outputs(comparison_files(out), overwrite=overwrite)
    repaired, broken = comparison.repaired(SHOWN), comparison.broken(SHOWN)
    drawings: dict[str, Callable[[], Figure]] = {}
    if comparison.difference.overall.AP.value is not None:
        drawings[PICTURES[0]] = partial(_draw_costs, comparison, source.names)
    for change, images in (("repaired", repaired), ("broken", broken)):
        for place, pair in enumerate(images, 1):
            drawings[f"{change}-{place}.jpg"] = partial(draw_images, pair, source.names)
    pictures = render(drawings, progress)
    sentences = comparison_verdict(comparison, source.names)
    facts = {
        "command": source.command,
        "weights": source.names,
        "dataset": {"folder": source.folder, "split": source.split},
        "versions": versions(),
        "verdict": [plain(sentence) for sentence in sentences],
        **comparison.as_dict(),
    }
    page = _page(comparison, source, sentences, pictures, repaired, broken)
    return write_folder(out, "compare", page, facts, pictures)


def comparison_files(out: Path) -> list[Path]:
    """Every file that a comparison in the folder `out` may consist of."""
    return [out / name for name in ("compare.html", "compare.json", *PICTURES)]


def comparison_verdict(comparison: Comparison, names: tuple[str, str]) -> list[Sentence]:
    """Which of two detectors has more AP, and which kinds of errors cost the second one less or more."""
    first, second = names
    gain, before, after = (
        of.overall for of in (comparison.difference, comparison.first.costs, comparison.second.costs)
    )
    if gain.AP.value is None:
        return [[("There is no AP, because there is no object.", "")]]
    word = compared(gain.AP, f"{second} has more AP than {first}", f"{second} has less AP than {first}", TENTH)
    if not word.startswith(second):
        word = f"AP of {second} and {first} ({word})"
    sentences: list[Sentence] = [
        [
            (f"{word}: {number(after.AP)} instead of {number(before.AP)}, ", ""),
            (f"a difference of {signed(gain.AP)}", ""),
            (f" {interval(gain.AP)}", "interval"),
            (".", ""),
        ]
    ]
    words = {name: compared(loss_of(gain, name), "more", "less", TENTH) for name in LOSSES}
    for change, start in (("less", f"{second} loses less AP to "), ("more", f"{second} loses more AP to ")):
        found = [name for name in LOSSES if words[name] == change]
        parts: Sentence = [(start, "")]
        for i, name in enumerate(found):
            cost = loss_of(gain, name)
            parts += [
                (", " if i else "", ""),
                (f"{IN_WORDS[name]} ({signed(cost)}", _task(name)),
                (f" {interval(cost)}", "interval"),
                (")", _task(name)),
            ]
        if found:
            sentences.append([*parts, (".", "")])
    if len(sentences) == 1:
        sentences.append([("No kind of error is shown to cost one of them more than the other.", "")])
    return sentences


def signed(estimate: Estimate) -> str:
    """A difference with its sign and one decimal."""
    if estimate.value is None:
        return "–"
    return f"{estimate.value:+.1f}".replace("-", "−")


def _task(name: str) -> str:
    """Whose colour a loss has."""
    return "localization" if name == "loose" else name if name in TASKS else ""


def _draw_costs(comparison: Comparison, names: tuple[str, str]) -> Figure:
    figure = Figure(figsize=(8.5, 5.6), layout="constrained")
    error_costs(dict(zip(names, (comparison.first.costs, comparison.second.costs))), figure.subplots())
    return figure


def _page(
    comparison: Comparison,
    source: Compared,
    sentences: list[Sentence],
    pictures: dict[str, bytes],
    repaired: list[tuple[ImageErrors, ImageErrors]],
    broken: list[tuple[ImageErrors, ImageErrors]],
) -> str:
    changes = comparison.changes()
    html = template("comparison.html.jinja").render(
        source=source,
        versions=versions(),
        images=len(changes),
        objects=len(comparison.first.judged.found),
        few_images=FEW_IMAGES,
        verdict=sentences,
        pictures=picture_urls(pictures),
        kinds=_kind_table(comparison, source.names),
        classes=_class_table(comparison, source.names),
        fewer=int((changes < 0).sum()),
        more=int((changes > 0).sum()),
        score_thresh=comparison.first.confusion.score_thresh,
        changed=(("repaired", repaired), ("broken", broken)),
    )
    return html.lstrip()


def _kind_table(comparison: Comparison, names: tuple[str, str]) -> Table:
    columns = [of.overall for of in (comparison.first.costs, comparison.second.costs, comparison.difference)]
    rows: dict[str, list[CellValue]] = {"AP": [of.AP for of in columns], "AP50": [of.AP50 for of in columns]}
    for name, meaning in LOSSES.items():
        rows[f"lost to {title_of(name)}: {meaning}"] = [loss_of(of, name) for of in columns]
    return Table(["points of AP", *names, "difference"], [Row(title, [cells], 1) for title, cells in rows.items()])


def _class_table(comparison: Comparison, names: tuple[str, str]) -> Table:
    """The AP of both for every class, and the differences: of AP, and of what is lost to each kind."""
    rows = []
    for category, difference in comparison.difference.per_class.items():
        before, after = (errors.costs.per_class[category].AP for errors in (comparison.first, comparison.second))
        losses = [loss_of(difference, name) for name in LOSSES]
        rows.append(Row(category, [[before.count, before, after, difference.AP, *losses]], 1))
    heads = (f"{title_of(name)}, difference" for name in LOSSES)
    return Table(["class", "objects", *(f"AP, {name}" for name in names), "AP, difference", *heads], rows)
