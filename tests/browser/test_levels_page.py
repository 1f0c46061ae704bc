"""The page of the levels view in a browser without a notebook."""

import pytest

from tsdlab.analysis.tables import follow_dataset
from tsdlab.widgets.levels.widget import LevelsView

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")
bare = pytest.importorskip("bare")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]


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
    assert view.selected is None and not page.is_visible(".opened")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1800, 1400, 900])
def test_the_first_look_at_the_levels(browser, table, dataset, width, dark):
    view = LevelsView(table, dataset)
    page = bare.open_widget(browser, view, (width, 900), dark)
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing is beyond the right edge"
    if width > 900:
        assert page.evaluate("document.documentElement.scrollHeight") <= 900, "everything is seen without scrolling"
    legend, panels = (page.locator(part).bounding_box() for part in (".legend", ".panels"))
    assert legend["y"] + legend["height"] <= panels["y"]
    assert not page.is_visible(".opened"), "nothing is selected, so there is no empty panel"
    assert page.inner_text(".examples .note").startswith("A click on an example, or on a point of the plot,")
    figures = page.locator(".figures .value").all_inner_texts()
    assert figures[1] == f"{100 * view.means['classification_offset']:.1f} % of P"
    cut_off = "(element) => element.scrollWidth > element.clientWidth + 1"
    for text in page.locator(".figures :is(.name, .value), .scatter h4 span, .examples h4 span").all():
        assert not text.evaluate(cut_off), text.inner_text()
    fills = "(dots) => dots.map((dot) => getComputedStyle(dot).fill)"
    key, buttons, rows, points = (
        page.locator(f"{place} .dot").evaluate_all(fills)
        for place in (".level-key", ".segments", ".ridge >> nth=0 >> .row", ".scatter [role=img]")
    )
    assert key == buttons == rows and len(set(key)) == len(key) == len(view.table.levels)
    assert points == [key[point[3]] for point in view._shown["points"]]
    assert not page.broken
    page.close()


def test_filters_that_no_proposal_passes_are_said(levels):
    view, page = levels
    view.size = (500, 600)  # Python's side of the state changes with the next message
    page.click(".segments button:nth-child(2)")
    bare.settle(page)
    assert page.inner_text(".examples .empty") == "no proposal passes the filters"
