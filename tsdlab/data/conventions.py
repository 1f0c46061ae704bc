"""Whether the boxes of a whole file are in another convention than COCO's [x, y, width, height] in pixels.

Such a file is well-formed, and training on it finds nothing. It is recognized by what no file in the right convention
does: all of its boxes fit another one, and many of them leave their images as they are.
"""

from __future__ import annotations

import numpy as np

_REMEDY = "write [x, y, width, height] in pixels"
_TOLERANCE = 0.02  # of the sides of the image: boxes drawn by hand extend a little beyond it
_CORNERS_SHARE = 0.25  # of boxes that leave their images
_CENTRES_SHARE, _CENTRES_LEAST = 0.1, 3


def wrong_convention(boxes: np.ndarray, sizes: np.ndarray) -> str | None:
    """What the boxes seem to be instead, and what to do; None if nothing speaks against them.

    Args:
        boxes: [N, 4], as the file has them.
        sizes: [N, 2] (width, height) of the image of each box, pixels.
    """
    if len(boxes) == 0:
        return None
    if (boxes >= 0).all() and (boxes <= 1).all() and (sizes > 2).all():
        return f"the boxes are fractions of the image's size, 0…1, as in YOLO's format; {_REMEDY}"
    slack = 1 + _TOLERANCE * sizes
    leaves = (boxes[:, :2] + boxes[:, 2:] > sizes + slack).any(1)
    corners = (boxes[:, 2:] > boxes[:, :2]).all(1) & (boxes[:, 2:] <= sizes + slack).all(1)
    if corners.all() and leaves.mean() >= _CORNERS_SHARE:
        return (
            f"the boxes are corners [x1, y1, x2, y2]: read as they are, {leaves.mean():.0%} of them leave their "
            f"images; {_REMEDY}"
        )
    half = boxes[:, 2:] / 2
    centres = (boxes[:, :2] - half >= -slack).all(1) & (boxes[:, :2] + half <= sizes + slack).all(1)
    if centres.all() and leaves.sum() >= _CENTRES_LEAST and leaves.mean() >= _CENTRES_SHARE:
        return (
            "the boxes start at their centres [centre x, centre y, width, height]: read as they are, "
            f"{leaves.mean():.0%} of them leave their images; {_REMEDY}"
        )
    return None
