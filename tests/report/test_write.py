"""The report is a folder that opens anywhere, and says what was measured and nothing else."""

import json
import re
from dataclasses import replace

import matplotlib
import pytest
import torch
from analyses import about, analysis

from tsdlab.analysis.analyze import Analysis, analyze
from tsdlab.analysis.displacement import Displacements, measure_displacement
from tsdlab.analysis.examples import Shown, choose_examples, choose_shown
from tsdlab.analysis.misalignment import Misalignment
from tsdlab.analysis.statistics import Estimate
from tsdlab.data import CocoDataset
from tsdlab.models.build import build_detector
from tsdlab.report.page import Source
from tsdlab.report.pictures import draw_example
from tsdlab.report.write import write_report
from tsdlab.structures import Category

matplotlib.use("Agg")
NAME = "<b>own & weights</b>"
SOURCE = Source("own", "sibling", "data/own", "val", "line")
COMMAND = "tsdlab analyze 'own <weights>' --out report"


@pytest.fixture(scope="module")
def dataset(tiny_data):
    """Without salient parts; its first image is empty."""
    return CocoDataset(tiny_data, "val")


def detector(config, head):
    torch.manual_seed(0)
    return build_detector(replace(config, head=head)).eval()


@pytest.fixture(scope="module")
def written(dataset, tiny_config, tmp_path_factory):
    """A report of a TSD whose maps are those of an untrained head, with a category whose name is markup."""
    dataset = CocoDataset(dataset.root, dataset.split)
    dataset.categories = tuple(Category(category.id, f"<i>{category.name}</i>") for category in dataset.categories)
    model = detector(tiny_config, "tsd")
    report = analyze(model, dataset, replicates=20, progress=False)
    out = tmp_path_factory.mktemp("analysis") / "new" / "folder"
    source = Source(NAME, "tsd", str(dataset.root), dataset.split, COMMAND)
    return report, out, write_report(report, choose_shown(model, dataset), source, out)


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_page_needs_no_other_file(written):
    _, out, path = written
    page = path.read_text()
    assert path == out / "report.html"
    assert not re.search(r"https?://|file:|<script|<link|@import|url\(", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert sources and all(re.match(r"data:image/(png|jpeg);base64,", source) for source in sources)
    assert "prefers-color-scheme: dark" in page
    assert len(sources) == len([*out.glob("*.png"), *out.glob("*.jpg")]), "every figure is on the page"
    assert not list(out.glob(".*")), "nothing half written is left"


def test_names_are_escaped(written):
    page = written[2].read_text()
    assert "<b>own" not in page and "&lt;b&gt;own &amp; weights&lt;/b&gt;" in page
    assert "own &lt;weights&gt;" in page
    assert "<i>" not in page and re.search(r"Example 1: &lt;i&gt;(red|blue)&lt;/i&gt; in \d+\.png \(image \d+\)", page)


def test_json_is_strict_and_whole(written):
    report, out, _ = written
    facts = strict((out / "report.json").read_text())
    assert facts["command"] == COMMAND and facts["weights"] == NAME and facts["head"] == "tsd"
    assert facts["dataset"]["split"] == "val" and "torch" in facts["versions"]
    assert facts["report"] == json.loads(json.dumps(report.as_dict()))


def test_numbers_come_from_the_report(dataset, tiny_config, tmp_path):
    model = detector(tiny_config, "sibling")
    mark = Estimate(0.123, 0.012, 0.987, 4321)
    survival = {"sibling": (mark,) * 10}
    found = Misalignment(
        2, 4321, {"proposals": {"0": {"sibling": {"peak_distance": mark}}}}, {}, {"sibling": {"gap": mark}}, survival
    )
    page = write_report(Analysis(found, None), choose_shown(model, dataset), SOURCE, tmp_path).read_text()
    assert "2 images, 4321 objects" in page
    assert "<b>12.3</b>" in page and "[1.2, 98.7]" in page and ">4321<" in page
    assert "moves its regions" not in page and "− sibling" not in page


def test_hidden_levels_are_in_the_file_of_numbers_alone(tmp_path):
    peaks = {level: {"tsd": about(0.1)} for level in "01"}
    report = analysis(peaks, proposals={"0": 20, "1": 19})
    page = write_report(report, Shown(None, []), SOURCE, tmp_path, progress=False).read_text()
    assert '<th scope="row">0</th>' in page and '<th scope="row">1</th>' not in page
    facts = strict((tmp_path / "report.json").read_text())
    assert facts["hidden_levels"] == {"1": 19} and list(facts["report"]["misalignment"]["maps"]["gradients"]) == [
        "0",
        "1",
    ]


def test_displacements_are_told_where_the_head_moves(written):
    report, out, path = written
    assert isinstance(report.displacement, Displacements) == (out / "displacements.png").exists()
    assert ("moves its regions" in path.read_text()) == (report.displacement is not None)


def test_the_report_of_double_head_tells_of_its_only_region(dataset, tiny_config, tmp_path):
    found = measure_displacement(detector(tiny_config, "double"), dataset, min_iou=0.1, progress=False)
    report = Analysis(Misalignment(0, 0, {}, {}, {}, {"double": ()}), found)
    assert Analysis.from_dict(strict(json.dumps(report.as_dict()))) == report
    page = " ".join(write_report(report, Shown(None, []), SOURCE, tmp_path).read_text().split())
    assert "For the box, it moves the bins of P by ΔR" in page and "For the class, it moves" not in page
    length = f"{100 * found.mean('localization_offset'):.1f}"
    assert length == "11.4" and re.search(r"\|ΔR\| \(% of P\).{,200}" + length, page)
    assert (tmp_path / "displacements.png").exists()


def test_an_example_names_the_branch_whose_peaks_are_apart(written):
    page = " ".join(written[2].read_text().split())
    assert "The two gradient peaks of the sibling branch around the object are" in page


def test_surfaces_are_of_the_branch_that_detects(dataset, tiny_config):
    model = detector(tiny_config, "tsd")
    (example,) = choose_examples(model, dataset, images=5, count=1)
    figure = draw_example(example)
    assert figure.axes[-1].name == "3d" and figure.axes[-1].get_title() == "tsd: maps of the proposals"


def test_nothing_to_measure_is_a_report_too(dataset, tiny_config, tmp_path):
    model = detector(tiny_config, "sibling")
    report = analyze(model, dataset, images=1, replicates=5, progress=False)  # its image has no object
    page = write_report(report, choose_shown(model, dataset, images=1), SOURCE, tmp_path).read_text()
    assert "None of the first images has an object to show" in page
    assert "There was no object to measure" in page
    assert strict((tmp_path / "report.json").read_text())["examples"] == []
