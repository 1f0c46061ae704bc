"""Whether the boxes of a whole file are in another convention than COCO's [x, y, width, height] in pixels.

Such a file is well-formed, and training on it finds nothing. It is recognized by what no file in the right convention
does: nearly all of its boxes fit another one, and many of them leave their images as they are. A few boxes, or a few
odd ones among many, prove nothing.
"""

from __future__ import annotations

import numpy as np

_REMEDY = "write [x, y, width, height] in pixels"
_TOLERANCE = 0.02  # of the sides of the image: boxes drawn by hand extend a little beyond it
_MOST = 0.95  # of boxes that fit another convention
_LEAST = 10  # boxes that prove something
_CORNERS_SHARE, _CENTRES_SHARE = 0.25, 0.1  # of boxes that leave their images


def wrong_convention(boxes: np.ndarray, sizes: np.ndarray) -> str | None:
    """What the boxes seem to be instead, and what to do; None if nothing speaks against them.

    Args:
        boxes: [N, 4], as the file has them.
        sizes: [N, 2] (width, height) of the image of each box, pixels.
    """
    if len(boxes) == 0:
        return None
    fractions = ((boxes >= 0) & (boxes <= 1)).all(1) & (sizes > 2).all(1)
    if fractions.mean() >= _MOST and (boxes[fractions] % 1 != 0).any():
        return f"the boxes are fractions of the image's size, 0…1, as in YOLO's format; {_REMEDY}"
    slack = _slack(sizes)
    beyond = boxes[:, :2] + boxes[:, 2:] > sizes + slack  # [N, 2]: on the right, at the bottom
    leaving = beyond.any(1).mean()
    corners = (boxes[:, 2:] > boxes[:, :2]).all(1) & (boxes[:, 2:] <= sizes + slack).all(1)
    if len(boxes) >= _LEAST and corners.mean() >= _MOST and leaving >= _CORNERS_SHARE:
        return (
            f"the boxes are corners [x1, y1, x2, y2]: read as they are, {leaving:.0%} of them leave their "
            f"images; {_REMEDY}"
        )
    half = boxes[:, 2:] / 2
    centres = (boxes[:, :2] - half >= -slack).all(1) & (boxes[:, :2] + half <= sizes + slack).all(1)
    # On both sides: whole outlines of people whose feet are below the image leave it at the bottom alone.
    if centres.mean() >= _MOST and beyond.sum(0).min() >= _LEAST and leaving >= _CENTRES_SHARE:
        return (
            "the boxes start at their centres [centre x, centre y, width, height]: read as they are, "
            f"{leaving:.0%} of them leave their images; {_REMEDY}"
        )
    return None


def share_leaving(boxes: np.ndarray, sizes: np.ndarray) -> float:
    """The share, 0…1, of boxes that leave their images by more than boxes drawn by hand do; 0 for a few boxes."""
    if len(boxes) < _LEAST:
        return 0.0
    slack = _slack(sizes)
    return float(((boxes[:, :2] < -slack) | (boxes[:, :2] + boxes[:, 2:] > sizes + slack)).any(1).mean())


def _slack(sizes: np.ndarray) -> np.ndarray:
    """[N, 2]: how far boxes may extend beyond their images, pixels."""
    return 1 + _TOLERANCE * sizes
