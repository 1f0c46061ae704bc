"""The page of the explorer while the kernel is busy or gone, in a browser without a notebook."""

import pytest

import tsdlab
from tsdlab.analysis.proposal import ask_levels
from tsdlab.models.probe import Probe

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")
bare = pytest.importorskip("bare")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]


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
