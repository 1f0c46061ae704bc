"""Public names of a package that are imported when they are first used, so that importing the package is quick."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # the command line handles Ctrl-C only after this file is imported, so it imports little
if TYPE_CHECKING:
    from collections.abc import Callable
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
        from importlib import import_module

        names[name] = getattr(import_module(homes[name]), name)
        return names[name]

    def dir_() -> list[str]:
        return sorted({*names, *homes})

    return getattr_, dir_
