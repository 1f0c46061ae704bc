"""The page of two detectors: what it says, and the images that it shows."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.analysis.known_costs import about, known_costs, no_costs
from tests.analysis.test_comparison import compared
from tests.analysis.test_errors import CAT, DOG, entry, truth
from tests.report.test_page import Reader
from tsdlab.analysis.comparison import Comparison
from tsdlab.analysis.costs import ErrorCosts
from tsdlab.errors import ExistingFileError
from tsdlab.report.comparison import SHOWN, Compared, comparison_files, comparison_verdict, write_comparison
from tsdlab.report.verdict import plain

matplotlib.use("Agg")
NAMES = ("<b>sibling</b>", "tsd")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The second detector repairs seven images and breaks one."""
    objects = truth(*(entry(CAT, 0, image_id=number) for number in range(1, 9)))
    first = [entry(DOG, 0, image_id=number) for number in range(1, 8)] + [entry(CAT, 0, image_id=8)]
    second = [entry(CAT, 0, image_id=number) for number in range(1, 8)] + [entry(DOG, 100, image_id=8)]
    return compared(tmp_path_factory.mktemp("compared"), objects, first, second)


@pytest.fixture(scope="module")
def written(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    write_comparison(comparison, Compared(NAMES, "data/own", "val", "line"), out, progress=False)
    return out


def difference(**values: float) -> ErrorCosts:
    costs = known_costs(AP=0.0, AP50=0.0)
    kinds = costs.overall.kinds | {name: about(value) for name, value in values.items() if name in costs.overall.kinds}
    numbers = {name: about(value) for name, value in values.items() if name not in kinds}
    return replace(costs, overall=replace(costs.overall, kinds=kinds, **numbers))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"AP": 5.0, "loose": -4.0, "missed": -0.6, "duplicate": 0.4},
            [
                "b has more AP than a: 65.0 instead of 60.0, a difference of +5.0 [4.5, 5.5].",
                "b loses less AP to loose boxes (−4.0 [−4.5, −3.5]), missed objects (−0.6 [−1.1, −0.1]).",
            ],
        ),
        (
            {"AP": -2.0, "classification": 1.0},
            [
                "b has less AP than a: 65.0 instead of 60.0, a difference of −2.0 [−2.5, −1.5].",
                "b loses more AP to errors of classification (+1.0 [0.5, 1.5]).",
            ],
        ),
        (
            {"AP": 0.2},
            [
                "AP of b and a (no difference shown): 65.0 instead of 60.0, a difference of +0.2 [−0.3, 0.7].",
                "No kind of error is shown to cost one of them more than the other.",
            ],
        ),
    ],
)
def test_the_verdict(changed: dict[str, float], says: list[str], comparison: Comparison):
    first = replace(comparison.first, costs=known_costs(AP=60))
    second = replace(comparison.second, costs=known_costs(AP=65))
    found = comparison_verdict(Comparison(first, second, difference(**changed)), ("a", "b"))
    assert [plain(sentence) for sentence in found] == says


def test_the_kinds_have_the_colours_of_their_tasks(comparison: Comparison):
    changed = replace(comparison, difference=difference(loose=-4.0, classification=-3.0, missed=-2.0))
    colored = {text.split(" (")[0]: task for text, task in comparison_verdict(changed, ("a", "b"))[1] if " (" in text}
    assert colored == {
        "errors of classification": "classification", "loose boxes": "localization", "missed objects": "",
    }  # fmt: skip


def test_the_page_needs_no_other_file(written: Path):
    page = (written / "compare.html").read_text()
    assert not re.search(r"https?://|file:|<script|<link|@import|url\(", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in sources)
    assert len(sources) == len([*written.glob("*.png"), *written.glob("*.jpg")]) == 1 + SHOWN + 1
    assert {path.name for path in written.iterdir()} <= {path.name for path in comparison_files(written)}
    assert "<b>" not in page and "&lt;b&gt;sibling" in page


def test_changed_images_are_folded_and_say_how(written: Path):
    reader = Reader((written / "compare.html").read_text())
    named = [text for text in reader.within("summary") if "→" in text]
    assert named == [f"{n}.png (image {n}): 2.0 → 0.0 errors" for n in range(1, 1 + SHOWN)] + [
        "8.png (image 8): 0.0 → 2.0 errors"
    ]
    text = " ".join(text for text, _ in reader.texts)
    assert "tsd makes fewer errors in 7 of 8 images, more in 1, and as many in 0." in text


def test_the_tables_have_both_and_their_difference(written: Path, comparison: Comparison):
    page = re.sub(r"<[^>]*>", " ", (written / "compare.html").read_text())
    text = " ".join(page.split())
    before, after = (errors.costs.overall.AP50.value for errors in (comparison.first, comparison.second))
    assert re.search(rf"AP50 {before:.1f} \[.*?\] {after:.1f} \[.*?\] {after - before:.1f} \[", text)
    assert "lost to loose boxes" in text
    aps = [f"{errors.costs.per_class['cat'].AP.value:.1f}" for errors in (comparison.first, comparison.second)]
    assert aps[0] != aps[1] and re.search(rf"cat 8 {aps[0]} \[.*?\] {aps[1]} \[", text)


def test_the_file_of_numbers(written: Path, comparison: Comparison):
    facts: dict[str, Any] = json.loads((written / "compare.json").read_text())
    assert facts["weights"] == [*NAMES] and facts["command"] == "line" and facts["dataset"]["split"] == "val"
    assert facts["verdict"] == [plain(sentence) for sentence in comparison_verdict(comparison, NAMES)]
    assert len(facts["images"]) == 8 and {"first", "second", "difference"} < facts.keys()


def test_an_older_page_is_kept(written: Path, comparison: Comparison):
    before = (written / "compare.html").read_bytes()
    with pytest.raises(ExistingFileError):
        write_comparison(comparison, Compared(("a", "b"), "x", "val", "line"), written, progress=False)
    assert (written / "compare.html").read_bytes() == before


def test_without_objects_there_is_nothing_to_compare(tmp_path: Path):
    empty = compared(tmp_path, [], [], [])
    path = write_comparison(empty, Compared(("a", "b"), "x", "val", "line"), tmp_path / "out", progress=False)
    text = path.read_text()
    assert "There is no AP" in text and text.count("<p>No image.</p>") == 2 and "<img" not in text
    assert plain(comparison_verdict(replace(empty, difference=no_costs()), ("a", "b"))[0]).startswith("There is no AP")
