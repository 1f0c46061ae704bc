"""What a page needs to compute the second stage of a detector by itself: the head's layers, and an image's pyramid.

Values travel as float16, little-endian, all arrays of a buffer one after the other. The page's side is unpack.js.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tsdlab.models.detector import Detector
from tsdlab.models.heads.d_head import DHead
from tsdlab.models.heads.sibling import SiblingHead
from tsdlab.models.heads.tsd import TSDHead
from tsdlab.models.probe import Probe

# Weights and samples, times levels, are the multiplications of one answer. A browser does about a million in a
# millisecond.
MOST_MULTIPLICATIONS = 60_000_000
MOST_FEATURES = 8_000_000  # values of an image's pyramid; twice as many bytes are sent when the image is opened


@dataclass(frozen=True)
class Packed:
    """Arrays as one buffer, and what they are."""

    about: dict[str, Any]  # for JSON
    values: bytes  # float16, little-endian


@dataclass(frozen=True)
class TooLarge:
    """Why a page cannot compute something."""

    reason: str


def pack_head(detector: Detector) -> Packed | TooLarge:
    """The second stage of a detector, if a page can compute it."""
    head, roi = detector.roi_heads.head, detector.config.roi
    find = _LAYERS.get(type(head))  # not of a subclass, which may compute something else
    if find is None:
        return TooLarge(f"the head {detector.config.head!r} runs in Python only")
    layers = find(head)
    pooler = detector.roi_heads.pooler
    weights = sum(layer.weight.numel() for layer in layers.values())
    features = next(iter(layers.values())).in_features  # channels × bins²; each is a mean of four cells for each sample
    multiplications = (weights + 4 * pooler.sampling_ratio**2 * features) * len(pooler.strides)
    if multiplications > MOST_MULTIPLICATIONS:
        return TooLarge(f"the head needs {multiplications / 1e6:.0f} million multiplications for an answer")
    values = _half(
        part
        for name, layer in layers.items()
        for part in (_sent_weight(name, layer.weight, roi.output_size), layer.bias)
    )
    if values is None:
        return TooLarge("weights of the head are larger than float16 can hold")
    tsd = detector.config.tsd
    about = {
        "head": detector.config.head,
        "bins": roi.output_size,
        "samples": pooler.sampling_ratio,
        "aligned": pooler.aligned,
        "canonical": pooler.canonical_size,
        "strides": list(pooler.strides),
        "levels": [str(i) for i in range(len(pooler.strides))],
        "gamma": tsd.gamma,
        "moves": {"classification": tsd.classification_region, "localization": tsd.localization_region},
        "margins": [tsd.classification_margin, tsd.localization_margin],
        "layers": [[name, *layer.weight.shape] for name, layer in layers.items()],
    }
    return Packed(about, values)


def pack_pyramid(probe: Probe) -> Packed | TooLarge:
    """The features of an image that regions are pooled from."""
    maps = [probe.features[level] for level in probe.pooled]
    count = sum(m.numel() for m in maps)
    if count > MOST_FEATURES:
        return TooLarge(f"the pyramid of the image has {count / 1e6:.0f} million values")
    values = _half([m[0].permute(1, 2, 0) for m in maps])
    if values is None:
        return TooLarge("features of the image are larger than float16 can hold")
    (height, width), (seen_height, seen_width) = probe.image_size, probe.seen_size
    about = {
        "ratio": [width / seen_width, height / seen_height],
        "seen": [seen_width, seen_height],
        "maps": [
            {"height": m.shape[2], "width": m.shape[3], "channels": m.shape[1], "scale": 1 / stride}
            for m, stride in zip(maps, probe.model.roi_heads.pooler.strides)
        ],
    }
    return Packed(about, values)


def _half(parts: Iterable[Tensor]) -> bytes | None:
    """All values in order as float16; None if one of them is too large for it."""
    values = torch.cat([part.detach().flatten().half() for part in parts])
    return values.cpu().numpy().astype("<f2").tobytes() if bool(values.isfinite().all()) else None


def _sent_weight(name: str, weight: Tensor, bins: int) -> Tensor:
    """A layer's weight [outputs, inputs] as it is sent.

    A layer that reads RoI features has them in the order [channels, bins, bins]. A page pools bin by bin, so its order
    is [bins, bins, channels].
    """
    if not name.endswith(_READ_FEATURES):
        return weight
    return weight.unflatten(1, (-1, bins * bins)).transpose(1, 2)


# The layers of each head, by the names that heads.js has for them.

_READ_FEATURES = ("fc6", "trunk")


def _of_sibling(head: SiblingHead) -> dict[str, nn.Linear]:
    return {
        "sibling.fc6": head.box_head.fc6,
        "sibling.fc7": head.box_head.fc7,
        "sibling.cls": head.box_predictor.cls_score,
        "sibling.box": head.box_predictor.bbox_pred,
    }


def _of_branches(head: DHead | TSDHead) -> dict[str, nn.Linear]:
    return {
        f"{task}.{name}": layer
        for task in ("classification", "localization")
        for branch in [getattr(head, task)]
        for name, layer in (("fc6", branch.fc.fc6), ("fc7", branch.fc.fc7), ("out", branch.out))
    }


def _of_tsd(head: TSDHead) -> dict[str, nn.Linear]:
    own_trunk = {} if head.localization_trunk is None else {"localization_trunk": head.localization_trunk}
    nets = {"classification_offset": head.classification_offset, "localization_offset": head.localization_offset}
    return {
        "offset_trunk": head.offset_trunk,
        **own_trunk,
        **{f"{name}.{i}": cast(nn.Linear, net[i]) for name, net in nets.items() for i in (0, 2)},
        **_of_branches(head),
        **({} if head.sibling is None else _of_sibling(head.sibling)),
    }


_LAYERS: dict[type, Callable[[Any], dict[str, nn.Linear]]] = {
    SiblingHead: _of_sibling,
    DHead: _of_branches,
    TSDHead: _of_tsd,
}
