"""What an explorer says of P in words. `finding.js` says the same on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TASKS = ("classification", "localization")

# A piece of text, and the role whose colour it has.
Run = tuple[str, str | None]


def find_headline(names: Sequence[str], image: Mapping[str, Any], answer: Mapping[str, Any]) -> list[list[Run]]:
    """The lines of the headline.

    Args:
        names: of the classes, with that of the background first.
        image: its "width" and "height", pixels.
        answer: a message, as `tsdlab.widgets.explorer.messages.answer_message` makes it.
    """
    models = answer["models"]
    fit = _fit(image, answer)
    if len(models) == 1:
        (own,) = models.values()
        branches = [[(f"{name}: ", None), *_verdict(names, branch)] for name, branch in own["branches"].items()]
        (first, role), *others = _moved(answer["proposal"], own)
        moved = [(first[0].upper() + first[1:], role), *others, (".", None)]
        return [moved, [*fit, (" → ", None), *_joined(branches, " · "), (".", None)]]
    lines = [[*fit, (".", None)]]
    for name, own in models.items():
        verdict = _verdict(names, list(own["branches"].values())[-1])
        lines.append([
            (name, "model"), (": ", None), *_moved(answer["proposal"], own), (" → ", None), *verdict, (".", None)
        ])  # fmt: skip
    return lines


def _fit(image: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Run]:
    """How P itself lies."""
    (x1, y1, x2, y2), nearest = answer["proposal"], answer["nearest"]
    if x2 < 0 or y2 < 0 or x1 > image["width"] or y1 > image["height"]:
        return [("P lies outside the image", None)]
    if nearest is None:
        return [("The image has no objects to compare with", None)]
    name = (f"‘{nearest['name']}’", "truth")
    if nearest["overlap"] > 0:
        return [("P fits ", None), name, (f" at IoU {nearest['overlap']:.2f}", None)]
    return [("P overlaps no object, the nearest one is ", None), name]


def _moved(proposal: Sequence[float], own: Mapping[str, Any]) -> list[Run]:
    """How far each task is moved from P at the level in use."""
    x1, y1, x2, y2 = proposal
    regions = own["levels"][own["level"]]["regions"]
    moved = [task for task in TASKS if task in regions]
    if not moved:
        return [("both tasks read P itself, nothing is moved", None)]
    if x1 == x2 or y1 == y2:
        return [("P has no area, so no displacement can be compared with it", None)]
    far: list[list[Run]] = [
        [(f"{task} {'' if i else 'moved '}{100 * regions[task]['moved']:.1f} %", task)] for i, task in enumerate(moved)
    ]
    still = [
        run for task in TASKS if task not in regions for run in ((", ", None), (task, task), (" reads P itself", None))
    ]
    return [*_joined(far, ", "), (" of P", None), *still]


def _verdict(names: Sequence[str], branch: Mapping[str, Any]) -> list[Run]:
    """What a branch says: of the object's class if P overlaps the object, else of the class with the highest score."""
    scores = branch["scores"]
    if branch["iou"] is not None:
        return [
            (f"score {scores[branch['label']]:.2f}", "classification"), (", ", None),
            (f"box IoU {branch['iou']:.2f}", "localization"),
        ]  # fmt: skip
    best = max(range(len(scores)), key=scores.__getitem__)
    name = f"‘{names[best]}’" if best else names[best]
    return [(f"{name} {scores[best]:.2f}", "classification")]


def _joined(parts: Sequence[Sequence[Run]], separator: str) -> list[Run]:
    return [run for i, part in enumerate(parts) for run in ([(separator, None)] if i else []) + list(part)]
