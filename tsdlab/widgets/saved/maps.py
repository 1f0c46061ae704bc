"""The sensitivity maps that a saved page holds: of every object of an image, for every model, branch and level.

The page's side is maps.js.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from tsdlab.analysis.sensitivity import TASKS, Pooling
from tsdlab.widgets.explorer.messages import maps_message
from tsdlab.widgets.explorer.session import ObjectMaps, OpenImage

STEPS = 127  # from 0 to a map's top; twice as many would make the values a quarter longer, and nobody sees them


def stored_maps(image: OpenImage) -> tuple[list[dict[str, Any]], bytes]:
    """The maps as the explorer tells them, without pictures, and the values of the pictures.

    Returns:
        For each object, model, way of pooling and branch, what `maps_message` says, with `model`, `pooling` and the
        `shape` [rows, columns] of its pictures; and one byte for each value of each picture, by level and task in the
        order of the messages. A value is stored as what is left of it after a prediction from its neighbours.
    """
    messages, values = [], []
    for index, box in enumerate(image.truth.boxes.tolist()):
        for model, answer in image.ask(tuple(box), None).items():
            if answer.nearest is None or answer.nearest.index != index:  # an object with the same box came before
                continue
            for pooling in get_args(Pooling):
                for branch in answer.branches:
                    found = image.sensitivity_maps(model, answer, branch, pooling)
                    assert found is not None  # there is an object
                    messages.append({"model": model, "pooling": pooling, **_without_pictures(found)})
                    values.append(_pictures(found))
    return messages, b"".join(values)


def _without_pictures(found: ObjectMaps) -> dict[str, Any]:
    message = maps_message(found)
    for level in message["levels"].values():
        for task in TASKS:
            del level[task]["url"]
    return {**message, "shape": list(found.maps.grid.shape)}


def _pictures(found: ObjectMaps) -> bytes:
    maps = [getattr(level[found.branch], task).numpy() for level in found.maps.levels.values() for task in TASKS]
    scaled = [(values / max(values.max(), 1e-6) * STEPS).round() for values in maps]
    values = np.stack(scaled).astype(np.uint8)  # [maps, rows, columns]
    for axis in (1, 2):  # differences wrap around, and so do the sums that undo them
        values = np.diff(values, axis=axis, prepend=np.uint8(0))
    return values.tobytes()
