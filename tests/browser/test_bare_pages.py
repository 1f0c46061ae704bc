"""The pages of both widgets in a browser without a notebook: fast, and the only thing that can fail is the page."""

from dataclasses import replace

import pytest

import tsdlab
from tsdlab.analysis.tables import follow_dataset
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.models.build import build_detector
from tsdlab.widgets.levels.widget import LevelsView

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")
bare = pytest.importorskip("bare")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=lab.chromium(), args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def model():
    return tsdlab.load_detector("badges-tsd")


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SAMPLE, "val")


@pytest.fixture(scope="module")
def table(model, dataset):
    return follow_dataset(model, dataset, 12, progress=False)


@pytest.fixture
def levels(browser, table, dataset):
    view = LevelsView(table, dataset)
    page = bare.open_widget(browser, view, (1500, 800))
    yield view, page
    assert not page.broken
    page.close()


def test_a_level_is_shown_alone_and_everything_follows(levels):
    view, page = levels
    page.click(".segments button:nth-child(3)")
    bare.settle(page)
    assert view.level == "1" and page.inner_text(".figures .value >> nth=0") == str(view.chosen.sum())
    assert page.locator(".scatter [role=img] .dot").count() == view.chosen.sum()
    assert "level='1'" in page.inner_text("footer code")
    page.click(".reset")
    bare.settle(page)
    assert view.level == "all" and page.is_disabled(".reset")


def test_a_size_handle_is_dragged_and_only_its_last_places_are_asked_about(levels):
    view, page = levels
    place = page.locator(".handle").first.bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=40)
    page.mouse.up()
    bare.settle(page)
    assert view.size[0] > view.table.sizes.min() + 5
    assert page.inner_text("output") == f"{view.size[0]:.0f}…{view.size[1]:.0f} px"
    assert len(page.requests) < 40 and page.requests[-1]["set"]["size"] == list(view.size)
    page.focus(".handle >> nth=1")
    page.keyboard.press("ArrowLeft")
    bare.settle(page)
    assert view.size[1] < view._fixed["size"][1]


def test_a_point_and_arrow_keys_select_proposals(levels):
    view, page = levels
    page.locator(".scatter [role=img] .dot").last.click()
    bare.settle(page)
    first = view.selected
    assert first is not None and view.table.categories[view.table.followed.labels[first] - 1] in page.inner_text(
        ".opened"
    )
    page.keyboard.press("ArrowLeft")
    bare.settle(page)
    assert view.selected != first
    page.click(".clear")
    bare.settle(page)
    assert view.selected is None and "Click a point" in page.inner_text(".opened")


def test_filters_that_no_proposal_passes_are_said(levels):
    view, page = levels
    view.size = (500, 600)  # Python's side of the state changes with the next message
    page.click(".segments button:nth-child(2)")
    bare.settle(page)
    assert page.inner_text(".examples .empty") == "no proposal passes the filters"


def test_the_region_of_double_head_is_drawn_on_both_pages(browser, model, dataset):
    double = build_detector(replace(model.config, head="double")).eval()
    double.load_state_dict(model.state_dict(), strict=False)
    explorer = tsdlab.explore(double, dataset, proposal=(20, 20, 70, 90))
    page = bare.open_widget(browser, explorer)
    shape = page.locator('.canvas [data-shape="region localization"]')
    sides = [float(shape.get_attribute(side)) for side in ("x", "y", "width", "height")]
    assert sides == pytest.approx([12.5, 9.5, 65, 91], abs=0.01)  # 1.3 times as wide and high
    texts = page.locator(".level .numbers").all_inner_texts()
    assert len(texts) == 3 and all("|ΔR| 11.4 %" in text and "|ΔC|" not in text for text in texts)
    assert not page.broken
    page.close()
    page = bare.open_widget(browser, LevelsView(follow_dataset(double, dataset, 3, progress=False), dataset))
    box = page.locator(".field .box.moved.localization")
    assert [float(box.get_attribute(side)) for side in ("x", "width")] == pytest.approx([-0.15, 1.3], abs=1e-3)
    assert page.locator(".field .arrow").count() == 0 and page.locator(".examples .box.moved").count() == 6
    assert page.locator(".legend .key").all_inner_texts() == ["P: proposal", "P̂r: region for the box", "ground truth"]
    assert page.inner_text(".figures .localization .value >> nth=0") == "11.4 %"
    assert not page.broken
    page.close()


def test_names_are_text_and_not_html(browser, model, dataset):
    name = "<img src=x onerror=alert(1)>"
    explorer = tsdlab.explore({name: model, "b": model}, dataset, names=[name, *"BCDEF"])
    page = bare.open_widget(browser, explorer)
    assert page.locator("img").count() == 0 and page.inner_text("figure .model >> nth=0") == name
    assert not page.broken
    page.close()


def test_a_refused_value_is_said_and_the_page_goes_on(browser, model, dataset):
    explorer = tsdlab.explore(model, dataset)
    page = bare.open_widget(browser, explorer)
    before = explorer.proposal
    page.fill("[name=x1]", "1e9")
    page.keyboard.press("Enter")
    bare.settle(page)
    assert "must be finite and within" in page.inner_text(".notice") and explorer.proposal == before
    page.keyboard.press("n")
    bare.settle(page)
    assert explorer.image_index == 1 and page.inner_text(".place b") == "image 1"
    assert not page.broken
    page.close()


def test_a_drag_without_an_answer_moves_the_proposal_at_once(browser, model, dataset):
    explorer = tsdlab.explore(model, dataset)
    page = bare.open_widget(browser, explorer)
    page.evaluate("() => { window.ask = () => new Promise(() => {}); }")  # a kernel that is busy for ever
    shape = ".canvas [data-shape=proposal]"
    before = float(page.get_attribute(shape, "x"))
    page.click(".notice")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function(f"document.querySelector('{shape}').getAttribute('x') > {before + 9}")
    assert page.get_attribute(".tsdlab-page", "data-waiting") == "yes"
    page.close()
