"""The section about errors: its answer in words, its tables, and the images that it shows."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from analyses import analysis
from PIL import Image

from tests.analysis.known_costs import known_costs, no_costs
from tests.analysis.test_costs import dataset_of
from tests.analysis.test_errors import CAT, DOG, entry, truth
from tests.analysis.tide_cases import case
from tests.report.test_page import SOURCE, Reader
from tsdlab.analysis.confusion import Confusion
from tsdlab.analysis.errors import KINDS
from tsdlab.analysis.examples import Shown
from tsdlab.analysis.find_errors import Errors, errors_of
from tsdlab.evaluation import Detections
from tsdlab.report.error_pictures import ERROR_PICTURES, WORST, error_drawings
from tsdlab.report.errors import error_section, errors_verdict
from tsdlab.report.pictures import render
from tsdlab.report.verdict import plain
from tsdlab.report.write import write_report
from tsdlab.structures import Category

matplotlib.use("Agg")


def errors(root: Path, annotations: list[dict[str, Any]], detections: list[dict[str, Any]], images: int = 8) -> Errors:
    return errors_of(Detections(dataset_of(root, annotations, images), detections, 100), replicates=20)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Errors:
    annotations, detections = case(0)
    return errors(tmp_path_factory.mktemp("found"), annotations, detections)


@pytest.mark.parametrize(
    ("costs", "starts"),
    [
        (known_costs(AP=60, AP50=90, classification=4), "More AP is lost to localization than to classification: "),
        (known_costs(AP=88, AP50=90, classification=9), "More AP is lost to classification than to localization: "),
        (known_costs(AP=88, AP50=90, classification=2.1), "Classification and localization (no difference shown): "),
        (known_costs(0.0, AP=60, AP50=90), "Classification and localization (too few images to compare): "),
        (known_costs(0.01, AP=89.97, AP50=90), "Classification and localization (the same when rounded): "),
        (no_costs(), "There is no AP, because there is no object."),
    ],
)
def test_the_first_sentence_answers_where_ap_is_lost(costs: Any, starts: str):
    assert plain(errors_verdict(costs)[0]).startswith(starts)


def test_the_answer_has_its_numbers_and_their_tasks():
    sentences = errors_verdict(known_costs(AP=60, AP50=90, classification=4, localization=1, background=2, missed=1.5))
    assert plain(sentences[0]).endswith(
        "errors of classification cost 4.0 [3.5, 4.5], errors of localization 1.0 [0.5, 1.5] and loose boxes 30.0 "
        "[29.5, 30.5] points of AP."
    )
    assert plain(sentences[1]) == (
        "AP is 60.0 [59.5, 60.5], and AP50 is 90.0 [89.5, 90.5]. Of the other errors, detections of "
        "background cost most: 2.0 [1.5, 2.5] points."
    )
    tasks = {text.split()[-1]: task for text, task in sentences[0] if task not in ("", "interval")}
    assert tasks == {"4.0": "classification", "1.0": "localization", "30.0": "localization"}


def test_kinds_that_cost_nothing_are_not_named():
    assert plain(errors_verdict(known_costs(missed=0.04))[1]).endswith("[89.5, 90.5].")


def test_the_tables_have_every_number(found: Errors):
    section = error_section(found, [])
    costs = found.costs
    by_kind = {row.title.split(":")[0]: row.lines[0] for row in section.kinds.rows}
    assert [by_kind[kind][0] for kind in KINDS] == [costs.overall.kinds[kind] for kind in KINDS]
    assert by_kind["loose boxes"][0] == costs.overall.loose and by_kind["AP"][0] == costs.overall.AP
    assert by_kind["all wrong detections"] == [costs.wrong_detections, costs.wrong_detections.count]
    for row, (name, of) in zip(section.classes.rows, costs.per_class.items(), strict=True):
        assert row.title == name
        expected = dict(zip(section.classes.header[1:], row.lines[0], strict=True))
        assert expected["objects"] == of.AP50.count and expected["loose boxes"] == of.loose
        assert [expected[kind] for kind in KINDS] == [of.kinds[kind] for kind in KINDS]
    assert section.sizes.header == ["size", *KINDS]
    assert [row.lines[0] for row in section.sizes.rows] == [[*of.values()] for of in costs.per_size.values()]


def test_the_matrix_has_objects_in_rows_and_the_background_last(found: Errors):
    counts = np.array([[0, 7, 8], [3, 10, 1], [4, 2, 20]])
    section = error_section(replace(found, confusion=Confusion(("cat", "dog"), counts, 0.5)), [])
    assert [name for name, _ in section.matrix] == ["cat", "dog", "background"]
    assert [[cell.count for cell in cells] for _, cells in section.matrix] == [[10, 1, 3], [2, 20, 4], [7, 8, 0]]
    roles = [[cell.role for cell in cells] for _, cells in section.matrix]
    assert roles[0] == ["right", "wrong", "background"] and roles[2] == ["background"] * 3
    assert section.matrix[0][1][0].share == pytest.approx(10 / 14)


def test_of_many_classes_the_most_frequent_pairs_are_listed(found: Errors):
    counts = np.zeros((1 + 21, 1 + 21), dtype=int)
    counts[5, 5], counts[3, 2], counts[0, 4], counts[7, 0], counts[1, 20] = 99, 4, 98, 97, 6
    names = tuple(f"class {label}" for label in range(1, 22))
    section = error_section(replace(found, confusion=Confusion(names, counts, 0.5)), [])
    assert section.matrix == []
    assert section.pairs == [("class 1", "class 20", 6), ("class 3", "class 2", 4)]


def test_pictures_have_known_names_and_small_sizes(found: Errors):
    pictures = render(error_drawings(found, found.worst(3)), progress=False)
    assert [*pictures] == [*ERROR_PICTURES[:3], *(f"worst-{number}.jpg" for number in (1, 2, 3))]
    for name, content in pictures.items():
        image = Image.open(io.BytesIO(content))
        assert image.format == ("JPEG" if name.endswith(".jpg") else "PNG")
        assert max(image.size) <= (700 if name.endswith(".jpg") else 1500) and len(content) < 150_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of more wrong images than it shows; the name of a category is markup."""
    root = tmp_path_factory.mktemp("written")
    objects = truth(*(entry(CAT, 0, image_id=number) for number in range(1, 16)))
    dataset = dataset_of(root, objects, images=15)
    dataset.categories = tuple(Category(category.id, f"<i>{category.name}</i>") for category in dataset.categories)
    invented = [entry(DOG, 100, image_id=4), entry(DOG, 150, image_id=4), entry(CAT, 0, image_id=1)]
    errors = errors_of(Detections(dataset, invented, 100), replicates=20)
    write_report(analysis(), Shown(None, []), SOURCE, root / "report", errors=errors, progress=False)
    return root / "report"


