"""Names in the tables of a terminal: in any script, on one line, in columns that line up."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tsdlab.errors import shown

_LONGEST = 60  # characters


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes: two for a Chinese character or an emoji, none for an accent."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def name_column(names: Sequence[str], head: str = "") -> list[str]:
    """`head` and the names as the left column of a table: shortened, and all equally wide."""
    texts = [head, *(shown(name, _LONGEST) for name in names)]
    width = max(map(width_of, texts))
    return [text + " " * (width - width_of(text)) for text in texts]
