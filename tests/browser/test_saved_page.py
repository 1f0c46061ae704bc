"""The explorer's page in browsers against Python: beside a kernel, and saved, from file:// without a network."""

import math
from pathlib import Path

import pytest

import tsdlab
from tsdlab.analysis.proposal import GroundTruth, ask_levels
from tsdlab.errors import InputError
from tsdlab.models.probe import Probe
from tsdlab.widgets.page import compose_script

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")
bare = pytest.importorskip("bare")

pytestmark = pytest.mark.browser

SAVED = Path(tsdlab.__file__).parent / "widgets" / "saved"
WAYS = [("chromium", "live"), ("chromium", "saved"), ("firefox", "saved")]


@pytest.fixture(scope="module")
def playwright():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def way(request, playwright):
    """A browser, and how a page is opened in it."""
    name, kind = request.param
    with lab.started_browser(playwright, name) as browser:
        yield browser, kind


@pytest.fixture
def opened(way, tmp_path):
    """`opened(explorer)` is a page that shows it."""
    browser, kind = way
    pages = []

    def open_page(explorer, images=12, **options):
        if kind == "live":
            page = bare.open_widget(browser, explorer, **options)
            page.wait_for_timeout(300)  # until the page has what it computes with
            page.focus(lab.EXPLORER)  # a notebook has other things that take keys
        else:
            explorer.save(tmp_path / "page.html", images, overwrite=True)
            page = bare.open_file(browser, tmp_path / "page.html", **options)
        page.set_default_timeout(10_000)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.broken == [] and (kind == "live" or page.requests == [])
        page.context.close()


