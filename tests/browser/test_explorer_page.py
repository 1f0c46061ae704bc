"""What a person sees and does in JupyterLab 4 and Notebook 7, against what Python computes.

Screenshots are kept in the folder that `TSDLAB_SHOTS` names, else in pytest's temporary one.
"""

import os
import re
from pathlib import Path

import nbformat
import pytest
import torch

from tsdlab.analysis.proposal import GroundTruth, ask_levels
from tsdlab.data import SAMPLE
from tsdlab.models.probe import Probe

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]

CELLS = [
    f"""import tsdlab
from tsdlab.data.coco import CocoDataset
models = {{name: tsdlab.load_detector(f"badges-{{name}}") for name in ("sibling", "tsd")}}
dataset = CocoDataset({str(SAMPLE)!r}, "val")""",
    "explorer = tsdlab.explore(models, dataset)\nexplorer",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with lab.start(tmp_path_factory.mktemp("lab")) as running:
        running.write(CELLS)
        yield running


@pytest.fixture
def shots(tmp_path):
    folder = Path(os.environ.get("TSDLAB_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def opened(server):
    page, traffic = server.open()
    page.traffic = traffic
    page.broken = []
    page.on("pageerror", lambda error: page.broken.append(str(error)))
    yield page
    assert not page.broken
    page.close()


def settle(page):
    page.wait_for_selector(f"{lab.EXPLORER}[data-waiting=no]")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def proposal_of(page):
    """The box as it is drawn, xyxy."""
    x, y, width, height = (
        float(page.get_attribute(f"{lab.EXPLORER} figure[data-model=tsd] [data-shape=proposal]", side))
        for side in ("x", "y", "width", "height")
    )
    return x, y, x + width, y + height


def shown_scores(page, series):
    bars = page.query_selector_all(f"{lab.EXPLORER} .scores [data-series='{series}']")
    return {int(bar.get_attribute("data-label")): float(bar.get_attribute("data-value")) for bar in bars}


def agrees(page, models, dataset, index, level=None):
    """What the page shows is what the models say of the box that it draws."""
    settle(page)
    image, target = dataset[index]
    box = tuple(round(v, 2) for v in proposal_of(page))
    truth = GroundTruth(target["boxes"], target["labels"])
    for name, model in models.items():
        answer = ask_levels(Probe(model, image), box, truth, level)
        used = list(answer.branches.values())[-1]
        for label, score in shown_scores(page, name).items():
            assert score == pytest.approx(used.scores[label].item(), abs=2e-3)
        if used.iou is not None:
            shown = page.get_attribute(f"{lab.EXPLORER} .level.used [data-series='{name}']", "data-iou")
            assert float(shown) == pytest.approx(used.iou, abs=2e-3)
    marked = page.query_selector_all(f"{lab.EXPLORER} .level.used")
    assert [m.get_attribute("data-level") for m in marked] == [answer.level]
    torch.testing.assert_close(
        torch.tensor([float(v) for v in region_of(page)]), answer.regions["localization"].boxes, atol=0.05, rtol=0
    )


def region_of(page):
    shape = f'{lab.EXPLORER} figure[data-model=tsd] [data-shape="region localization"]'
    x, y, width, height = (float(page.get_attribute(shape, side)) for side in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def middle(page, handle):
    place = page.query_selector(f"{lab.EXPLORER} figure[data-model=tsd] .canvas [data-handle={handle}]").bounding_box()
    return place["x"] + place["width"] / 2, place["y"] + place["height"] / 2


def drag(page, handle, dx, dy, steps=30):
    x, y = middle(page, handle)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=steps)
    page.mouse.up()


def test_notebook_05(server, models, dataset, shots):
    """Its explorer is dragged, asked for a level and for another image; a point of the statistics opens an object."""
    notebook = nbformat.read(lab.ROOT / "notebooks" / "05_displacements.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells.append(nbformat.v4.new_code_cell("print('every cell above', 'has run')"))
    nbformat.write(notebook, server.folder / "05.ipynb")
    page, _ = server.open("05.ipynb")
    last = ".jp-OutputArea-output:has-text('every cell above has run')"
    page.wait_for_selector(last, state="attached", timeout=lab.START_UP * 2e3)
    explorer = page.locator(lab.EXPLORER).first
    drawn = explorer.locator(".canvas [data-shape=proposal]").first
    before = float(drawn.get_attribute("x"))
    handle = explorer.locator(".canvas [data-handle=move]")
    handle.hover()  # waits until the page has scrolled and keeps still
    place = handle.bounding_box()
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] / 2 - 50, place["y"] + place["height"] / 2 + 30, steps=20)
    page.mouse.up()
    page.wait_for_function("(root) => root.dataset.waiting === 'no'", arg=explorer.element_handle())
    left, top, width, height = (float(drawn.get_attribute(side)) for side in ("x", "y", "width", "height"))
    assert left < before - 5
    image, target = dataset[1]
    box = tuple(round(v, 2) for v in (left, top, left + width, top + height))
    answer = ask_levels(Probe(models["tsd"], image), box, GroundTruth(target["boxes"], target["labels"]))
    bars = explorer.locator(".scores [data-series='tsd']").all()
    assert len(bars) >= 2  # background, the object's class, and whatever else has a score
    for bar in bars:
        expected = answer.branches["tsd"].scores[int(bar.get_attribute("data-label"))].item()
        assert float(bar.get_attribute("data-value")) == pytest.approx(expected, abs=2e-3)
    explorer.locator(".level[data-level='2'] button").click()
    page.wait_for_function(
        "(root) => root.querySelector('.level.used').dataset.level === '2'", arg=explorer.element_handle()
    )
    explorer.press("n")
    page.wait_for_function(
        "(root) => root.querySelector('.place b').textContent === 'image 2'", arg=explorer.element_handle()
    )
    explorer.screenshot(path=shots / "notebook-05-explorer.png")

    statistics = page.locator(".tsdlab-levels").first
    statistics.scroll_into_view_if_needed()
    statistics.locator(".scatter [role=img] .dot").last.click()  # drawn last, so no other dot lies on it
    page.wait_for_selector(f".tsdlab-levels-explorer {lab.EXPLORER} [data-shape=proposal]", timeout=lab.START_UP * 1e3)
    statistics.screenshot(path=shots / "notebook-05-statistics.png")
    page.close()


def test_drag_level_and_keys(opened, models, dataset, shots):
    page = opened
    agrees(page, models, dataset, 0)
    before = proposal_of(page)
    drag(page, "move", 60, 25)
    agrees(page, models, dataset, 0)
    moved = proposal_of(page)
    assert moved[0] > before[0] + 5 and moved[2] - moved[0] == pytest.approx(before[2] - before[0], abs=0.02)
    drag(page, "se", -40, -30)
    agrees(page, models, dataset, 0)
    assert proposal_of(page)[:2] == pytest.approx(moved[:2], abs=0.02)
    page.click(f"{lab.EXPLORER} .level[data-level='2'] button")
    agrees(page, models, dataset, 0, "2")
    page.screenshot(path=shots / "lab-dragged.png")
    page.keyboard.press("a")
    page.keyboard.press("n")
    page.wait_for_function(f"document.querySelector('{lab.EXPLORER} .place').textContent.startsWith('image 1 ')")
    agrees(page, models, dataset, 1)
    # The page answers the moves of a drag; Python is told when the drag has ended, and asked for the next image.
    assert 0 < page.traffic.requests < 10 and page.traffic.most_in_flight == 1


def test_everything_has_a_key(opened, shots):
    page = opened
    page.click(f"{lab.EXPLORER} .notice")
    cells = len(page.query_selector_all(".jp-Cell"))
    page.keyboard.press("?")
    page.wait_for_selector(f"{lab.EXPLORER} .help:not([hidden])")
    page.screenshot(path=shots / "lab-keys.png")
    page.keyboard.press("Escape")
    before = proposal_of(page)
    page.keyboard.press("Shift+ArrowRight")
    settle(page)
    assert proposal_of(page)[0] == pytest.approx(before[0] + 10, abs=0.02)
    page.keyboard.press("Alt+ArrowDown")
    settle(page)
    assert proposal_of(page)[3] == pytest.approx(before[3] + 1, abs=0.02)
    for key in "umjigcrdefbxz,0vl+-hy":
        page.keyboard.press(key)
        settle(page)
    assert "tsdlab.explore(models, dataset" in page.inner_text(f"{lab.EXPLORER} .notice")
    assert len(page.query_selector_all(".jp-Cell")) == cells  # the notebook took none of them for its own
    page.keyboard.press("o")
    page.wait_for_selector(f"{lab.EXPLORER} .conflict:not([hidden])")
    page.screenshot(path=shots / "lab-disagreement.png")


def test_the_view_is_saved(opened, shots):
    page = opened
    page.click(f"{lab.EXPLORER} .notice")
    for key, name in (("s", "svg"), ("Shift+S", "png")):
        with page.expect_download() as download:
            page.keyboard.press(key)
        assert download.value.suggested_filename == f"image-0.{name}"
        download.value.save_as(shots / f"saved.{name}")
    assert "P: proposal" in (shots / "saved.svg").read_text()
    assert (shots / "saved.png").read_bytes()[:4] == b"\x89PNG"


def test_nonsense_and_lost_boxes(opened, models, dataset):
    page = opened
    before = proposal_of(page)
    page.click(f"{lab.EXPLORER} .notice")
    page.keyboard.press("t")
    page.fill(f"{lab.EXPLORER} [name=x1]", "twelve")
    page.keyboard.press("Enter")
    assert "twelve" in page.inner_text(f"{lab.EXPLORER} .error")
    settle(page)
    assert proposal_of(page) == before
    drag(page, "move", -700, 0)  # out of the image
    settle(page)
    canvas = f"{lab.EXPLORER} figure[data-model=tsd] .canvas"
    page.click(canvas, position={"x": 200, "y": 200}, modifiers=["Shift"])
    agrees(page, models, dataset, 0)
    page.fill(f"{lab.EXPLORER} [name=x2]", page.input_value(f"{lab.EXPLORER} [name=x1]"))
    page.keyboard.press("Enter")
    agrees(page, models, dataset, 0)


@pytest.mark.parametrize("app", ["lab", "notebook"])
@pytest.mark.parametrize("ending", ["restart", "shutdown"])
def test_a_drag_goes_on_without_the_kernel(server, models, dataset, shots, app, ending):
    page, _ = server.open(app=app)
    broken = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.wait_for_selector(f"{lab.EXPLORER}[data-answers=page]")
    agrees(page, models, dataset, 0)
    page.evaluate(f"window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.{ending}()")
    page.wait_for_timeout(2000)
    before = proposal_of(page)
    drag(page, "move", 60, 25)
    page.wait_for_timeout(1000)  # longer than the page waits until it tells Python
    agrees(page, models, dataset, 0)
    assert proposal_of(page)[0] > before[0] + 5
    assert "The kernel is gone; run the cell again. Proposal, level" in page.inner_text(f"{lab.EXPLORER} .notice")
    page.keyboard.press("n")
    assert "no other image can be opened" in page.inner_text(f"{lab.EXPLORER} .notice")
    page.keyboard.press("1")
    agrees(page, models, dataset, 0, "1")
    page.screenshot(path=shots / f"{app}-{ending}.png")
    assert not broken
    page.close()


@pytest.mark.parametrize("app", ["lab", "notebook"])
@pytest.mark.parametrize("width", [900, 1800])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_overlaps(server, shots, app, width, dark):
    page, _ = server.open(size=(width, 2400), app=app, dark=dark)
    settle(page)
    page.locator(lab.EXPLORER).screenshot(path=shots / f"{app}-{width}-{'dark' if dark else 'light'}.png")
    too_wide = page.evaluate(
        f"[...document.querySelectorAll('{lab.EXPLORER}, {lab.EXPLORER} .body *:not(svg *, .unseen)')]"
        ".filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth && getComputedStyle(e).display !== 'inline')"
        ".map((e) => e.className || e.tagName)"
    )
    assert too_wide == []
    ink, ground = page.eval_on_selector(
        lab.EXPLORER, "(e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert abs(lightness(ink) - lightness(ground)) > 0.6
    page.close()


def lightness(color):
    return sum(float(v) for v in re.findall(r"[\d.]+", color)[:3]) / (3 * 255)
