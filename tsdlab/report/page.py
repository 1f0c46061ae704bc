"""The page of an analysis report: HTML that needs no other file, no script and no network."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

from tsdlab.analysis.analyze import Report
from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.displacement import ALL_LEVELS, Displacements
from tsdlab.analysis.examples import CANDIDATES, Example
from tsdlab.analysis.measures import AGREEMENT, MEASURES
from tsdlab.analysis.misalignment import METHODS, WINDOW, Misalignment
from tsdlab.analysis.statistics import Estimate
from tsdlab.data.coco import CocoDataset

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6670; --paper: #fdfdfb; --line: #dcdfe2; --tint: #f2f4f5;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --soft: #9ca6af; --paper: #16191c; --line: #363c42; --tint: #1f2428; --link: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 1000px; background: var(--paper); color: var(--ink);
  font: 17px/1.6 Charter, "Iowan Old Style", "Source Serif 4", Georgia, serif; }
h1, h2, h3, table, figcaption, summary, .facts { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p, ul, dl { max-width: 44rem; }
.facts { color: var(--soft); font-size: .92rem; }
figure { margin: 1.2rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: white; border-radius: 8px;
  padding: .6rem; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .88rem; line-height: 1.45; margin-top: .5rem; max-width: 48rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid var(--line); }
tbody th { font-weight: 400; min-width: 11rem; }
.interval { color: var(--soft); }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--link); font-size: .95rem; }
code, pre { font: .85em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 8px; overflow-x: auto; }
"""


