"""What the page of an explorer is told, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
from matplotlib import colormaps
from torch import Tensor

from tsdlab.analysis.proposal import BranchAnswer, Candidate, Conflict, LevelAnswer, Nearest, ProposalAnswer, Shortfall
from tsdlab.figures import plots
from tsdlab.structures import RegionTrace
from tsdlab.widgets.explorer.gallery import SIZES
from tsdlab.widgets.explorer.series import list_series
from tsdlab.widgets.explorer.session import OpenImage, SensitivityMap, Session, best_overlap
from tsdlab.widgets.pictured import image_url

_COLORMAP = "viridis"
_SCREEN = 1600  # pixels; the longest side of an image when it is sent. Coordinates stay those of the image


def session_message(session: Session) -> dict[str, Any]:
    """What stays the same while the explorer is open."""
    return {
        "palette": plots.PALETTE,
        "names": ["background", *session.gallery.names],
        "series": [asdict(series) for series in list_series(session)],
        "models": session.models,
        "levels": session.levels,
        "branches": session.branches,
        "sizes": SIZES,
        "count": len(session.gallery),
        "gradient": _gradient(),
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
        "url": image_url(image.pixels.permute(1, 2, 0).cpu().numpy(), _SCREEN),
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


def map_message(found: SensitivityMap) -> dict:
    """A sensitivity map as a picture; `top` is the value of its brightest colour."""
    top = max(found.values.max().item(), 1e-6)
    picture = colormaps[_COLORMAP](found.values.numpy() / top)[..., :3]
    return {"url": image_url(picture), "top": top, "branch": found.branch, "level": found.level}


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


@cache
def _gradient(steps: int = 6) -> list[str]:
    """Colours of the sensitivity maps from 0 to the top, for CSS."""
    colors = colormaps[_COLORMAP](np.linspace(0, 1, steps), bytes=True)
    return [f"rgb({red} {green} {blue})" for red, green, blue, _ in colors]
