"""Images in the order of how much score and box of a model disagree in them. They are asked about bit by bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from tsdlab.analysis.proposal import Conflict, find_conflict
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe
from tsdlab.widgets.explorer.gallery import Gallery

_TELL_EVERY = 5  # images; asking about them takes about a second


class Scan:
    """What is known about the conflicts of images.

    Args:
        most: how many images of a list are asked about at most.
    """

    def __init__(self, gallery: Gallery, detectors: Mapping[str, Detector], most: int) -> None:
        self._gallery, self._detectors, self.most = gallery, detectors, most
        self._conflicts: dict[tuple[str, int], Conflict | None] = {}

    def conflict(self, model: str, index: int) -> Conflict | None:
        """The conflict of a model in an image; None if there is none, or if the model was not asked about it yet."""
        return self._conflicts.get((model, index))

    def progress(self, model: str, listed: Sequence[int]) -> tuple[int, int]:
        """How many images of a list a model was asked about, and how many it is to be asked about."""
        asked = listed[: self.most]
        return sum((model, index) in self._conflicts for index in asked), len(asked)

    def go_on(
        self,
        model: str,
        listed: Sequence[int],
        seconds: float = math.inf,
        tell: Callable[[int, int], None] | None = None,
    ) -> None:
        """Ask a model about images of a list that it was not asked about: about one at least, for `seconds`.

        Args:
            tell: is called with `progress` from time to time.
        """
        until = time.monotonic() + seconds
        missing = [index for index in listed[: self.most] if (model, index) not in self._conflicts]
        for count, index in enumerate(missing):
            if tell is not None and count % _TELL_EVERY == 0:
                tell(*self.progress(model, listed))
            pixels, truth = self._gallery[index]
            self._conflicts[model, index] = find_conflict(Probe(self._detectors[model], pixels), truth)
            if time.monotonic() >= until:
                return

    def sort(self, model: str, listed: Sequence[int]) -> list[int]:
        """The images of a list, the largest known gap first; those without one keep their order."""

        def gap(index: int) -> float:
            found = self.conflict(model, index)
            return -1.0 if found is None else found.gap

        scanned, others = listed[: self.most], listed[self.most :]
        return sorted(scanned, key=gap, reverse=True) + list(others)
