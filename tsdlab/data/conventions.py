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


class BoxHabits:
    """How many of the boxes of a file do what boxes in another convention do.

    Attributes:
        boxes: how many boxes were added.
    """

    def __init__(self) -> None:
        self.boxes = 0
        self._fractions = self._true_fractions = 0  # all four in 0…1; those that are not 0 and 1 alone
        self._corners = self._centres = 0  # boxes that lie in their images if they are read that way
        self._right_below = self._leaving = 0  # boxes that leave their images on the right or below; on any side
        self._by_side = np.zeros(2, np.int64)  # on the right, below

    def add(self, boxes: np.ndarray, sizes: np.ndarray) -> None:
        """Count more boxes.

        Args:
            boxes: [N, 4], as the file has them.
            sizes: [N, 2] (width, height) of the image of each box, pixels.
        """
        self.boxes += len(boxes)
        fractions = ((boxes >= 0) & (boxes <= 1)).all(1) & (sizes > 2).all(1)
        self._fractions += int(fractions.sum())
        self._true_fractions += int((boxes[fractions] % 1 != 0).any(1).sum())
        slack = 1 + _TOLERANCE * sizes  # [N, 2]: how far boxes may extend beyond their images, pixels
        beyond = boxes[:, :2] + boxes[:, 2:] > sizes + slack  # [N, 2]
        self._by_side += beyond.sum(0)
        self._right_below += int(beyond.any(1).sum())
        self._leaving += int((beyond | (boxes[:, :2] < -slack)).any(1).sum())
        corners = (boxes[:, 2:] > boxes[:, :2]).all(1) & (boxes[:, 2:] <= sizes + slack).all(1)
        self._corners += int(corners.sum())
        half = boxes[:, 2:] / 2
        centres = (boxes[:, :2] - half >= -slack).all(1) & (boxes[:, :2] + half <= sizes + slack).all(1)
        self._centres += int(centres.sum())

    def wrong_convention(self) -> str | None:
        """What the boxes seem to be instead, and what to do; None if nothing speaks against them."""
        if not self.boxes:
            return None
        most, leaving = _MOST * self.boxes, self._right_below / self.boxes
        if self._fractions >= most and self._true_fractions:
            return f"the boxes are fractions of the image's size, 0…1, as in YOLO's format; {_REMEDY}"
        if self.boxes >= _LEAST and self._corners >= most and leaving >= _CORNERS_SHARE:
            return (
                f"the boxes are corners [x1, y1, x2, y2]: read as they are, {leaving:.0%} of them leave their "
                f"images; {_REMEDY}"
            )
        # On both sides: whole outlines of people whose feet are below the image leave it at the bottom alone.
        if self._centres >= most and self._by_side.min() >= _LEAST and leaving >= _CENTRES_SHARE:
            return (
                "the boxes start at their centres [centre x, centre y, width, height]: read as they are, "
                f"{leaving:.0%} of them leave their images; {_REMEDY}"
            )
        return None

    def share_leaving(self) -> float:
        """The share, 0…1, of boxes that leave their images by more than boxes drawn by hand do; 0 for a few boxes."""
        return self._leaving / self.boxes if self.boxes >= _LEAST else 0.0
