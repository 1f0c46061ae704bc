"""The heads by name. A new head is one new file, its name in `config.HeadName`, and one line here."""

from __future__ import annotations

from tsdlab.config import Config
from tsdlab.errors import InputError
from tsdlab.models.heads.base import Head
from tsdlab.models.heads.d_head import DHead
from tsdlab.models.heads.double import DoubleHead
from tsdlab.models.heads.iou import IoUHead
from tsdlab.models.heads.sibling import SiblingHead
from tsdlab.models.heads.tsd import TSDHead

HEADS: dict[str, type[Head]] = {
    "sibling": SiblingHead,
    "d_head": DHead,
    "double": DoubleHead,
    "iou": IoUHead,
    "tsd": TSDHead,
}


def build_head(config: Config) -> Head:
    """The head `config.head` names. Raises ValueError listing the known heads."""
    if config.head not in HEADS:
        raise InputError(f"unknown head {config.head!r}; known heads: {', '.join(HEADS)}")
    return HEADS[config.head](config)


__all__ = ["HEADS", "Head", "build_head"]
