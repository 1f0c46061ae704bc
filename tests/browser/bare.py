"""A widget's page in a browser without a notebook: requests go straight to the widget, answers straight to the page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page

from tsdlab.widgets.protocol import PageWidget

# A model as anywidget gives it to a page: get, on, off, send.
_MODEL = """async ({script, state}) => {
  const listeners = {};
  const tell = (event, ...about) => (listeners[event] ?? []).forEach((listener) => listener(...about));
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (each) => each.charCodeAt(0)).buffer);
  const model = {
    get: (name) => state[name],
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off: () => {},
    send: async (request) => {
      const { update, messages } = JSON.parse(await window.ask(JSON.stringify(request)));
      for (const [content, buffers] of messages) tell("msg:custom", content, buffers.map(bytes));
      Object.assign(state, update);
      for (const name of Object.keys(update)) tell(`change:${name}`);
      tell("change");
    },
  };
  window.endKernel = (event) => {
    model.send = () => { throw new Error("Cannot send"); };
    if (event) tell(event);
  };
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  (await import(url)).default().render({ model, el: document.body });
}"""


# Colours of JupyterLab's dark theme.
_DARK = """:root {
  --jp-ui-font-color1: rgb(255 255 255 / 87%); --jp-ui-font-color2: rgb(255 255 255 / 54%);
  --jp-layout-color1: #212121; --jp-layout-color2: #424242; --jp-border-color2: #616161; --jp-brand-color1: #2196f3;
}"""


def open_widget(browser: Browser, widget: PageWidget, size: tuple[int, int] = (1500, 1100), dark: bool = False) -> Page:
    """A page that shows `widget`; what goes wrong in it is in `page.broken`, its requests are in `page.requests`."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.broken, page.requests = [], []
    page.on("pageerror", lambda error: page.broken.append(str(error)))

    messages: list[tuple[dict, list[str]]] = []
    widget.send = lambda content, buffers=(): messages.append(
        (content, [base64.b64encode(each).decode() for each in buffers])
    )

    def ask(request: str) -> str:
        before = _state(widget)
        page.requests.append(json.loads(request))
        messages.clear()
        widget._receive(widget, page.requests[-1], [])
        update = {name: value for name, value in _state(widget).items() if value != before[name]}
        return json.dumps({"update": update, "messages": messages})

    page.expose_function("ask", ask)
    page.set_content(f"<!doctype html><style>{widget._css}{_DARK if dark else ''}</style><body></body>")
    page.evaluate(_MODEL, {"script": widget._esm, "state": _state(widget)})
    settle(page)
    return page


def open_file(browser: Browser, path: Path, size: tuple[int, int] = (1500, 1100)) -> Page:
    """A saved page, without a network; what goes wrong is in `page.broken`, what it asks the network in `.requests`."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    page.broken, page.requests = [], []
    page.on("pageerror", lambda error: page.broken.append(str(error)))
    own = (path.as_uri(), "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(own) or page.requests.append(request.url))
    context.route(re.compile("^(http|ws)"), lambda route: route.abort())
    if browser.browser_type.name == "chromium":  # the protocol for Firefox has no such command
        context.set_offline(True)
    page.goto(path.as_uri())
    page.wait_for_selector(".tsdlab-explorer [data-shape=proposal]")
    settle(page)
    return page


def settle(page: Page) -> None:
    """Wait until the page shows the answer to everything that was asked."""
    page.wait_for_selector(".tsdlab-page[data-waiting=no]")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def _state(widget: PageWidget) -> dict[str, Any]:
    """The fields, and what the page is told, as JSON gives it back."""
    told = [name for name in widget.keys if name.startswith("_") and not name.startswith(("_model", "_view", "_any"))]
    names = [*widget.fields(), *(name for name in told if name not in ("_esm", "_css", "_dom_classes"))]
    return json.loads(json.dumps({name: getattr(widget, name) for name in names}))


def covered(figure: Locator, label: str, box: Sequence[float]) -> float:
    """The share of `box` [4], pixels of the image, that the name `label` of a figure covers."""
    text = figure.locator(f".canvas [data-label='{label}']")
    assert text.evaluate("(e) => getComputedStyle(e).visibility") == "visible"
    left, top, right, bottom = text.evaluate("(e) => ((b) => [b.x, b.y, b.x + b.width, b.y + b.height])(e.getBBox())")
    x1, y1, x2, y2 = box
    across, down = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)
    return max(across, 0) * max(down, 0) / ((x2 - x1) * (y2 - y1))
