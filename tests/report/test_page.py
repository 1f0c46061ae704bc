"""The order of the page, what is folded, and text that is markup elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from analyses import about, analysis, moved_by
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.examples import Example, Shown, choose_shown
from tsdlab.analysis.misalignment import Misalignment
from tsdlab.config import Config
from tsdlab.data import CocoDataset
from tsdlab.models.build import build_detector
from tsdlab.report.levels import hidden_levels, without
from tsdlab.report.page import Source, page
from tsdlab.report.pictures import PICTURES

SOURCE = Source("own", "tsd", "data/own", "val", "line")
# The analyses here have maps by gradients alone.
NAMED = [name for name in PICTURES if name not in ("measures-proposals.png", "moved-proposals.png")]
MARKUP = ["<script>alert(1)</script>", "{{ 7 * 7 }}", "]]>", "&amp;", "<details open>", "%d", "é.jpg", "a/b c.png"]


class Reader(HTMLParser):
    """What a page says, in order: (text, the elements that it stands in), and the names of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        self.tags: list[str] = []
        self.pictures: dict[str, tuple[str, ...]] = {}  # alt → elements
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures[str(dict(attributes)["alt"])] = tuple(self._open)
        elif tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((" ".join(data.split()), tuple(self._open)))

    def within(self, tag: str) -> list[str]:
        return [text for text, elements in self.texts if tag in elements]


@pytest.fixture(scope="module")
def shown(tiny_data, tiny_config: Config) -> Shown:
    torch.manual_seed(0)
    model = build_detector(replace(tiny_config, head="tsd")).eval()
    return choose_shown(model, CocoDataset(tiny_data, "val"), images=5, count=2, progress=False)


@pytest.fixture(scope="module")
def found() -> Analysis:
    peaks = {level: {"sibling": about(0.278), "tsd": about(0.286)} for level in ("0", "1", "pool")}
    moved = {"all": moved_by(0.18, 0.15, 57), "0": moved_by(0.18, 0.15, 50), "1": moved_by(0.2, 0.1, 7)}
    whole = analysis(peaks, moved, {level: about(0.008, 0.02) for level in peaks}, {"0": 50, "1": 7})
    return replace(whole, misalignment=replace(whole.misalignment, agreement={"tsd": {"gap": about(0.1)}}))


def written(found: Analysis, shown: Shown, source: Source = SOURCE) -> str:
    hidden = hidden_levels(found)
    return page(without(found, hidden), source, {}, shown, dict.fromkeys(NAMED, b""), hidden)


def test_verdict_picture_and_table_come_first_and_examples_last(found: Analysis, shown: Shown) -> None:
    text = written(found, shown)
    places = [
        text.index(part)
        for part in (
            "28.6% (tsd) of the object’s size apart: no difference shown",
            "A typical object",
            "<table>",
            "Where the head moves its regions",
            "All objects",
            "Scores and boxes",
            "How this report was made",
            "Examples</h2>",
            "Example 1:",
        )
    ]
    assert places == sorted(places)
    assert re.findall(r"<h[1-6]>", text)[0] == "<h1>" and text.index("<details") > text.index("<table>")


def test_the_first_table_has_the_numbers_of_each_level(found: Analysis, shown: Shown) -> None:
    table = " ".join(re.sub(r"<[^>]*>", " ", re.search(r"<table>.*?</table>", written(found, shown), re.S)[0]).split())
    assert "displacement, % of P" in table and "distance of the peaks, % of the object’s size" in table
    assert "0 50 18.0 [17.0, 19.0] 15.0 [14.0, 16.0] classification farther 27.8 [26.8, 28.8] 28.6" in table


def test_examples_are_folded(found: Analysis, shown: Shown) -> None:
    reader = Reader(written(found, shown))
    assert re.findall(r"<details[^>]*\bopen", written(found, shown)) == []
    named = [text for text in reader.within("summary") if text.startswith("Example")]
    assert len(named) == 2
    folded = {alt for alt, elements in reader.pictures.items() if "details" in elements}
    assert folded == {alt for alt in reader.pictures if alt.startswith("Example")} and len(folded) == 6


def test_examples_are_named_by_file_and_id(found: Analysis, shown: Shown) -> None:
    named = Reader(written(found, shown)).within("summary")
    for number, example in enumerate(shown.farthest, 1):
        assert example.file is not None and example.file.endswith(".png")
        start = f"Example {number}: {example.category} in {example.file} (image {example.image_id});"
        assert any(text.startswith(start) for text in named)


def test_hidden_levels_are_named_and_nowhere_else(found: Analysis, shown: Shown) -> None:
    text = " ".join(written(found, shown).split())
    assert "fewer than 20 such proposals are pooled from there: level 1 (7), level pool (0)." in text
    assert '<th scope="row">0</th>' in text and '<th scope="row">1</th>' not in text and "level 1<" not in text
    assert '<td class="number">pool</td>' not in text and '<td class="number">0</td>' in text, "the folded numbers too"


def test_levels_that_all_have_few_proposals_are_shown_and_called_few(shown: Shown) -> None:
    few = analysis({level: {"tsd": about(0.1)} for level in "01"}, proposals={"0": 19, "1": 0})
    text = " ".join(written(few, shown).split())
    assert '<th scope="row">0</th>' in text and "No level has 20 such proposals" in text
    assert "because no such proposals are pooled from there: level 1." in text


def test_few_images_are_called_few(shown: Shown) -> None:
    peaks = {"0": {"tsd": about(0.1)}}
    assert "19 images are few" in written(analysis(peaks, images=19), shown)
    assert "images are few" not in written(analysis(peaks, images=20), shown)


def test_nothing_measured_leaves_nothing_to_fold(tmp_path) -> None:
    empty = Analysis(Misalignment(1, 0, {}, {}, {}, {}), None)
    reader = Reader(page(empty, SOURCE, {}, Shown(None, []), {}))
    assert "details" not in reader.tags and "table" not in reader.tags and "img" not in reader.tags
    assert "None of the first images has an object to show." in [text for text, _ in reader.texts]


def named(example: Example, name: str) -> Example:
    return replace(example, category=name, image_id=name, file=name)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30) | st.sampled_from(MARKUP)


@settings(max_examples=25, deadline=None)
@given(names)
def test_any_name_stands_on_the_page_as_it_is(found: Analysis, shown: Shown, name: str) -> None:
    assert shown.typical is not None
    odd = Shown(named(shown.typical, name), [named(example, name) for example in shown.farthest])
    source = Source(name, name, name, name, name)
    text = written(found, odd, source)
    reader, plain = Reader(text), Reader(written(found, shown))
    assert reader.tags == plain.tags, "a name makes no element"
    start = " ".join(f"Example 1: {name} in {name} (image {name}); peaks".split())
    assert any(said.startswith(start) for said in reader.within("summary"))
    assert " ".join(name.split()) in " ".join(reader.within("pre"))
