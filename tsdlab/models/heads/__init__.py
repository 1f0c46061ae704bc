"""The heads. `tsdlab.config.HEADS` lists them by name; `build_head` makes the one that a config asks for."""

from __future__ import annotations

from importlib import import_module

from tsdlab.config import HEADS, Config
from tsdlab.models.heads.base import Head


def build_head(config: Config) -> Head:
    """The head that `config.head` names, with random weights."""
    module, _, name = HEADS[config.head].partition(":")
    head: Head = getattr(import_module(module), name)(config)
    return head


__all__ = ["Head", "build_head"]
