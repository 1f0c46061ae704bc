"""Public names of a package that are imported when they are first used, so that importing the package is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: its `__name__`.
        homes: each public name with the module that defines it.
    """
    names = vars(sys.modules[package])

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names[name] = getattr(import_module(homes[name]), name)
        return names[name]

    def dir_() -> list[str]:
        return sorted({*names, *homes})

    return getattr_, dir_