def test_the_section_is_right_after_the_first_screen(written: Path):
    text = (written / "report.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text)[0] == "Where is AP lost: to classification or to localization?"
    after = " ".join(text[text.index("<h2>") :].split())
    assert after.index('class="verdict"') < after.index("What each kind of error costs") < after.index("<details>")
    assert "<i>" not in text and "<script" not in text


def test_the_worst_images_are_folded_and_come_first(written: Path):
    reader = Reader((written / "report.html").read_text())
    named = [text for text in reader.within("summary") if "error" in text and "image" in text]
    assert len(named) == WORST
    assert named[0] == "4.png (image 4): 3.0 errors (2 background, 1 not found)"
    assert named[1] == "2.png (image 2): 1.0 errors (1 not found)", "image 1 has no error"
    pictures = {alt: elements for alt, elements in reader.pictures.items() if alt.startswith("The errors in")}
    assert len(pictures) == WORST and all("details" in elements for elements in pictures.values())


def test_the_numbers_are_in_the_file(written: Path):
    facts = json.loads((written / "report.json").read_text())["errors"]
    assert facts["verdict"][0].startswith("Classification and localization")
    assert facts["costs"]["overall"]["kinds"]["missed"]["count"] == 14
    assert facts["costs"]["overall"]["AP"]["value"] == pytest.approx(facts["metrics"]["AP"])
    assert facts["worst_images"][0]["counts"] == {"background": 2, "not found": 1}
    assert facts["confusion"]["score_thresh"] == 0.5 and "0.75" in facts["precision_recall"]["precision"]


def test_without_objects_or_errors_there_is_a_section_too(tmp_path: Path):
    for name, objects, detections in (
        ("empty", [], []),
        ("right", truth(entry(CAT, 0)), [entry(CAT, 0)]),
    ):
        (tmp_path / name).mkdir()
        found = errors(tmp_path / name, objects, detections, images=1)
        path = write_report(analysis(), Shown(None, []), SOURCE, tmp_path / name / "r", errors=found, progress=False)
        text = " ".join(path.read_text().split())
        assert "no image has an error" in text
        assert ("There is no AP" in text) == (name == "empty") == (not (path.parent / "errors.png").exists())
