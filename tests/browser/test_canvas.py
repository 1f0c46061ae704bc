"""What the explorer draws over an image, in a browser without a notebook: arrows, names, zoom, maps, Play."""

import re

import numpy as np
import pytest

import tsdlab
from tsdlab.figures.style import PALETTE
from tsdlab.ops.sampling import bin_centres

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")
bare = pytest.importorskip("bare")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]

BOX = (25.0, 30.0, 65.0, 88.0)  # of image 0: it overlaps the star with IoU 0.59
HELD = ".canvas [data-shape=proposal]"


@pytest.fixture
def opened(browser, model, dataset):
    """Opens an explorer with fields: the widget and its page."""
    pages = []

    def open_explorer(**fields):
        widget = tsdlab.explore(model, dataset, **{"proposal": BOX, **fields})
        page = bare.open_widget(browser, widget, (1400, 900))
        page.focus(".tsdlab-explorer")
        pages.append(page)
        return widget, page

    yield open_explorer
    for page in pages:
        assert not page.broken
        page.close()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
    bare.settle(page)


def held(page):
    """P on the page: x1, y1, x2, y2."""
    x, y, w, h = (float(page.get_attribute(HELD, name)) for name in ("x", "y", "width", "height"))
    return x, y, x + w, y + h


def lines(page, name):
    """The arrows of a name in the large view: [arrows, 2, 2] from and to."""
    shape = page.locator(f'.canvas [data-shape="{name}"]')
    if shape.locator("..").get_attribute("visibility") == "hidden":
        return np.zeros((0, 2, 2))
    return np.array([float(v) for v in re.findall(r"-?[\d.]+(?:e-?\d+)?", shape.get_attribute("d"))]).reshape(-1, 2, 2)


def frame(page):
    return [float(v) for v in page.get_attribute(".canvas", "viewBox").split()]


# Arrows ---------------------------------------------------------------------------------------------------------------


def test_the_summary_is_one_arrow_a_task_from_the_middle_of_p_to_the_middle_of_what_it_reads(opened):
    widget, page = opened()
    assert widget.arrows == "summary"
    regions = widget.answer.levels[widget.answer.level].regions
    moved, box = regions["classification"], regions["localization"].boxes
    x1, y1, x2, y2 = BOX
    (to_class,), (to_box,) = lines(page, "arrow classification"), lines(page, "arrow localization")
    middle = [(x1 + x2) / 2, (y1 + y2) / 2]
    np.testing.assert_allclose([to_class[0], to_box[0]], [middle, middle], atol=0.01)
    np.testing.assert_allclose(to_class[1], moved.points.flatten(0, 1).mean(dim=0), atol=0.1)
    np.testing.assert_allclose(to_box[1], (box[:2] + box[2:]) / 2, atol=0.1)
    assert len(lines(page, "bins classification")) == 0
    assert page.get_attribute('.canvas [data-shape="arrow classification"]', "stroke") == PALETTE["classification"]
    assert page.get_attribute('.canvas [data-shape="arrow localization"]', "stroke") == PALETTE["localization"]


def test_all_arrows_lead_from_the_bins_of_p_to_where_they_are_read(opened):
    widget, page = opened()
    press(page, "l")
    moved = widget.answer.levels[widget.answer.level].regions["classification"]
    grid = bin_centres(widget.answer.proposal[None], bins=7)[0].flatten(0, 1)
    arrows = lines(page, "bins classification")
    assert arrows.shape == (49, 2, 2) and len(lines(page, "arrow classification")) == 0
    np.testing.assert_allclose(arrows[:, 0], grid, atol=0.02)
    np.testing.assert_allclose(arrows[:, 1], moved.points.flatten(0, 1), atol=0.1)


def test_own_arrows_begin_where_the_bins_lie_in_all_proposals_and_the_share_is_said(opened):
    widget, page = opened()
    press(page, "l", "l")
    page.wait_for_function("document.querySelector('.legend .note').textContent.includes('images')")
    assert widget.arrows == "own" and page.inner_text(".notice") == ""
    pattern = widget.pattern["tsd"]["classification"]
    moved = widget.answer.levels[widget.answer.level].regions["classification"]
    usual = bin_centres(widget.answer.proposal[None], pattern.offsets[None])[0].flatten(0, 1)
    arrows = lines(page, "bins classification")
    np.testing.assert_allclose(arrows[:, 0], usual, atol=0.02)
    np.testing.assert_allclose(arrows[:, 1], moved.points.flatten(0, 1), atol=0.1)
    own = (moved.offsets - pattern.offsets).norm(dim=-1).mean().item()
    said = [float(v) for v in re.findall(r"([\d.]+) %", page.inner_text(".legend .note"))]
    whole = moved.offsets.norm(dim=-1).mean().item()
    assert said == pytest.approx([100 * whole, 100 * pattern.moved, 100 * own], abs=0.11)


