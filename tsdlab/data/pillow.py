"""Pillow without its global variables, which belong to the caller: the limit of pixels and the filters of warnings."""

from __future__ import annotations

import struct
import threading
import warnings
from typing import IO

from PIL import Image, ImageFile


def open_image(file: IO[bytes]) -> ImageFile.ImageFile:
    """As `PIL.Image.open`, without its limit of pixels.

    Says why a damaged file is not opened, and leaves out EPS, for which Pillow starts another program.
    """
    file.seek(0)
    prefix, tried = file.read(16), {"EPS"}
    reasons: list[str] = []
    for find_formats in (Image.preinit, Image.init):
        find_formats()
        for name in [name for name in Image.ID if name not in tried]:
            tried.add(name)
            factory, accept = Image.OPEN[name]
            accepted = accept(prefix) if accept else True
            if isinstance(accepted, str):
                reasons.append(accepted)
            elif accepted:
                file.seek(0)
                try:
                    return factory(file, "")
                except (SyntaxError, IndexError, TypeError, struct.error) as error:  # what Pillow's own loop goes on at
                    if accept:
                        reasons.append(f"{name}: {error}")
    raise SyntaxError(", ".join(reasons) or "not an image in a format that Pillow reads")


class _Quiet:
    """While any thread reads an image, warnings of Pillow are not shown: what matters in them becomes an error.

    `warnings.catch_warnings` alone would leave its filters behind if two threads use it at once.
    """

    def __init__(self) -> None:
        self._lock, self._readers, self._filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._filters.__exit__(None, None, None)


QUIET = _Quiet()
