"""A saved page in browsers, from file:// and without a network, against Python."""

import pytest
import torch

import tsdlab
from tsdlab.analysis.proposal import GroundTruth, ask_levels
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.models.probe import Probe

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")
bare = pytest.importorskip("bare")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def browser(request):
    with lab.started_browser(request.param) as browser:
        yield browser


@pytest.fixture(scope="module")
def model():
    return tsdlab.load_detector("badges-tsd")


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SAMPLE, "val")


@pytest.fixture(scope="module")
def path(model, dataset, tmp_path_factory):
    file = tmp_path_factory.mktemp("saved") / "page.html"
    tsdlab.explore(model, dataset).save(file)
    return file


@pytest.fixture
def page(browser, path):
    page = bare.open_file(browser, path)
    yield page
    assert page.broken == [] and page.requests == []
    page.close()


def shown(page):
    """The proposal, and the score of each class for each branch that is listed."""
    shape = page.locator(".canvas [data-shape=proposal]").last
    x, y, w, h = (float(shape.get_attribute(name)) for name in ("x", "y", "width", "height"))
    bars = page.eval_on_selector_all(
        ".scores [data-series]", "(all) => all.map(({dataset: d}) => [d.series, Number(d.label), Number(d.value)])"
    )
    return (x, y, x + w, y + h), bars


def agrees(page, model, dataset, index):
    """What is shown is what Python says about the same proposal."""
    proposal, bars = shown(page)
    image, target = dataset[index]
    expected = ask_levels(Probe(model, image), proposal, GroundTruth.of(target))
    for branch, label, value in bars:
        assert value == pytest.approx(expected.branches[branch].scores[label].item(), abs=2e-3)
    assert len(bars) > 3
    return proposal


def drag(page, dx, dy):
    place = page.locator(".canvas [data-handle=move]").bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=8)
    page.mouse.up()
    bare.settle(page)


def test_a_drag_is_answered_as_python_answers(page, model, dataset):
    before, _ = shown(page)
    drag(page, 40, -25)
    after = agrees(page, model, dataset, 0)
    moved = torch.tensor(after) - torch.tensor(before)
    assert moved[0] > 2 and moved[1] < -1 and moved[2] == pytest.approx(moved[0].item(), abs=0.02)


def test_the_next_image_opens_on_its_own_proposal(page, model, dataset):
    explorer = tsdlab.explore(model, dataset)
    for step in (1, 1, -1, -1, -1):
        page.keyboard.press("n" if step > 0 else "p")
        explorer._go(step)
        page.wait_for_selector(f".place b:text-is('image {explorer.image_index}')")
        bare.settle(page)
        assert agrees(page, model, dataset, explorer.image_index) == pytest.approx(explorer.proposal, abs=0.02)
    assert explorer.image_index == 11