def held(page):
    """The proposal that is drawn."""
    shape = page.locator(".canvas [data-shape=proposal]").last
    x, y, w, h = (float(shape.get_attribute(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + w, y + h


def agrees(page, models, dataset, index, level=None):
    """Every class score that is listed is Python's for the same proposal; returns the proposal."""
    proposal = held(page)
    image, target = dataset[index]
    answers = {
        name: ask_levels(Probe(model, image), proposal, GroundTruth.of(target), level) for name, model in models.items()
    }
    bars = page.eval_on_selector_all(
        ".scores [data-series]", "(all) => all.map(({dataset: d}) => [d.series, Number(d.label), Number(d.value)])"
    )
    assert len(bars) > 3
    for series, label, value in bars:
        model, branch = branch_of(series, answers)
        assert value == pytest.approx(answers[model].branches[branch].scores[label].item(), abs=2e-3), (series, label)
    return proposal


def branch_of(series, answers):
    """The model and the branch that a label of the page names; see widgets/explorer/series.py."""
    if len(answers) == 1:
        return next(iter(answers)), series
    branch, _, model = series.rpartition(" in ")
    return (model, branch) if branch else (series, next(reversed(answers[series].branches)))


def drag(page, dx, dy):
    place = page.locator(".canvas [data-handle=move]").last.bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=8)
    page.mouse.up()
    bare.settle(page)


def test_a_drag_is_answered_as_python_answers(opened, models, dataset):
    alone = {"tsd": models["tsd"]}
    page = opened(tsdlab.explore(models["tsd"], dataset))
    before = held(page)
    for dx, dy in ((40, -25), (90, 60), (-200, -150)):
        drag(page, dx, dy)
        after = agrees(page, alone, dataset, 0)
    assert after[0] < before[0] - 5 and after[2] - after[0] == pytest.approx(before[2] - before[0], abs=0.02)


def test_every_image_opens_on_its_own_proposal(opened, models, dataset):
    page = opened(tsdlab.explore(models["tsd"], dataset))
    python = tsdlab.explore(models["tsd"], dataset)
    for step in (1, 1, -1, -1, -1):
        python._go(step)
        page.keyboard.press("n" if step > 0 else "p")
        page.wait_for_selector(f".place b:text-is('image {python.image_index}')")
        bare.settle(page)
        assert agrees(page, {"tsd": models["tsd"]}, dataset, python.image_index) == pytest.approx(
            python.proposal, abs=0.02
        )
    assert python.image_index == 11


def test_keys_move_p_and_choose_the_level(opened, models, dataset):
    page = opened(tsdlab.explore(models["tsd"], dataset))
    x1, y1, x2, y2 = held(page)
    for key in ("Shift+ArrowRight", "ArrowDown", "Alt+ArrowLeft"):
        page.keyboard.press(key)
    bare.settle(page)
    assert agrees(page, {"tsd": models["tsd"]}, dataset, 0) == pytest.approx(
        (x1 + 10, y1 + 1, x2 + 9, y2 + 1), abs=0.02
    )
    page.keyboard.press("2")
    bare.settle(page)
    agrees(page, {"tsd": models["tsd"]}, dataset, 0, level="2")
    assert page.get_attribute(".level.used", "data-level") == "2"


def test_two_models_answer_side_by_side(opened, models, dataset):
    page = opened(tsdlab.explore(models, dataset), images=2)
    drag(page, 30, 20)
    agrees(page, models, dataset, 0)
    page.keyboard.press("f")
    bare.settle(page)
    assert page.locator("figure.focused").get_attribute("data-model") == "sibling"
    page.keyboard.press("n")
    page.wait_for_selector(".place b:text-is('image 1')")
    bare.settle(page)
    agrees(page, models, dataset, 1)


def test_models_whose_names_are_numbers_keep_their_order(opened, models, dataset):
    numbered = {"2": models["tsd"], "1": models["sibling"]}
    page = opened(tsdlab.explore(numbered, dataset), images=1)
    drag(page, 30, 20)
    agrees(page, numbered, dataset, 0)
    rows = ".level[data-level='0'] tr"
    assert page.locator(rows).evaluate_all("(all) => all.map((row) => row.dataset.model)") == ["2", "1"]
    assert [line[:3] for line in page.locator(".headline p").all_inner_texts()[1:]] == ["2: ", "1: "]


def test_the_maps_are_those_of_python(opened, models, dataset):
    explorer = tsdlab.explore(models["tsd"], dataset, image_index=1, underlay="localization", level="1")
    page = opened(explorer, images=1)
    bare.settle(page)
    seen = page.evaluate(ALPHA, page.get_attribute(".canvas [data-shape=map]", "href"))
    image = explorer._session.image
    found = image.sensitivity_maps("tsd", image.answers["tsd"], None, "level").maps
    expected = found.levels["1"]["tsd"].localization
    expected = (255 * expected / expected.max()).tolist()
    assert seen == [pytest.approx(row, abs=2) for row in expected]
    page.keyboard.press("u")  # off
    bare.settle(page)
    assert (
        not page.get_attribute(".canvas [data-shape=map]", "href")
        or page.locator(".canvas [data-shape=map]").is_hidden()
    )


ALPHA = """async (url) => {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  return Array.from({ length: picture.height }, (_, y) =>
    Array.from({ length: picture.width }, (_, x) => data[4 * (y * picture.width + x) + 3]));
}"""


def test_the_arrows_without_the_pattern(opened, models, dataset):
    page = opened(tsdlab.explore(models["tsd"], dataset), images=1)
    page.keyboard.press("l")
    page.keyboard.press("l")
    page.wait_for_selector("text=/images/")
    bare.settle(page)
    assert "12 images" in page.inner_text(".legend")


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "שלום עולם",
    "日本語",
    "{{ 7*7 }}",
]


def test_names_of_any_kind_are_text(opened, models, dataset):
    page = opened(tsdlab.explore(dict.fromkeys(HOSTILE[:2], models["tsd"]), dataset, names=HOSTILE), images=1)
    assert page.locator("img").count() == 0
    assert [page.inner_text(f"figure .model >> nth={i}") for i in (0, 1)] == HOSTILE[:2]
    drag(page, 10, 10)
    page.click("text=/and . more/")
    assert set(HOSTILE) <= set(page.locator(".class .name").all_inner_texts())


def test_the_line_of_python_is_the_same(opened, models, dataset):
    explorer = tsdlab.explore(models["tsd"], dataset, level="1", proposal=(10, 20.5, 60, 70), layers=["truth"])
    page = opened(explorer, images=1)
    page.evaluate("() => void Object.defineProperty(navigator, 'clipboard', { value: null })")  # a page without https
    page.keyboard.press("y")
    page.wait_for_selector(".notice:text('tsdlab.explore')")
    again = eval(page.inner_text(".notice"), {"tsdlab": tsdlab, "model": models["tsd"], "dataset": dataset})
    assert {name: getattr(again, name) for name in again.fields()} == {
        name: getattr(explorer, name) for name in explorer.fields()
    }


# What only a saved page has


@pytest.fixture(params=["chromium", "firefox"], scope="module")
def saved(request, playwright, models, dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "page.html"
    explorer = tsdlab.explore(models["tsd"], dataset)
    explorer.save(path, 2)
    with lab.started_browser(playwright, request.param) as browser:
        yield explorer, bare.open_file(browser, path)


def test_what_needs_python_is_hidden_and_said(saved):
    _, page = saved
    page.keyboard.press("v")
    assert page.locator(".drawer").is_visible()
    for element in page.locator("[data-needs=python]").all():
        assert element.is_hidden()
    for key, word in (("x", "filter"), ("z", "filter"), ("o", "order")):
        page.keyboard.press(key)
        assert word in page.inner_text(".notice") and "needs Python" in page.inner_text(".notice")


VALUES = [
    None, True, False, 0, 1, 0.5, -1, 100, 100.5, 1e9, "", "0", "1", "2", "3", "tsd", "sibling", "classification",
    "truth", "score", "iou", "summary", "own", "file", [], ["truth"], ["decoded", "truth"], ["truth", "truth"], ["0"],
    [["truth"]], [None], {}, {"truth": 1}, "None", "toString",
]  # fmt: skip

REFUSED = """async ({script, fields, values, rules}) => {
  const { refusalBy } = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  return fields.map((name) => values.map((value) => refusalBy(rules[name], name, value)));
}"""


def test_fields_are_checked_by_the_rules_of_python(saved, models, dataset):
    explorer, page = saved
    rules = explorer.rules()
    script = compose_script(SAVED / "rules.js") + "\nexport { refusalBy };"
    refused = page.evaluate(REFUSED, {"script": script, "fields": list(rules), "values": VALUES, "rules": rules})
    elsewhere = {"category", "size", "image_index", "proposal", "step"}
    assert set(rules) == set(explorer.fields()) - elsewhere
    fresh = tsdlab.explore(models["tsd"], dataset)
    for name, row in zip(rules, refused, strict=True):
        assert {said is None for said in row} == {True, False}
        for value, said in zip(VALUES, row, strict=True):
            try:
                type(fresh).assign(fresh, {name: value})
            except InputError:
                assert said and said.startswith(f"{name} must be"), (name, value)
            else:
                assert said is None, (name, value)


@pytest.mark.parametrize("width", [900, 1400, 1800])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_wider_than_the_window(saved, width, dark):
    _, page = saved
    if dark and page.context.browser.browser_type.name == "firefox":
        pytest.skip("playwright cannot change the colours that a Firefox of the system prefers")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if dark else "light")
    bare.settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, ground = page.eval_on_selector(
        "body", "(e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    light = [sum(int(v) for v in color[4:-1].split(",")) / 765 for color in (ink, ground)]
    assert math.copysign(1, light[1] - light[0]) == (-1 if dark else 1) and abs(light[1] - light[0]) > 0.6
