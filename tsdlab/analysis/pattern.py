"""The displacement that all proposals of a data set have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe


@dataclass(frozen=True, eq=False)
class Pattern:
    """Mean displacement of every bin, over all RPN proposals of some images.

    On the shipped models it is nearly the same on every level, so there is one for all levels.
    """

    offsets: Tensor  # [bins, bins, 2] (dx, dy) in fractions of P's size
    images: int

    @property
    def moved(self) -> float:
        """Mean length over the bins, in fractions of P's size."""
        return self.offsets.norm(dim=-1).mean().item()


def measure_pattern(detectors: Mapping[str, Detector], images: Iterable[Tensor]) -> dict[str, dict[str, Pattern]]:
    """By model and task, the pattern of every task whose bins are moved one by one.

    Args:
        detectors: by name.
        images: [3, H, W] each, in 0…1.
    """
    count = 0
    found: dict[str, dict[str, list[Tensor]]] = {name: {} for name in detectors}
    for pixels in images:
        count += 1
        for name, detector in detectors.items():
            for task, region in Probe(detector, pixels).trace().regions.items():
                if region.deformed:
                    found[name].setdefault(task, []).append(region.offsets.cpu())
    return {
        name: {task: Pattern(torch.cat(offsets).mean(dim=0), count) for task, offsets in by_task.items()}
        for name, by_task in found.items()
    }