def test_only_arrows_are_drawn_longer_and_this_is_written_on_the_image(opened):
    _, page = opened()
    region = '.canvas [data-shape="region localization"]'
    before = [page.get_attribute(region, name) for name in ("x", "y")], lines(page, "arrow localization")[0]
    press(page, "m", "m")
    after = lines(page, "arrow localization")[0]
    np.testing.assert_allclose(after[1] - after[0], 5 * (before[1][1] - before[1][0]), atol=0.1)
    assert [page.get_attribute(region, name) for name in ("x", "y")] == before[0]
    assert page.text_content("[data-label=magnify]") == "arrows ×5"
    clip = page.locator(".canvas svg")
    assert clip.evaluate("(e) => getComputedStyle(e).overflow") == "hidden"
    assert clip.get_attribute("viewBox") == "0 0 128 128"


_NAMES = """() => {
  const shown = [...document.querySelectorAll(".canvas .labels text")];
  const texts = shown.filter((e) => getComputedStyle(e).visibility !== "hidden");
  const boxOf = ({x, y, right, bottom}) => [x, y, right, bottom];
  return [texts.map((e) => e.textContent), texts.map((e) => boxOf(e.getBoundingClientRect()))];
}"""


# Names ----------------------------------------------------------------------------------------------------------------


def test_every_shape_has_its_name_and_no_name_covers_another(opened):
    _, page = opened(layers=("truth", "classification", "localization", "decoded"))
    edge = page.locator(".canvas").bounding_box()
    for step in range(12):
        names, boxes = page.evaluate(_NAMES)
        if step == 0:
            assert set(names) == {"P", "P̂r", "P̂c", "star", "box of sibling", "box of tsd"}
        assert {"P", "P̂r", "P̂c"} <= set(names)
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert left >= edge["x"] - 4 and right <= edge["x"] + edge["width"] + 4
            for other_left, other_top, other_right, other_bottom in boxes[:i]:
                # A line is higher than its letters, so the boxes may touch.
                across = min(right, other_right) - max(left, other_left)
                assert across <= 4 or min(bottom, other_bottom) - max(top, other_top) <= 5
        press(page, *(["Shift+ArrowRight"] if step % 3 else ["Shift+ArrowUp", "Alt+Shift+ArrowLeft"]))
    assert page.locator(".canvas [data-label=classification] tspan[dy]").text_content() == "c"  # a subscript


def test_the_name_of_a_small_object_stands_beside_it(browser, models, dataset):
    widget = tsdlab.explore(models, dataset)
    page = bare.open_widget(browser, widget, (720, 900))
    for _ in range(3):
        box = widget.truth.boxes[widget.answer.nearest.index].tolist()
        for figure in page.locator("figure").all():
            assert bare.covered(figure, "truth", box) < 0.05
        page.focus(".tsdlab-explorer")
        press(page, "n")
    page.close()


# Zoom -----------------------------------------------------------------------------------------------------------------


def test_keys_zoom_and_the_part_that_is_seen_follows_p(opened):
    _, page = opened()
    whole = frame(page)
    press(page, "+", "+", "+")
    close = frame(page)
    assert close[2] == pytest.approx(whole[2] / 1.5**3) and close[3] / close[2] == pytest.approx(whole[3] / whole[2])
    for _ in range(6):
        press(page, "Shift+ArrowRight")
        x, _, width, _ = frame(page)
        x1, _, x2, _ = held(page)
        assert x2 <= x + width and (x1 >= x or x2 - x1 > 0.9 * width)
    press(page, "-")
    assert frame(page)[2] == pytest.approx(whole[2] / 1.5**2)
    press(page, "h")
    assert frame(page) == whole


@pytest.mark.parametrize("at", [(2, 90, 32, 120), (96, 4, 126, 30)])
def test_keys_zoom_to_all_of_p(opened, at):
    _, page = opened(proposal=at)
    press(page, "+", "+")
    x, y, width, height = frame(page)
    x1, y1, x2, y2 = held(page)
    assert x <= x1 and y <= y1 and x2 <= x + width and y2 <= y + height and width < 80


