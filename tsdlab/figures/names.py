"""Names of classes, models and runs in figures: they may be in any script and hold any character."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from functools import cache

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from tsdlab.errors import shown

_LONGEST = 40  # characters
_BLANK = "\u115f\u1160\u2800\u3164"  # letters that look like spaces


def drawn(names: Iterable[str]) -> list[str]:
    """Names as text for matplotlib: on one line, shortened, and never as a formula. Different names stay different.

    Characters that no installed font has are written as their codes; a warning says so once.
    """
    names = list(names)
    texts: dict[str, str] = {}
    for name in names:
        text = _as_text(name)
        count = 1
        while text in texts.values() and name not in texts:
            count += 1
            text = f"{_as_text(name)} ({count})"
        texts.setdefault(name, text)
    return [texts[name] for name in names]


def find_fonts(artist: Artist) -> None:
    """Give every text of a figure or axes fonts for all of its characters."""
    for text in artist.findobj(Text):
        text.set_fontfamily(families(text.get_text(), text.get_fontfamily()))


def families(text: str, own: Sequence[str] | None = None) -> list[str]:
    """The font families for a text: its own (by default the usual ones), then those for characters they lack."""
    own = list(mpl.rcParams["font.family"] if own is None else own)
    others = (_other_font(c) for c in text if not _is_usual(c))
    return list(dict.fromkeys([*own, *(font for font in others if font is not None)]))


def _as_text(name: str) -> str:
    text = shown(name, _LONGEST)
    if all(unicodedata.category(c)[0] in "ZC" or c in _BLANK for c in text):
        text = f"“{text}”"
    missing = {c for c in text if not _is_usual(c) and _other_font(c) is None}
    if missing:
        _tell_missing()
    text = "".join(c.encode("unicode_escape").decode() if c in missing else c for c in text)
    text = text.replace("$", r"\$")  # else two of them would enclose a formula
    return f" {text}" if text.startswith("_") else text  # which would keep it from a legend


@cache  # so that it is said once
def _tell_missing() -> None:
    warnings.warn(
        "no installed font has some characters of a name; figures show their codes. Install a font that has them, such "
        "as those of Noto",
        stacklevel=2,
    )


@cache
def _usual_characters(font: str) -> frozenset[int]:
    return frozenset(get_font(font).get_charmap())


def _is_usual(character: str) -> bool:
    return ord(character) in _usual_characters(findfont(FontProperties()))


@cache
def _other_font(character: str) -> str | None:
    """The family of an installed font that has a character."""
    for font in fontManager.ttflist:
        # Fonts of colours are bitmaps, which matplotlib cannot draw.
        if font.style != "normal" or "Color" in font.name or "LastResort" in font.name.replace(" ", ""):
            continue
        try:
            if get_font(font.fname).get_char_index(ord(character)):
                return font.name
        except Exception:  # a font that cannot be opened
            continue
    return None
