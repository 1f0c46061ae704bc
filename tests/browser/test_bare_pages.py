"""The pages of both widgets in a browser without a notebook: fast, and the only thing that can fail is the page."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from kept_steps import keep_steps

import tsdlab
from tsdlab.analysis.proposal import ask_levels
from tsdlab.analysis.tables import follow_dataset
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe
from tsdlab.widgets.explorer import widget
from tsdlab.widgets.explorer.headline import find_headline
from tsdlab.widgets.levels.widget import LevelsView
from tsdlab.widgets.page import compose_script

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


def test_the_region_of_double_head_is_drawn_on_both_pages(browser, model, dataset):
    double = build_detector(replace(model.config, head="double")).eval()
    double.load_state_dict(model.state_dict(), strict=False)
    explorer = tsdlab.explore(double, dataset, proposal=(20, 20, 70, 90))
    page = bare.open_widget(browser, explorer)
    shape = page.locator('.canvas [data-shape="region localization"]')
    sides = [float(shape.get_attribute(side)) for side in ("x", "y", "width", "height")]
    assert sides == pytest.approx([12.5, 9.5, 65, 91], abs=0.01)  # 1.3 times as wide and high
    moves = page.locator(".level .move")
    assert moves.count() == 3 and all("11.4 %" in text for text in moves.all_inner_texts())
    assert page.locator(".level .move.classification").count() == 0
    assert not page.broken
    page.close()
    page = bare.open_widget(browser, LevelsView(follow_dataset(double, dataset, 3, progress=False), dataset))
    box = page.locator(".field .box.moved.localization")
    assert [float(box.get_attribute(side)) for side in ("x", "width")] == pytest.approx([-0.15, 1.3], abs=1e-3)
    assert page.locator(".field .arrow").count() == 0 and page.locator(".examples .box.moved").count() == 6
    assert page.locator(".legend .key").all_inner_texts() == ["P: proposal", "P̂r: region for the box", "ground truth"]
    assert page.inner_text(".figures .localization .value >> nth=0") == "11.4 % of P"
    assert not page.broken
    page.close()


def test_names_are_text_and_not_html(browser, model, dataset):
    name = "<img src=x onerror=alert(1)>"
    explorer = tsdlab.explore({name: model, "b": model}, dataset, names=[name, *"BCDEF"])
    page = bare.open_widget(browser, explorer)
    assert page.locator("img").count() == 0 and page.inner_text("figure .model >> nth=0") == name
    assert not page.broken
    page.close()


@pytest.fixture
def explorer(browser, model, dataset):
    widget = tsdlab.explore(model, dataset)
    page = bare.open_widget(browser, widget)
    page.focus(".tsdlab-explorer")
    yield widget, page
    assert not page.broken
    page.close()


def typed(page, box):
    """Type the four numbers of P as a person does, from one field to the next."""
    page.focus(".tsdlab-explorer")
    page.keyboard.press("t")
    for number in box:
        page.keyboard.type(str(number))
        page.keyboard.press("Tab")


def test_four_typed_numbers_are_one_box(explorer):
    widget, page = explorer
    typed(page, (20, 25, 93.8, 90))
    typed(page, (110, 10, 140, 60))
    page.wait_for_timeout(500)
    assert widget.proposal == (110, 10, 140, 60)
    page.click("[name=x1]")
    page.keyboard.press("Control+a")
    page.keyboard.type("100,5")
    assert widget.proposal == (110, 10, 140, 60)
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert widget.proposal == (100.5, 10, 140, 60)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("y1", "twelve", "twelve"), ("x1", "1e9", "±1,000,000"), ("y2", "", "number"), ("x2", "3", "less than x1")],
)
def test_what_is_wrong_with_a_typed_box_stands_at_its_field(explorer, name, text, says):
    widget, page = explorer
    before = widget.proposal
    page.keyboard.press("t")
    page.fill(f"[name={name}]", text)
    page.keyboard.press("Enter")
    assert says in page.inner_text(".error") and page.inner_text(".error").startswith(name)
    assert page.locator("[aria-invalid=true]").get_attribute("name") == name
    page.wait_for_timeout(400)
    assert widget.proposal == before and page.input_value(f"[name={name}]") == text
    page.keyboard.press("Escape")
    assert page.locator(".error").is_hidden() and page.input_value(f"[name={name}]") != text
    page.keyboard.press("n")
    bare.settle(page)
    assert widget.image_index == 1 and page.inner_text(".place b") == "image 1"


def test_everything_that_matters_is_seen_without_scrolling(browser, model, dataset):
    sibling = tsdlab.load_detector("badges-sibling")
    tall = (torch.rand(3, 400, 200), {"boxes": [[20, 30, 120, 300]], "labels": [1]})
    both = {"sibling": sibling, "tsd": model}
    for models, images, width in (
        (model, dataset, 1400),
        (both, dataset, 1400),
        (model, tall, 1400),
        (model, dataset, 900),
    ):
        page = bare.open_widget(browser, tsdlab.explore(models, images), (width, 900))
        for part in (".headline", ".canvas", ".level", ".class"):
            for place in page.locator(part).all():
                box = place.bounding_box()
                assert box["y"] + box["height"] <= 900 and box["x"] + box["width"] <= width
        assert page.locator(".drawer").is_hidden() and page.locator(".level").count() == 3
        page.close()


@pytest.mark.parametrize("width", [968, 1220], ids=["beside the files", "alone"])
def test_all_of_it_is_seen_in_the_cell_of_a_lab(browser, model, dataset, width):
    """A lab in a window of 1,400 × 900 shows 779 pixels of a notebook."""
    page = bare.open_widget(browser, tsdlab.explore(model, dataset), (width + 16, 900))
    image, levels = (page.locator(part).bounding_box() for part in (".canvas", "table.levels"))
    assert levels["x"] > image["x"] + image["width"] and levels["y"] < image["y"] + 100
    assert page.locator(".tsdlab-explorer").bounding_box()["height"] <= 779
    for track in page.locator(".level .track").all():
        assert track.bounding_box()["width"] > 40
    page.close()


def test_a_row_of_the_level_table_is_pooled_from(explorer):
    widget, page = explorer
    assigned = widget.answer.assigned
    page.click(".level[data-level='2'] .crop")
    page.wait_for_timeout(400)
    assert widget.level == "2" and page.get_attribute(".level.used", "data-level") == "2"
    assert "assigned" in page.inner_text(f".level[data-level='{assigned}'] th")
    page.click("text=as assigned")
    page.wait_for_timeout(400)
    assert widget.level is None and page.get_attribute(".level.used", "data-level") == assigned


def test_the_saved_view_says_what_the_live_one_says(browser, model, dataset, tmp_path):
    models = {"<sibling>": tsdlab.load_detector("badges-sibling"), "tsd": model}
    page = bare.open_widget(browser, tsdlab.explore(models, dataset, level="2", underlay="localization"))
    page.focus(".tsdlab-explorer")
    with page.expect_download() as download:
        page.keyboard.press("s")
    download.value.save_as(tmp_path / "view.svg")
    saved = ElementTree.parse(tmp_path / "view.svg").getroot()
    texts = ["".join(text.itertext()) for text in saved.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:3] == page.locator(".headline p").all_inner_texts()
    live = page.locator(".level .value, .level .answer :nth-child(n+2), .class .value").all_inner_texts()
    assert len(live) > 20 and sorted(live) == sorted(text for text in texts if text in live)
    assert {"<sibling>", "level 2", "assigned", "in use", "P: proposal", "P itself"} <= set(texts)
    scales = [text for text in texts if text.startswith("map of localization: ")]
    assert len(scales) == 2 and f"map of localization: {page.inner_text('.legend .scale')}" in scales
    assert sum("best places" in text for text in texts) == 2
    pictures = len(list(saved.iter("{http://www.w3.org/2000/svg}image")))
    assert pictures <= 2 + 6  # one image, and a map for each row; and not another image for every row
    assert not page.broken
    page.close()


@pytest.mark.parametrize("proposal", [None, (40, 30, 90, 80), (0, 0, 2, 2), (30, 30, 30, 60), (200, 10, 240, 40)])
@pytest.mark.parametrize("setting", ["one", "two", "no objects"])
def test_the_headline_is_that_of_the_picture(browser, model, dataset, setting, proposal):
    models = {"sibling": tsdlab.load_detector("badges-sibling"), "tsd": model} if setting == "two" else model
    state = {} if proposal is None else {"proposal": proposal}
    widget = tsdlab.explore(models, dataset[0][0] if setting == "no objects" else dataset, **state)
    page = bare.open_widget(browser, widget)
    lines = find_headline(["background", *widget.names], widget._image, widget._answer)
    assert page.locator(".headline p").all_inner_texts() == ["".join(text for text, _ in line) for line in lines]
    assert not page.broken
    page.close()


def test_the_headline_follows_the_pointer_and_is_read_out_when_it_stops(explorer):
    _, page = explorer
    page.wait_for_function("document.querySelector('.unseen[role=status]').textContent")
    before, spoken = page.inner_text(".headline"), page.text_content(".unseen[role=status]")
    place = page.locator(".canvas [data-handle=move]").bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 30, steps=20)
    bare.settle(page)
    during = page.inner_text(".headline")
    assert during != before
    page.wait_for_timeout(700)
    assert page.text_content(".unseen[role=status]") == spoken  # the pointer still holds P
    page.mouse.up()
    words = " ".join(page.locator(".headline p").all_inner_texts())
    page.wait_for_function("(words) => document.querySelector('.unseen[role=status]').textContent === words", arg=words)
    assert page.get_attribute(".canvas", "aria-label") == f"Image 0, tsd. {words}"
    assert page.get_attribute(".canvas", "role") == "img"


def test_margins_are_said_in_words_when_they_are_asked_for(explorer):
    widget, page = explorer
    assert page.locator(".margins p").count() == 0
    page.click(".margins summary")
    bare.settle(page)
    term = widget.answer.localization_constraint
    asked, has = min(term.margin, 1 - term.sibling), term.own - term.sibling
    words = f"the constraint asks tsd for +{asked:.2f} over sibling; it has {has:+.2f}.".replace("-", "−")
    assert words in page.inner_text(".margins p >> nth=1")
    assert f"{'is met' if term.value < 0.005 else f'is short by {term.value:.2f}'}" in page.inner_text(
        ".margins summary"
    )
    typed(page, (120, 120, 126, 126))
    bare.settle(page)
    assert "none, as P overlaps no object" in page.inner_text(".margins summary")


def test_what_is_needed_now_and_then_is_in_a_drawer(explorer):
    _, page = explorer
    parts = page.locator(".drawer :is([name=x1], .proposals, select)")
    assert not any(part.is_visible() for part in parts.all())
    page.keyboard.press("v")
    assert all(part.is_visible() for part in parts.all()) and page.locator(".proposals tbody tr").count() > 0
    page.locator(".proposals tbody tr").last.click()
    bare.settle(page)
    page.click(".bar >> text=details")
    assert page.locator(".drawer").is_hidden()


def test_the_page_says_who_answers(explorer):
    _, page = explorer
    assert page.inner_text(".who") == "answered by this page"


def test_only_classes_that_matter_are_shown(explorer):
    widget, page = explorer
    shown = {int(label) for label in page.locator(".bar-row").evaluate_all("(all) => all.map((e) => e.dataset.label)")}
    scores = {
        label: max(float(branch.scores[label]) for branch in widget.answer.branches.values()) for label in range(7)
    }
    assert shown == {label for label, score in scores.items() if score >= 0.01} | {0, widget.answer.nearest.label}
    fold = page.locator(".scores + .link")
    assert f"and {7 - len(shown)} more, all below 0.01" == fold.inner_text()
    fold.click()
    assert page.locator(".class").count() == 7


def test_a_drag_is_answered_while_the_kernel_is_busy(browser, model, dataset):
    explorer = tsdlab.explore(model, dataset)
    page = bare.open_widget(browser, explorer)
    page.evaluate("() => { window.ask = () => new Promise(() => {}); }")  # a kernel that is busy for ever
    shape = ".canvas [data-shape=proposal]"
    before = float(page.get_attribute(shape, "x"))
    page.click(".notice")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function(f"document.querySelector('{shape}').getAttribute('x') > {before + 9}")
    bare.settle(page)
    x1, y1, x2, y2 = explorer.proposal
    expected = ask_levels(Probe(model, dataset[0][0]), (x1 + 10, y1, x2 + 10, y2), explorer.truth)
    bars = page.locator(".scores [data-series=tsd]").all()
    for bar in bars:
        score = expected.tsd.scores[int(bar.get_attribute("data-label"))].item()
        assert float(bar.get_attribute("data-value")) == pytest.approx(score, abs=1e-3)
    assert len(bars) > 1
    page.close()


def test_python_learns_of_a_drag_when_it_has_ended(browser, model, dataset):
    explorer = tsdlab.explore(model, dataset)
    page = bare.open_widget(browser, explorer)
    before = explorer.proposal
    page.requests.clear()
    page.click(".notice")
    key = "new KeyboardEvent('keydown', { key: 'ArrowRight', shiftKey: true })"
    page.evaluate(f"for (let i = 0; i < 5; i++) document.querySelector('.tsdlab-explorer').dispatchEvent({key})")
    page.wait_for_timeout(600)
    assert len(page.requests) == 1
    assert explorer.proposal == pytest.approx((before[0] + 50, before[1], before[2] + 50, before[3]), abs=0.01)
    assert not page.broken
    page.close()


def test_the_object_of_a_conflict_is_opened_and_both_boxes_are_drawn(browser, model, dataset, monkeypatch):
    monkeypatch.setattr(widget, "_SCAN", 0)  # seconds for each request: one image
    explorer = tsdlab.explore(model, dataset, image_index=5)
    page = bare.open_widget(browser, explorer)
    page.click(".notice")
    page.keyboard.press("o")
    for _ in range(600):
        if page.requests.count({"need": "scan"}) == 11:
            break
        page.wait_for_timeout(50)
    page.wait_for_function("document.querySelector('.notice').textContent === ''")
    bare.settle(page)
    assert page.inner_text(".place").endswith("1 of 12") and page.requests.count({"need": "scan"}) == 11
    conflict = explorer._image["conflict"]
    for way in ("by_score", "by_iou"):
        shape = page.locator(f".canvas [data-shape='conflict {way}']")
        x, y, width, height = (float(shape.get_attribute(side)) for side in ("x", "y", "width", "height"))
        assert [x, y, x + width, y + height] == pytest.approx(conflict[way]["box"], abs=0.01)
        assert bare.covered(page.locator("figure"), f"conflict {way}", conflict[way]["box"]) < 0.05
    names = {f"best {way}: IoU {conflict[key]['iou']:.2f}" for way, key in (("score", "by_score"), ("box", "by_iou"))}
    assert names <= set(page.locator(".canvas .labels text:visible").all_text_contents())
    assert page.inner_text(".notice") == ""
    assert list(explorer.proposal) == pytest.approx(conflict["by_score"]["proposal"], abs=0.01)
    assert not page.broken
    page.close()


@pytest.mark.parametrize("event", ["comm_live_update", None], ids=["restarted", "gone"])
def test_without_the_kernel_a_drag_goes_on_and_what_needs_it_is_said(browser, model, dataset, event):
    explorer = tsdlab.explore(model, dataset)
    page = bare.open_widget(browser, explorer)
    page.wait_for_function("document.querySelector('.notice').textContent === ''")
    page.evaluate("(event) => window.endKernel(event)", event)
    box = explorer.proposal
    page.click(".notice")
    for step in range(1, 4):
        page.keyboard.press("Shift+ArrowLeft")
        page.wait_for_timeout(400)  # longer than the page waits until it tells Python
        x = float(page.get_attribute(".canvas [data-shape=proposal]", "x"))
        assert x == pytest.approx(box[0] - 10 * step, abs=0.01)
    assert "The kernel is gone; run the cell again. Proposal, level" in page.inner_text(".notice")
    moved = (box[0] - 30, box[1], box[2] - 30, box[3])
    page.keyboard.press("2")
    bare.settle(page)
    expected = ask_levels(Probe(model, dataset[0][0]), moved, explorer.truth, "2")
    shown = page.locator(".scores [data-series=tsd]").all()
    assert shown
    for bar in shown:
        score = expected.tsd.scores[int(bar.get_attribute("data-label"))].item()
        assert float(bar.get_attribute("data-value")) == pytest.approx(score, abs=1e-3)
    for key, lacking in (("n", "no other image can"), ("o", "cannot be filtered"), ("u", "no such map")):
        page.keyboard.press(key)
        bare.settle(page)
        assert lacking in page.inner_text(".notice")
    assert page.inner_text(".place b") == "image 0"
    assert page.eval_on_selector(".stages", "(e) => getComputedStyle(e).opacity") == "1"
    assert page.eval_on_selector(".tsdlab-page", "(e) => getComputedStyle(e).pointerEvents") != "none"
    assert not page.broken
    page.close()


def test_a_kernel_that_ends_before_the_features_have_arrived_is_said(browser, model, dataset, monkeypatch):
    explorer = tsdlab.explore(model, dataset)
    monkeypatch.setattr(explorer, "_send_part", lambda *_: None)
    page = bare.open_widget(browser, explorer)
    page.evaluate("window.endKernel('comm_live_update')")
    bare.settle(page)
    assert page.inner_text(".notice") == "The kernel is gone; run the cell again."
    assert page.locator(".tsdlab-page.lost").count() == 1 and not page.broken
    page.close()


@pytest.mark.parametrize("width", [900, 1400])
def test_text_beside_the_image_is_whole_and_readable(browser, models, dataset, width):
    page = bare.open_widget(browser, tsdlab.explore(models, dataset), (width, 900))
    page.click("text=play")
    page.wait_for_selector(".slide text")
    sizes = page.locator(".slide text").evaluate_all("(all) => all.map((each) => each.getBoundingClientRect().height)")
    assert len(sizes) == 14 and min(sizes) > 11, "the curves' text is as large as other text"
    assert page.locator(".slide[data-model=tsd] .curve-key").inner_text().split()[-4:] == [
        "sibling",
        "in",
        "tsd",
        "tsd",
    ]
    one_line = "(each) => each.getClientRects().length === 1"
    assert page.locator(".levels .scale-end").evaluate(one_line)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert not page.broken
    page.close()


def test_a_training_is_followed_with_a_slider(browser, dataset, tmp_path):
    steps = keep_steps(tmp_path)
    explorer = tsdlab.explore(steps, dataset)
    page = bare.open_widget(browser, explorer)
    page.wait_for_selector("[data-answers=page]")
    box = explorer.proposal
    slider = page.locator(".steps input")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.steps output').textContent === '500 of 1000'")
    page.keyboard.press("[")
    page.wait_for_function("document.querySelector('.steps output').textContent === '0 of 1000'")
    bare.settle(page)
    assert explorer.step == 0 and explorer.proposal == box
    page.wait_for_function("document.querySelector('.who').textContent === 'answered by this page'")
    bare.settle(page)
    # The weights of steps that were here before answer in the page, also without a kernel.
    page.evaluate("window.endKernel('comm_live_update')")
    for key, step in (("]", 500), ("]", 1000), ("[", 500), ("[", 0)):
        page.keyboard.press(key)
        bare.settle(page)
        expected = ask_levels(Probe(steps.load(step), dataset[0][0]), box, explorer.truth)
        for bar in page.locator(".scores [data-series=tsd]").all():
            score = expected.tsd.scores[int(bar.get_attribute("data-label"))].item()
            assert float(bar.get_attribute("data-value")) == pytest.approx(score, abs=2e-3)
        assert page.inner_text(".steps output") == f"{step} of 1000"
    assert not page.broken
    page.close()


def test_without_a_training_there_is_no_slider(browser, model, dataset):
    page = bare.open_widget(browser, tsdlab.explore(model, dataset))
    assert page.locator(".steps").is_hidden()
    page.click(".notice")
    page.keyboard.press("[")
    bare.settle(page)
    assert not page.broken
    page.close()


OPENING = """async ({script, heard}) => {
  const { whenAnswered } = (await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })))).default;
  const [told, listeners] = [{ _answer: {}, _opening: { models: ["tsd"], image: null } }, {}];
  const model = { get: (name) => told[name], on: (event, listen) => { listeners[event] = listen; }, send: () => {} };
  const root = document.createElement("div");
  whenAnswered(model, root, () => {});
  for (const message of heard) listeners["msg:custom"](message);
  return root.querySelector("[role=status]").textContent;
}"""


@pytest.mark.parametrize(
    ("heard", "says"),
    [
        ([], "Finding the first image …"),
        ([{"progress": [2, 9]}], "Asking the detector about image 3 of 9 …"),
        ([{"progress": [2, 9]}, {"failed": "<b>torn"}], "The image could not be opened: <b>torn"),
    ],
)
def test_a_page_that_waits_says_for_what_and_what_went_wrong(browser, heard, says):
    page = browser.new_page()
    folder = Path(widget.__file__).parent
    script = compose_script(folder / "opening.js") + "\nexport default { whenAnswered };"
    assert page.evaluate(OPENING, {"script": script, "heard": heard}) == says
    page.close()
