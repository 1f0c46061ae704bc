"""Whether the explorer can be read and used by everybody: contrast, focus, keyboard, text alternatives."""

import pytest

import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")
bare = pytest.importorskip("bare")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]

# JupyterLab's own variables for its two themes.
THEMES = {
    "plain": "",
    "light": "--jp-ui-font-color1:rgba(0,0,0,.87);--jp-ui-font-color2:rgba(0,0,0,.54);--jp-layout-color1:#fff;"
    "--jp-layout-color2:#eee;--jp-border-color2:#e0e0e0;--jp-brand-color1:#1976d2",
    "dark": "--jp-ui-font-color1:#fff;--jp-ui-font-color2:rgba(255,255,255,.7);--jp-layout-color1:#111;"
    "--jp-layout-color2:#424242;--jp-border-color2:#616161;--jp-brand-color1:#2196f3",
}

# [contrast, needed contrast, text] of all bars, and of everything that is written outside of the images.
CONTRASTS = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colors) => {  // the colour that is seen where colours lie over each other
    for (const color of ["#fff", ...colors]) { paint.fillStyle = color; paint.fillRect(0, 0, 1, 1); }
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (...colors) => {
    const [low, high] = colors.map(light).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [...document.querySelectorAll(".track.solid i")].map((bar) => {
    const [own, track] = [bar, bar.parentElement].map((element) => over([getComputedStyle(element).backgroundColor]));
    return [contrast(own, track), 3, "a bar"];
  });
  for (const element of document.querySelectorAll(".tsdlab-explorer *:not(svg *)")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    const style = getComputedStyle(element);
    if (!text || !element.checkVisibility() || element.matches(":disabled, option, .unseen, .unseen *")) continue;
    const grounds = [];
    let opacity = 1;
    for (let up = element; up; up = up.parentElement) {
      grounds.unshift(getComputedStyle(up).backgroundColor);
      opacity *= getComputedStyle(up).opacity;
    }
    const ground = over(grounds);
    const seen = over([...grounds, style.color]).map((v, i) => opacity * v + (1 - opacity) * ground[i]);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push([contrast(seen, ground), large ? 3 : 4.5, `${element.className} ${text}`]);
  }
  return found;
}"""


@pytest.fixture
def opened(browser, models):
    page = bare.open_widget(browser, tsdlab.explore(models, CocoDataset(SAMPLE, "val"), underlay="classification"))
    page.focus(".tsdlab-explorer")
    page.keyboard.press("v")
    page.click(".margins summary")
    bare.settle(page)
    yield page
    assert not page.broken
    page.close()


def wear(page, theme):
    page.add_style_tag(content=f":root {{ {THEMES[theme]} }} body {{ background: var(--jp-layout-color1) }}")


@pytest.mark.parametrize("theme", THEMES)
def test_all_text_can_be_read(opened, theme):
    wear(opened, theme)
    opened.click(".legend .layer >> nth=1")  # a layer that is off
    opened.fill("[name=x1]", "nonsense")
    opened.keyboard.press("Enter")
    bare.settle(opened)
    found = opened.evaluate(CONTRASTS)
    assert len(found) > 60
    assert [each for each in found if each[0] < each[1]] == []


@pytest.mark.parametrize("theme", THEMES)
def test_everything_can_be_reached_by_keyboard_and_is_seen_when_it_is(opened, theme):
    wear(opened, theme)
    controls = "button:not(:disabled), select, input, summary"
    expected = opened.locator(f".tsdlab-explorer :is({controls})").evaluate_all(
        "(all) => all.filter((element) => element.checkVisibility()).length"
    )
    opened.focus(".tsdlab-explorer")
    reached = set()
    for i in range(expected + 1):
        opened.keyboard.press("Tab")
        visible = opened.evaluate("""(i) => {
          const element = document.activeElement;
          if (!element.closest(".tsdlab-explorer > *")) return true;
          element.dataset.reached ??= i;
          const { outlineStyle, outlineWidth } = getComputedStyle(element);
          return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
        }""", i)  # fmt: skip
        assert visible
        reached.add(i)
    assert opened.locator("[data-reached]").count() >= expected
    unnamed = opened.locator(f".tsdlab-explorer :is({controls})").evaluate_all(
        "(all) => all.filter((e) => !(e.ariaLabel || e.title || e.innerText.trim())).map((e) => e.outerHTML)"
    )
    assert unnamed == []


def test_nothing_moves_by_itself(browser, models):
    page = bare.open_widget(browser, tsdlab.explore(models, CocoDataset(SAMPLE, "val")))
    page.emulate_media(reduced_motion="reduce")
    moving = page.evaluate("document.getAnimations().length")
    timed = page.locator(".tsdlab-explorer *").evaluate_all(
        "(all) => all.filter((e) => getComputedStyle(e).transitionDuration !== '0s').length"
    )
    assert (moving, timed) == (0, 0)
    page.close()
