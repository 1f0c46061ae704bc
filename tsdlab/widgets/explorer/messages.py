"""What the page of an explorer is told, as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from tsdlab.analysis.pattern import Pattern
from tsdlab.analysis.proposal import BranchAnswer, Candidate, Conflict, LevelAnswer, Nearest, ProposalAnswer, Shortfall
from tsdlab.analysis.sensitivity import TASKS, SensitivityMaps
from tsdlab.figures.style import PALETTE
from tsdlab.structures import RegionTrace
from tsdlab.widgets.explorer.gallery import SIZES
from tsdlab.widgets.explorer.series import list_series
from tsdlab.widgets.explorer.session import ObjectMaps, OpenImage, Session, best_overlap
from tsdlab.widgets.explorer.state import ExplorerState
from tsdlab.widgets.pictured import image_url, veil_url

_SCREEN = 1600  # pixels; the longest side of an image when it is sent. Coordinates stay those of the image


def opening_message(session: Session, state: ExplorerState) -> dict[str, Any]:
    """What can be shown before any model has seen the first image: its pixels, unless it is still to be found."""
    found = state.order != "file" or state.category is not None or state.size is not None
    return {"models": session.models, "image": None if found else _pixels_message(session, state.image_index)}


def _pixels_message(session: Session, index: int) -> dict[str, Any]:
    pixels, _ = session.gallery[index]
    _, height, width = pixels.shape
    return {"index": index, "width": width, "height": height, "url": _picture_url(pixels)}


def session_message(session: Session) -> dict[str, Any]:
    """What stays the same while the explorer is open."""
    return {
        "palette": PALETTE,
        "names": ["background", *session.gallery.names],
        "series": [asdict(series) for series in list_series(session)],
        "models": session.models,
        "levels": session.levels,
        "branches": session.branches,
        "steps": session.steps,
        "sizes": SIZES,
        "count": len(session.gallery),
    }


def image_message(session: Session, listed: Sequence[int], conflict: Conflict | None) -> dict:
    """The open image.

    Args:
        listed: indices of the images that can be stepped through.
        conflict: the one to show, if any.
    """
    image, names = session.image, session.gallery.names
    truth = image.truth
    _, height, width = image.pixels.shape
    return {
        "index": image.index,
        "position": listed.index(image.index) + 1 if image.index in listed else None,
        "listed": len(listed),
        "width": width,
        "height": height,
        "url": _picture_url(image.pixels),
        "objects": [
            {"box": box, "label": label, "name": names[label - 1]}
            for box, label in zip(truth.boxes.tolist(), truth.labels.tolist())
        ],
        "by_kernel": session.by_kernel,
        "salient": [] if truth.salient_boxes is None else truth.salient_boxes.tolist(),
        "proposals": {
            model: [
                [*_rounded_box(box), round(score, 4), round(iou, 4)]
                for box, score, iou in zip(boxes, scores.tolist(), best_overlap(boxes, truth).tolist())
            ]
            for model, (boxes, scores) in image.proposed.items()
        },
        "conflict": conflict and {
            "index": conflict.object,
            "name": names[conflict.label - 1],
            "by_score": _candidate_message(conflict.by_score),
            "by_iou": _candidate_message(conflict.by_iou),
        },
    }  # fmt: skip


def _picture_url(pixels: Tensor) -> str:
    """An image [3, H, W] in 0…1."""
    return image_url(pixels.permute(1, 2, 0).cpu().numpy(), _SCREEN)


def answer_message(image: OpenImage, names: Sequence[str]) -> dict:
    """What every model says about the proposal that was last asked about."""
    answers = image.answers
    first = next(iter(answers.values()))
    return {
        "image": image.index,
        "proposal": first.proposal.tolist(),
        "nearest": first.nearest and _nearest_message(first.nearest, names),
        "models": {name: _model_message(answer) for name, answer in answers.items()},
    }


def maps_message(found: ObjectMaps) -> dict:
    """The sensitivity maps of an object as pictures in the colours of the tasks, by level.

    `top` is the value where a picture is opaque; it is clear where the value is 0. `peak` is (x, y) in pixels, and
    `distance` is that between both peaks, in fractions of the object's size. A flat map has no peak.
    """
    maps, branch = found.maps, found.branch
    levels: dict[str, Any] = {}
    for level in maps.levels:
        peaks = {task: maps.peak(level, branch, task) for task in TASKS}
        levels[level] = {
            task: {
                **_map_message(maps, level, branch, task),
                "peak": [round(v, 1) for v in peaks[task].tolist()] if peaks[task].isfinite().all() else None,
            }
            for task in TASKS
        }
        distance = maps.peak_distance(level, branch)
        levels[level]["distance"] = distance if math.isfinite(distance) else None
    return {"branch": branch, "image": found.image, "object": found.object, "levels": levels}


def _map_message(maps: SensitivityMaps, level: str, branch: str, task: str) -> dict:
    values: Tensor = getattr(maps.levels[level][branch], task)
    top = max(values.max().item(), 1e-6)
    return {"url": veil_url(values.numpy() / top, PALETTE[task]), "top": top}


def pattern_message(patterns: Mapping[str, Mapping[str, Pattern]]) -> dict:
    """The displacement that all proposals have in common, by model and task, and in how many images it was seen."""
    images = [pattern.images for by_task in patterns.values() for pattern in by_task.values()]
    return {
        "images": max(images, default=0),
        "models": {name: {task: _pattern_message(each) for task, each in by.items()} for name, by in patterns.items()},
    }


def _pattern_message(pattern: Pattern) -> dict:
    offsets = pattern.offsets.flatten(0, 1).tolist()  # [bins², 2]
    return {"moved": pattern.moved, "offsets": [[round(v, 4) for v in offset] for offset in offsets]}


def _candidate_message(candidate: Candidate) -> dict:
    return {
        "proposal": [round(v, 2) for v in candidate.proposal],
        "box": [round(v, 2) for v in candidate.box],
        "score": candidate.score,
        "iou": candidate.iou,
    }


def _nearest_message(nearest: Nearest, names: Sequence[str]) -> dict:
    return {
        "index": nearest.index,
        "name": names[nearest.label - 1],
        "label": nearest.label,
        "overlap": nearest.overlap,
    }


def _model_message(answer: ProposalAnswer) -> dict:
    return {
        "assigned": answer.assigned,
        "level": answer.level,
        "branches": {name: _branch_message(branch) for name, branch in answer.branches.items()},
        "levels": {name: _level_message(at_level) for name, at_level in answer.levels.items()},
        "constraint": [
            _shortfall_message(term) for term in (answer.classification_constraint, answer.localization_constraint)
        ],
    }


def _branch_message(branch: BranchAnswer) -> dict:
    return {
        "scores": [round(score, 4) for score in branch.scores.tolist()],
        "box": _rounded_box(branch.box),
        "label": branch.label,
        "iou": branch.iou,
    }


def _level_message(at_level: LevelAnswer) -> dict:
    used = next(reversed(at_level.branches.values()))
    return {
        "score": used.score,
        "iou": used.iou,
        "label": used.label,
        "branches": {name: {"score": branch.score, "iou": branch.iou} for name, branch in at_level.branches.items()},
        "regions": {task: _region_message(region) for task, region in at_level.regions.items()},
    }


def _region_message(region: RegionTrace) -> dict:
    """`points` is None where the bins are the plain grid of the box."""
    points = region.points.flatten(0, 1).tolist()  # [bins², 2]
    return {
        "box": _rounded_box(region.boxes),
        "points": [[round(v, 2) for v in point] for point in points] if region.deformed else None,
        "moved": region.moved.item(),
    }


def _shortfall_message(term: Shortfall | None) -> dict | None:
    return (
        None if term is None else {"value": term.value, "sibling": term.sibling, "own": term.own, "margin": term.margin}
    )


def _rounded_box(box: Tensor) -> list[float]:
    return [round(v, 2) for v in box.tolist()]
