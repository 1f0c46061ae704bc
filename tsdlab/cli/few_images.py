"""A warning that every command that measures gives alike."""

from __future__ import annotations

import sys


def warn_of_few(images: int, consequence: str) -> None:
    """Print a warning if a number of images is small, with what follows from it."""
    from tsdlab.analysis.statistics import FEW_IMAGES

    if images < FEW_IMAGES:
        print(f"tsdlab: warning: {images} images are few; {consequence}", file=sys.stderr)
