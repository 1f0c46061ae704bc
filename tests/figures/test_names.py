"""Names in any script and with any character are drawn as they are: no formula, no error, no flood of warnings."""

from __future__ import annotations

import io
import warnings

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from matplotlib.text import Text

from tsdlab.figures import names as names_module
from tsdlab.figures import plots
from tsdlab.figures.names import drawn, families, find_fonts
from tsdlab.structures import BranchTrace

ODD = [
    "$x_1$", "$", "$$", r"a\$b$c$", "_private", "__background__", "{a}", r"\frac{1}{0}", "%", "^", "<script>",
    "a&amp;b", "line\nbreak", "tab\there", "../../etc/passwd", "", " ", "\u3164", "\u2800", "chien à poil",
    "猫", "狗", "کلب", "कुत्ता",
    "🐈", "👩‍👩‍👧", "\u202eevil", "\x00", "\ud800", "x" * 500,
    "a" * 100 + "b" + "a" * 100, "a" * 100 + "c" + "a" * 100,
    "ΔC", "½", "’", "N/A",
]  # fmt: skip


def branches(names: list[str]) -> dict[str, BranchTrace]:
    count = 1 + len(names)
    scores = torch.full((1, count), 1 / count)
    return {name: BranchTrace(scores, scores, torch.zeros(1, count, 4)) for name in (names[0], "tsd")}


def draw_everything(names: list[str]) -> Figure:
    figure = Figure(figsize=(12, 4))
    scores, image, curve, bars = figure.subplots(1, 4)
    plots.class_scores(branches(names), 0, names, scores)
    found = {
        "boxes": torch.tensor([[2.0, 2, 30, 30]] * len(names)),
        "labels": torch.arange(1, 1 + len(names)),
        "scores": torch.linspace(0.9, 0.6, len(names)),
    }
    plots.detections(torch.zeros(3, 64, 64), found, names, image)
    plots.training_curve({name: [{"step": 1, "total": 1.0}] for name in names}, ax=curve)
    plots.average_precision({name: dict.fromkeys(("AP", "AP50", "AP75"), 10.0) for name in names}, ax=bars)
    figure.savefig(io.BytesIO(), dpi=40)
    return figure


@pytest.fixture(autouse=True)
def told_already() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names_module._tell_missing()


@settings(max_examples=4, deadline=None)
@given(st.lists(st.text(max_size=12) | st.sampled_from(ODD), min_size=1, max_size=4, unique=True))
@example(ODD[::2])
@example(ODD[1::2])
def test_figures_with_any_names(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph, a legend without its entry, a layout that fails
        figure = draw_everything(names)
    scores, image, curve, bars = figure.axes
    expected = drawn(names)
    assert [label.get_text() for label in scores.get_yticklabels()] == drawn(["background", *names])
    assert [text.get_text() for text in image.texts] == [f" {text} {score:.2f} " for text, score in zip(
        expected, torch.linspace(0.9, 0.6, len(names)).tolist())]  # fmt: skip
    for ax in (curve, bars):
        assert [text.get_text() for text in ax.get_legend().get_texts()] == expected
    for text in figure.findobj(Text):
        assert not text._preprocess_math(text.get_text())[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=90) | st.sampled_from(ODD), max_size=8))
@example(ODD)
def test_drawn_names_are_short_visible_and_as_different_as_the_names(names: list[str]) -> None:
    texts = drawn(names)
    assert len(texts) == len(names) and len(set(texts)) == len(set(names))
    for text in texts:
        assert text.strip() and "\n" not in text and not text.startswith("_")
    for name, text in zip(names, texts):
        if (
            name.isascii()
            and name.isprintable()
            and len(name.strip()) > 0
            and len(name) <= 40
            and texts.count(text) == 1
        ):
            assert text.strip().replace(r"\$", "$") == name.strip()


def test_a_font_that_is_installed_is_used() -> None:
    """matplotlib brings fonts whose characters its usual one lacks."""
    usual = names_module._usual_characters(names_module.findfont(names_module.FontProperties()))
    lacking = next(
        chr(code)
        for font in names_module.fontManager.ttflist
        if font.name == "STIXGeneral" and font.style == "normal"
        for code in get_font(font.fname).get_charmap()
        if code not in usual and chr(code).isprintable() and not 0xD800 <= code < 0xF900
    )
    assert drawn([lacking]) == [lacking] and len(families(lacking)) == len(families("a")) + 1
    figure = Figure()
    text = figure.text(0, 0, f"a{lacking}")
    find_fonts(figure)
    assert text.get_fontfamily()[-1] == families(lacking)[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO())


def test_characters_that_no_font_has_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "_other_font", lambda _: None)
    names_module._tell_missing.cache_clear()
    with pytest.warns(UserWarning, match="no installed font has some characters"):
        assert drawn(["a猫", "狗"]) == [r"a\u732b", r"\u72d7"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(["牛"])
    plt.close("all")
