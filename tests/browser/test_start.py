"""What a person sees from running a cell until the explorer is complete, in JupyterLab 4 and Notebook 7."""

import pytest

from tsdlab.data import SAMPLE

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]

LOAD = f"""import tsdlab
from tsdlab.data.coco import CocoDataset
model, dataset = tsdlab.load_detector("badges-tsd"), CocoDataset({str(SAMPLE)!r}, "val")"""
# The picture comes late enough that something can be done before.
LATE = """import time
from tsdlab.widgets.explorer import picture
draw = picture.draw_explorer
picture.draw_explorer = lambda *about: time.sleep(5) or draw(*about)"""
WATCH = """() => {
  window.seen = [];
  new MutationObserver(() => {
    const last = [...document.querySelectorAll(".jp-CodeCell")].at(-1);
    const [page, ...others] = last.querySelectorAll(".tsdlab-explorer");
    const words = page?.innerText.match(/Computing.*/)?.[0];
    const now = page?.querySelector(".level.used") ? "answers" : words;
    if (others.length) window.seen.push("two pages");
    if (now && now !== window.seen.at(-1)) window.seen.push(now);
  }).observe(document.body, { childList: true, subtree: true });
}"""
OUTPUTS = "window.jupyterapp.shell.currentWidget.content.widgets.at(-1).model.sharedModel.outputs"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with lab.start(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_the_frame_comes_first_and_the_picture_last_into_the_same_output(server, app):
    server.write([f"{LOAD}\n{LATE}\ntsdlab.explore(model, dataset)"], f"{app}.ipynb")
    page, _ = server.show(f"{app}.ipynb", app=app)
    broken = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.evaluate(WATCH)
    server.run_all(page)
    page.click(f"{lab.EXPLORER} .notice")
    page.keyboard.press("?")
    page.wait_for_selector(f"{lab.EXPLORER} .help:not([hidden])")
    (output,) = page.evaluate(OUTPUTS)
    assert "image/png" not in output["data"] and "application/vnd.jupyter.widget-view+json" in output["data"]
    page.wait_for_function(f"'image/png' in {OUTPUTS}[0].data", timeout=lab.START_UP * 1e3)
    page.wait_for_selector(f"{lab.EXPLORER}[data-answers=page]", timeout=lab.START_UP * 1e3)
    (output,) = page.evaluate(OUTPUTS)
    assert {"image/png", "application/vnd.jupyter.widget-view+json", "text/plain"} <= output["data"].keys()
    # The page is still the one that was opened before, as it was left.
    assert page.locator(lab.EXPLORER).count() == 1 and page.is_visible(f"{lab.EXPLORER} .help")
    assert page.evaluate("window.seen") == ["Computing the features of the image and the first answers …", "answers"]
    before = page.inner_text(f"{lab.EXPLORER} .headline")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.wait_for_function(
        f"(before) => document.querySelector('{lab.EXPLORER} .headline').innerText !== before", arg=before
    )
    assert not broken
    page.close()


@pytest.mark.parametrize(
    "show",
    [
        "VBox([tsdlab.explore(model, dataset)])",
        "out = Output()\ndisplay(out)\nwith out:\n    display(tsdlab.explore(model, dataset))",
    ],
    ids=["in a box", "in an output"],
)
def test_a_page_inside_another_widget_is_answered_too(server, show):
    server.write([f"{LOAD}\nfrom ipywidgets import Output, VBox\n{show}"], "inside.ipynb")
    page, _ = server.open("inside.ipynb")
    page.wait_for_selector(f"{lab.EXPLORER}[data-answers=page]", timeout=lab.START_UP * 1e3)
    assert page.locator(f"{lab.EXPLORER} .level.used").count() == 1
    page.close()
