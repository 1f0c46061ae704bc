"""A real JupyterLab and a real browser, for tests of the explorer and for its benchmark."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page, Playwright, WebSocket, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
EXPLORER = ".tsdlab-explorer"
START_UP = 60  # seconds that a server, a page or a first import may take


def chromium() -> str | None:
    """The chromium that is installed, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def firefox() -> str | None:
    """The Firefox that is installed, or None."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


@contextmanager
def started_browser(playwright: Playwright, name: str) -> Iterator[Browser]:
    """A headless "chromium" or "firefox" as the system has it; without one the test is skipped."""
    program = {"chromium": chromium, "firefox": firefox}[name]()
    if program is None:
        pytest.skip(f"needs {name}")
    if name == "firefox":  # the channel of a Firefox that is not playwright's own
        browser = playwright.firefox.launch(executable_path=program, channel="moz-firefox")
    else:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    yield browser
    browser.close()


@dataclass
class Traffic:
    """The explorer's requests and answers in the order in which they pass the web socket."""

    most_in_flight: int = 0
    requests: int = 0
    _waiting: set[int] = field(default_factory=set)

    def watch(self, socket: WebSocket) -> None:
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, frame: str | bytes) -> None:
        if found := re.search(rb'"content":\s*\{"serial":\s*(\d+)', _bytes(frame)):
            self.requests += 1
            self._waiting.add(int(found[1]))
            self.most_in_flight = max(self.most_in_flight, len(self._waiting))

    def _received(self, frame: str | bytes) -> None:
        for serial in re.findall(rb'"done":\s*(\d+)', _bytes(frame)):
            self._waiting.discard(int(serial))


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


@dataclass
class Lab:
    """A server of JupyterLab and Notebook 7 in a folder of its own, and a browser."""

    folder: Path
    url: str
    token: str
    browser: Browser

    def write(self, cells: Sequence[str], name: str = "explore.ipynb") -> None:
        """A notebook of code cells."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)

    def open(
        self, name: str = "explore.ipynb", size: tuple[int, int] = (1800, 1200), app: str = "lab", dark: bool = False
    ) -> tuple[Page, Traffic]:
        """Open a notebook, run all of its cells, and wait for the explorer; see `show`."""
        page, traffic = self.show(name, size, app, dark)
        self.run_all(page)
        return page, traffic

    def show(
        self, name: str, size: tuple[int, int] = (1800, 1200), app: str = "lab", dark: bool = False
    ) -> tuple[Page, Traffic]:
        """Open a notebook, and wait for its kernel.

        Args:
            size: of the window, pixels.
            app: "lab" or "notebook".
        """
        self._choose_theme(dark)
        page = self.browser.new_page(viewport={"width": size[0], "height": size[1]})
        traffic = Traffic()
        page.on("websocket", traffic.watch)
        place = "lab/tree" if app == "lab" else "notebooks"
        page.goto(f"{self.url}/{place}/{name}?token={self.token}&reset")
        # Before its kernel answers, running a notebook asks which kernel to take.
        kernel = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
        page.wait_for_function(f"{kernel}?.status === 'idle'", timeout=START_UP * 1e3)
        return page, traffic

    def run_all(self, page: Page) -> None:
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")  # its promise may never end
        error = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], .jp-mod-error"
        page.wait_for_selector(f"{EXPLORER} [data-shape=proposal], {error}", timeout=START_UP * 1e3)
        if not page.query_selector(EXPLORER):
            raise AssertionError(f"no explorer; the cell says: {page.inner_text('.jp-Cell-outputArea')}")

    def _choose_theme(self, dark: bool) -> None:
        settings = self.folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        theme = {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"}
        (settings / "themes.jupyterlab-settings").write_text(json.dumps(theme))
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))


@contextmanager
def start(folder: Path) -> Iterator[Lab]:
    """A lab in `folder`, on a free port and with a token; both end with the context."""
    token, port = secrets.token_hex(16), _free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),  # the kernel imports this checkout, whichever is installed
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(server, f"{url}/api?token={token}", folder / "server.log")
        with sync_playwright() as playwright, started_browser(playwright, "chromium") as browser:
            yield Lab(folder, url, token, browser)
    finally:
        server.terminate()
        server.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(server: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_UP
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
