"""A proposal of a table with the part of its image around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tsdlab.analysis.tables import FollowedTable
from tsdlab.data.items import as_items
from tsdlab.structures import RegionTrace, map_tensors

_KEPT = 12  # images; examples often stay the same while a filter is dragged
_ROOM = 1.16  # side of a crop in sizes of what it shows


@dataclass(frozen=True)
class Crop:
    """What is drawn for one row; boxes xyxy in pixels of the image."""

    image: Tensor  # [3, H, W] the whole image, 0…1
    view: tuple[float, float, float]  # (x, y, side) of the square that is shown
    proposal: np.ndarray  # [4]
    truth: np.ndarray  # [4] the object
    regions: dict[str, RegionTrace]  # by task, of this proposal alone


class Crops:
    """Crops of the rows of a table.

    Args:
        table: the proposals.
        dataset: the data set they come from.
    """

    def __init__(self, table: FollowedTable, dataset: Any) -> None:
        self._table, self._dataset = table, as_items(dataset)
        self._items: dict[int, tuple[Tensor, dict[str, Any]]] = {}  # by image, the one used last at the end

    def __getitem__(self, row: int) -> Crop:
        table = self._table
        image, target = self._item(int(table.images[row]))
        proposal = table.followed.proposals[row].numpy()
        truth = target["boxes"][int(table.followed.objects[row])].numpy()
        regions = map_tensors(lambda of_all: of_all[row], table.followed.regions)
        shown = (np.asarray(region.points if region.deformed else region.boxes) for region in regions.values())
        return Crop(image, _square_around(proposal, truth, *shown), proposal, truth, regions)

    def _item(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        item = self._items.pop(index, None) or self._dataset[index]
        self._items[index] = item
        if len(self._items) > _KEPT:
            del self._items[next(iter(self._items))]
        return item


def _square_around(*shapes: np.ndarray) -> tuple[float, float, float]:
    """(x, y, side) of a square with some room around boxes [4] and points [..., 2]."""
    places = np.concatenate([shape.reshape(-1, 2) for shape in shapes])
    low, high = places.min(axis=0), places.max(axis=0)
    side = _ROOM * float((high - low).max())
    x, y = ((low + high - side) / 2).tolist()
    return x, y, side