def test_a_double_click_shows_the_object_closely_and_then_the_whole_image(opened):
    widget, page = opened()
    whole = frame(page)
    page.dblclick(".canvas", position={"x": 500, "y": 60})
    bare.settle(page)
    x, y, width, height = frame(page)
    x1, y1, x2, y2 = widget.truth.boxes[widget.answer.nearest.index].tolist()
    assert width < whole[2] / 1.4 and x <= x1 and y <= y1 and x2 <= x + width and y2 <= y + height
    assert held(page) == pytest.approx(BOX, abs=0.02)
    page.dblclick(".canvas", position={"x": 500, "y": 60})
    bare.settle(page)
    assert frame(page) == whole


def test_a_drag_is_exact_when_zoomed_and_the_image_is_dragged_beside_p(opened):
    _, page = opened()
    press(page, "+", "+")
    canvas = page.locator(".canvas").bounding_box()
    x, y, width, _ = frame(page)
    unit = width / canvas["width"]
    at = lambda px, py: (canvas["x"] + (px - x) / unit, canvas["y"] + (py - y) / unit)  # noqa: E731
    start = at(45, 59)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 31, start[1] - 17, steps=7)
    during = frame(page)
    page.mouse.up()
    bare.settle(page)
    assert held(page) == pytest.approx(np.add(BOX, np.multiply((31, -17, 31, -17), unit)), abs=0.03)
    assert during == [x, y, width, frame(page)[3]]
    before = frame(page)
    outside = canvas["x"] + 0.9 * canvas["width"], canvas["y"] + 0.95 * canvas["height"]
    page.mouse.move(*outside)
    page.mouse.down()
    page.mouse.move(outside[0] + 20, outside[1] + 10, steps=3)
    page.mouse.up()
    bare.settle(page)
    assert frame(page)[:2] == pytest.approx([before[0] - 20 * unit, before[1] - 10 * unit], abs=0.05)


def test_the_wheel_zooms_with_ctrl_or_when_the_image_has_the_focus(opened):
    _, page = opened()
    whole = frame(page)
    canvas = page.locator(".canvas").bounding_box()
    place = canvas["x"] + 0.3 * canvas["width"], canvas["y"] + 0.4 * canvas["height"]
    pixel = whole[0] + 0.3 * whole[2], whole[1] + 0.4 * whole[3]
    page.mouse.move(*place)
    page.mouse.wheel(0, -200)
    bare.settle(page)
    assert frame(page) == whole
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function(f"document.querySelector('.canvas').viewBox.baseVal.width < {whole[2] - 1}")
    x, y, width, height = frame(page)
    assert (x + 0.3 * width, y + 0.4 * height) == pytest.approx(pixel, abs=0.1)
    page.focus(".canvas")
    page.mouse.wheel(0, 4000)
    page.wait_for_function(f"document.querySelector('.canvas').viewBox.baseVal.width > {whole[2] - 0.01}")


def test_shift_and_click_put_p_there(opened):
    _, page = opened()
    canvas, (x, y, width, height) = page.locator(".canvas").bounding_box(), frame(page)
    page.keyboard.down("Shift")
    page.mouse.click(canvas["x"] + 0.7 * canvas["width"], canvas["y"] + 0.25 * canvas["height"])
    page.keyboard.up("Shift")
    bare.settle(page)
    x1, y1, x2, y2 = held(page)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((x + 0.7 * width, y + 0.25 * height), abs=0.2)
    assert (x2 - x1, y2 - y1) == pytest.approx((40, 58), abs=0.02)


# Maps -----------------------------------------------------------------------------------------------------------------


def test_a_map_has_its_tasks_colour_and_both_best_places_with_their_distance_on_every_level(opened):
    widget, page = opened()
    press(page, "u")
    page.wait_for_selector(".canvas [data-shape=map][href^=data]", state="attached")
    assert widget.underlay == "classification"
    told = widget._maps["tsd"]["levels"]
    level = widget.answer.level
    assert page.get_attribute(".canvas [data-shape=map]", "href") == told[level]["classification"]["url"]
    rows = page.locator(".level [data-shape=map]")
    assert [row.get_attribute("href") for row in rows.all()] == [
        each["classification"]["url"] for each in told.values()
    ]
    said = re.search(r"([\d.]+) %", page.text_content("[data-label=peaks]"))[1]
    assert float(said) == pytest.approx(100 * told[level]["distance"], abs=0.06)
    scale = page.inner_text(".legend .scale")
    top = float(scale.split("…")[1])
    assert scale.startswith("score 0 …") and top == pytest.approx(told[level]["classification"]["top"], rel=0.06)
    press(page, "u")
    page.wait_for_function("document.querySelector('.legend .scale').textContent.startsWith('IoU')")
    assert page.get_attribute(".canvas [data-shape=map]", "href") == told[level]["localization"]["url"]
    press(page, "u")
    assert page.locator(".canvas [data-shape=map]").evaluate("(e) => getComputedStyle(e).visibility") == "hidden"


