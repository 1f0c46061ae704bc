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