def page(
    report: Report, facts: dict[str, Any], chosen: list[Example], dataset: CocoDataset, pictures: dict[str, bytes]
) -> str:
    """The report in HTML.

    Args:
        report: what is told.
        facts: what report.json says of where it comes from.
        chosen: the examples of `dataset` that are shown.
        pictures: PNGs by name, as `write_report` draws them.
    """
    found = report.misalignment
    name, head = escape(facts["weights"]), escape(facts["head"])
    folder = escape(f"{facts['dataset']['folder']}, {facts['dataset']['split']}")
    parts = [
        f"<h1>Where do the two tasks of {name} want to look?</h1>",
        f'<p class="facts">{head} head · {folder} · {found.images} images, {found.objects} objects</p>',
        "<p>A detector of two stages asks two questions of every proposal: what is it, and where exactly does it end? "
        "The paper behind this report says that the two want to be answered from different places: the class from "
        "what is salient, the box from its borders. This report looks whether that holds for these weights.</p>",
        _in_short(found),
        _examples(chosen, min(CANDIDATES, found.images), dataset, pictures),
        _measured(found, pictures),
        _scored(found, pictures),
        _displaced(report.displacement, pictures),
        _made(facts),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: where the two tasks look</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _in_short(found: Misalignment) -> str:
    """The gradients' numbers at the level that most objects have one at, and what the disagreement costs."""
    by_level = found.maps.get("gradients", {})
    counts = {
        level: max(_count(by_measure.get("peak_distance")) for by_measure in branches.values())
        for level, branches in by_level.items()
    }
    said = []
    if counts and max(counts.values()):
        level = max(counts, key=lambda name: counts[name])
        for measure in ("peak_distance", "classification_energy_on_salient", "localization_energy_on_salient"):
            values = [(branch, row.get(measure)) for branch, row in by_level[level].items()]
            if any(estimate is not None and estimate.value is not None for _, estimate in values):
                name = f"{MEASURES[measure].label} (level {level}, {counts[level]} objects, gradients)"
                said.append((name, values))
    if found.agreement:
        said.append(
            (AGREEMENT["gap"].explanation, [(branch, row.get("gap")) for branch, row in found.agreement.items()])
        )
    if not said:
        return ""
    items = "\n".join(
        f"<li>{escape(name[0].upper() + name[1:])}: "
        + ", ".join(f"{escape(branch)} {_number(estimate)}" for branch, estimate in values)
        + ".</li>"
        for name, values in said
    )
    return f"<p>In short, with 95% intervals:</p>\n<ul>\n{items}\n</ul>"


def _examples(chosen: list[Example], images: int, dataset: CocoDataset, pictures: dict[str, bytes]) -> str:
    if not chosen:
        return "<h2>Some objects</h2>\n<p>None of the first images has an object to show.</p>"
    parts = [
        "<h2>Some objects</h2>",
        f"<p>The objects below are not typical. Of the first {images} images they are the ones whose two peaks lie "
        "farthest apart (those of the gradients), one of an image, objects that the detector finds first. The numbers "
        "further down are of all objects.</p>",
        "<p>Two methods ask where a task looks. The first is the paper’s: every coordinate of a feature map has a "
        "proposal, and where the head answers well from it, the map is bright. It says <em>which proposals</em> serve "
        "a task, and since it smears each answer over a whole proposal, it cannot say which part of it was read. A "
        "second object of the same class is bright in its classification map, too. The other method differentiates "
        "the answers with respect to the features: it says <em>which places</em> inside the proposals an answer "
        "hangs on.</p>",
    ]
    names = [category.name for category in dataset.categories]
    for number, example in enumerate(chosen, 1):
        label = names[int(dataset[example.image][1]["labels"][example.object]) - 1]
        parts += [
            f"<h3>Example {number}: {escape(label)} in image {dataset.image_ids[example.image]}</h3>",
            _figure(
                pictures[f"example-{number}"], f"Example {number}: peaks and surfaces",
                f"Level {escape(example.level)}, the one the object’s box is pooled from; measured around it, the "
                f"peaks of the gradients lie {example.peak_distance:.2f} box sizes apart in the first branch. Left, "
                "where the gradients of both tasks are longest. Right, both maps of the proposals over the same "
                "part of the image by the branch that detects, each as a fraction of its maximum there. Green is the "
                "object"
                + (", black and white its salient part." if "salient_boxes" in dataset[example.image][1] else "."),
            ),
            _figure(
                pictures[f"example-{number}-proposals"], f"Example {number}: maps of the proposals, by level",
                "Asking the proposals: a row per level of the pyramid, from 0 (clear) to each map’s own maximum "
                "(bright). Circle and diamond mark the peaks. A level far too coarse or fine for the object has no "
                "proposal that fits it, and its map says little.",
            ),
            _figure(
                pictures[f"example-{number}-gradients"], f"Example {number}: maps of the gradients, by level",
                "Gradients: which features would change the answers to the object’s proposals, pooled from the level "
                "of the row.",
            ),
        ]  # fmt: skip
    return "\n".join(parts)


def _measured(found: Misalignment, pictures: dict[str, bytes]) -> str:
    parts = [
        "<h2>All objects</h2>",
        f"<p>Around every object, in a window of {WINDOW:g} times its box, the two maps are compared. Points are means "
        "over objects, whiskers 95% intervals of a bootstrap over images. Dotted lines mark what an even map has, or "
        "two maps that have nothing to do with each other.</p>",
    ]
    for method, meaning in METHODS.items():
        if f"measures-{method}" not in pictures:
            continue
        parts += [
            f"<h3>{method.capitalize()}: {meaning}</h3>",
            _figure(pictures[f"measures-{method}"], f"Measures of the maps, {method}", _READ_MEASURES[method]),
        ]
        if f"moved-{method}" in pictures:
            parts.append(
                _figure(
                    pictures[f"moved-{method}"],
                    f"Detecting branch − sibling, {method}",
                    "What the detecting branch has more than the sibling that was trained beside it, on the same "
                    "proposals. An interval across the dotted zero means: no difference was shown.",
                )
            )
        parts.append(_details(f"The numbers ({method})", _map_table(found, method)))
    if len(parts) == 2:
        parts.append("<p>There was no object to measure.</p>")
    return "\n".join(parts)


_READ_MEASURES = {
    "proposals": "Peaks far apart and a low rank correlation are the conflict that the paper describes. Levels whose "
    "proposals do not fit the objects lie apart for another reason: there is little to peak.",
    "gradients": "Here the places compare, not the proposals: energy above 1 on the salient part means that an "
    "answer hangs on it more than on the rest. A level that no object’s proposal is pooled from has no value.",
}


def _scored(found: Misalignment, pictures: dict[str, bytes]) -> str:
    if "scores" not in pictures:
        return (
            "<h2>Scores and boxes</h2>\n<p>No proposal overlaps an object enough to compare its score with its box.</p>"
        )
    header = ["", *(escape(branch) for branch in found.agreement), "proposals or objects"]
    rows = [
        (
            escape(f"{measure.title}: {measure.explanation}"),
            [
                [
                    *(_number(by_measure.get(name)) for by_measure in found.agreement.values()),
                    str(max(_count(by_measure.get(name)) for by_measure in found.agreement.values())),
                ]
            ],
        )
        for name, measure in AGREEMENT.items()
        if found.agreement
    ]
    return "\n".join(
        [
            "<h2>Scores and boxes</h2>",
            "<p>Detections are ranked by their class score, and NMS keeps of overlapping boxes the best-scored. If the "
            "tasks disagree, that is not the best-placed one.</p>",
            _figure(
                pictures["scores"], "Agreement of scores and boxes, and survival of boxes",
                "Left: how scores go with the IoU of the decoded boxes, over proposals that overlap an object by at "
                "least half; the gap is IoU that is lost because the best-scored box is kept. Right: of the boxes at "
                "an IoU the share that NMS keeps. If scores knew of places, the curve would be 0 but for its right "
                "end; what survives far left found no better-scored box to overlap with.",
            ),
            _details("The numbers (scores and boxes)", _table(header, rows)),
        ]
    )  # fmt: skip


def _displaced(displacements: Displacements | None, pictures: dict[str, bytes]) -> str:
    if displacements is None:
        return ""
    levels = list(displacements.levels)
    header = ["", *("all levels" if level == ALL_LEVELS else f"level {escape(level)}" for level in levels)]
    rows = [("proposals", [[str(displacements.levels[level].proposals) for level in levels]])]
    rows += [
        (
            escape(f"{column.label}. {column.explanation}"),
            [[_number(displacements.levels[level].means.get(name)) for level in levels]],
        )
        for name, column in COLUMNS.items()
        if any(displacements.mean(name, level) is not None for level in levels)
    ]
    return "\n".join(
        [
            "<h2>Where the head moves its regions</h2>",
            "<p>This head does not read both answers from the proposal P. For the class every bin of P is moved by its "
            "own ΔC, to P̂_c; for the box P as a whole by ΔR, to P̂_r. Lengths are fractions of the proposal’s width "
            "and height, and of proposals that overlap an object by at least half.</p>",
            _figure(
                pictures["displacements"], "Displacements",
                "The mean ΔC of each bin, over all levels; how long ΔC and ΔR are at each level; and where they point, "
                "as in images, 90° being down. A dashed circle has no preference. Arrows that remain in the mean are "
                "the same for every object: what is specific to one averages out.",
            ),
            _details("The numbers (displacements)", _table(header, rows)),
        ]
    )  # fmt: skip


def _made(facts: dict[str, Any]) -> str:
    made = " · ".join(f"{escape(package)} {escape(version)}" for package, version in facts["versions"].items())
    return (
        "<h2>How this was made</h2>\n"
        f"<pre>{escape(facts['command'])}</pre>\n"
        f'<p class="facts">{made}</p>\n'
        "<p>Every number is in <code>report.json</code> beside this page, with its interval and the count behind it. "
        "Intervals come from a bootstrap that draws images, not objects: objects of one image are no independent "
        "witnesses.</p>"
    )


def _map_table(found: Misalignment, method: str) -> str:
    """A row per measure and level, a column per branch, and what the last has more than the sibling."""
    branches = list(dict.fromkeys(b for level in found.maps[method].values() for b in level))
    compared = bool(found.moved.get(method))
    header = ["", "level", *(escape(b) for b in branches), *(["difference"] if compared else []), "objects"]
    body = []
    for measure in MEASURES:
        if measure not in found.known(method):
            continue
        rows = []
        for level, by_branch in found.maps[method].items():
            estimates = [by_branch.get(branch, {}).get(measure) for branch in branches]
            cells = [escape(level), *(_number(e) for e in estimates)]
            if compared:
                cells.append(_number(found.moved[method].get(level, {}).get(measure)))
            rows.append([*cells, str(max(_count(e) for e in estimates))])
        body.append((escape(MEASURES[measure].label), rows))
    return _table(header, body)


def _number(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    low, high = estimate.low, estimate.high
    return f'{_short(estimate.value)} <span class="interval">[{_short(low)}, {_short(high)}]</span>'


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _count(estimate: Estimate | None) -> int:
    return 0 if estimate is None else estimate.count


def _table(header: list[str], body: list[tuple[str, list[list[str]]]]) -> str:
    """Of cells that are HTML already: the head of a row, then its numbers, in one or several lines."""
    head = "".join(f'<th scope="col"{_kind(i)}>{cell}</th>' for i, cell in enumerate(header))
    lines = []
    for name, rows in body:
        for i, row in enumerate(rows):
            start = f'<th scope="row" rowspan="{len(rows)}">{name}</th>' if i == 0 else ""
            lines.append(f"<tr>{start}" + "".join(f"<td{_kind(1)}>{cell}</td>" for cell in row) + "</tr>")
    inside = "\n".join(lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{inside}\n</tbody></table></div>'


def _kind(column: int) -> str:
    return ' class="number"' if column else ""


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n{content}\n</details>"


def _figure(picture: bytes, title: str, caption: str) -> str:
    source = "data:image/png;base64," + base64.b64encode(picture).decode()
    return f'<figure><img src="{source}" alt="{escape(title)}"><figcaption>{caption}</figcaption></figure>'