def test_while_the_kernel_is_busy_the_map_is_said_to_come_and_dragging_goes_on(opened):
    _, page = opened()
    page.evaluate("() => { window.ask = () => new Promise(() => {}); }")
    press(page, "u", "Shift+ArrowRight")
    assert "Python" in page.inner_text(".legend .scale")
    assert held(page)[0] == pytest.approx(BOX[0] + 10, abs=0.02)


# Play -----------------------------------------------------------------------------------------------------------------


def curves(page):
    """The points of every curve that Play left behind, by role: [points, 2] in pixels of the plot."""
    found = page.eval_on_selector_all(
        ".slide [data-curve]", "(all) => all.map((e) => [e.dataset.curve, e.getAttribute('d')])"
    )
    numbers = [(role, [float(v) for v in re.findall(r"-?[\d.]+", path)]) for role, path in found]
    return [(role, np.array(values).reshape(-1, 2)) for role, values in numbers]


def test_play_slides_p_across_the_object_and_leaves_the_curves_behind(opened):
    widget, page = opened()
    assert page.locator(".slide").is_hidden()
    page.click("button.play")
    page.wait_for_function("document.querySelector('button.play').textContent.includes('stop')")
    page.wait_for_function("document.querySelector('button.play').textContent.includes('play')", timeout=20000)
    bare.settle(page)
    drawn = curves(page)
    assert [role for role, _ in drawn].count("classification") == 2 and len(drawn) == 5
    (_, own), *_ = (each for each in drawn if each[0] == "proposal")
    assert len(own) > 15
    # P is the object's own box in the middle, and 70 % of its width away at first.
    top, bottom = own[:, 1].min(), own[0, 1]
    assert own[own[:, 1].argmin(), 0] == pytest.approx((own[0, 0] + own[-1, 0]) / 2, abs=35)
    assert (bottom - top) / 84 == pytest.approx(1 - 0.3 / 1.7, abs=0.05)
    page.wait_for_timeout(400)
    assert held(page) == pytest.approx(BOX, abs=0.02) and widget.proposal == pytest.approx(BOX, abs=0.02)
    press(page, "n")
    assert page.locator(".slide").is_hidden(), "the curves are about an object of the other image"
    press(page, "p")
    assert page.locator(".slide").is_visible()


def test_the_curves_of_play_are_seen(browser, model, dataset):
    page = bare.open_widget(browser, tsdlab.explore(model, dataset), (1400, 700))
    page.click("button.play")
    page.wait_for_selector(".slide:visible")
    place = page.locator(".slide").bounding_box()
    assert place["y"] > 0 and place["y"] + place["height"] <= 701  # a page is scrolled by whole pixels
    page.close()


def test_any_input_stops_play(opened):
    for stop in (lambda page: page.keyboard.press("ArrowRight"), lambda page: page.click("figcaption")):
        _, page = opened()
        press(page, "w")
        page.wait_for_timeout(500)
        stop(page)
        page.wait_for_function("document.querySelector('button.play').textContent.includes('play')")
        after = held(page)
        page.wait_for_timeout(300)
        assert held(page) == after


def test_whoever_asks_for_less_motion_plays_step_by_step(opened):
    _, page = opened()
    page.emulate_media(reduced_motion="reduce")
    press(page, "w")
    first = held(page)
    page.wait_for_timeout(300)
    assert held(page) == first and len(curves(page)[0][1]) == 1
    press(page, "w")
    assert held(page)[0] > first[0] + 2 and len(curves(page)[0][1]) == 2
    for _ in range(13):
        press(page, "w")
    assert len(curves(page)[0][1]) == 15 and "play" in page.inner_text("button.play")
    page.wait_for_function(f"Math.abs(document.querySelector('{HELD}').getAttribute('x') - {BOX[0]}) < 0.02")
