"""How soon does the explorer answer: a move of a drag, and when its cell is run? In a real JupyterLab and browser.

A drag is many mouse moves, as fast as the browser takes them. Measured in the page: from a pointer event to the frame
in which the answer to exactly that box is drawn, with everything around it. When the page computes the answer, every
move is answered; when the kernel does, the last move of a drag. The start is measured from running a cell to the first
paint of the explorer's frame, and to that of its first answer. `python benchmarks/explorer.py` writes
data/results/explorer.json and the picture of the README; with `--part start`, only what is measured of the start.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Literal

import tyro
from playwright.sync_api import Page

from tsdlab.provenance import provenance, write_results
from tsdlab.shipped import RESULTS

sys.path.append(str(Path(__file__).parents[1] / "tests" / "browser"))
import lab

PICTURE = RESULTS.parent / "figures" / "explorer.png"

MODELS = {
    "tsd": 'tsdlab.load_detector("badges-tsd")',
    "sibling beside tsd": '{name: tsdlab.load_detector(f"badges-{name}") for name in ("sibling", "tsd")}',
}
# Who answers: the page, unless the head is too large for it.
ANSWERERS = {
    "page": "",
    "kernel": "from tsdlab.widgets.second_stage import packing; packing.MOST_MULTIPLICATIONS = 0",
}

# An answer is drawn in the frame that writes its serial. `latencies` has, for every answer after which nothing is
# waited for, the milliseconds since the last pointer event before it.
WATCH = """(selector) => {
  const root = document.querySelector(selector);
  let moved = null;
  window.latencies = [];
  addEventListener("pointermove", () => { moved = performance.now(); window.shown = false; }, true);
  new MutationObserver(() => {
    if (root.dataset.waiting !== "no" || moved === null) return;
    window.latencies.push(performance.now() - moved);
    window.shown = true;
    moved = null;
  }).observe(root, { attributeFilter: ["data-answered"] });
}"""


# `started` gets the milliseconds from running a cell to the paints of the explorer's frame and of its first answer.
START = """(number) => {
  const cell = document.querySelectorAll(".jp-CodeCell")[number];
  const wanted = { frame: ".tsdlab-explorer", answer: ".tsdlab-explorer .level.used" };
  const run = performance.now();
  window.started = {};
  const painted = (then) => requestAnimationFrame(() => setTimeout(then));
  const note = (name) => painted(() => { window.started[name] = performance.now() - run; });
  new MutationObserver(() => {
    for (const [name, selector] of Object.entries(wanted)) {
      if (!cell.querySelector(selector)) continue;
      delete wanted[name];
      note(name);
    }
  }).observe(cell, { childList: true, subtree: true, attributes: true });
  void window.jupyterapp.commands.execute("notebook:run-cell-and-select-next");
}"""


def main(drags: int = 20, moves: int = 60, kernels: int = 5, part: Literal["all", "start"] = "all") -> None:
    """Measure every set-up.

    Args:
        drags: to measure, after two to warm up.
        moves: mouse moves of each.
        kernels: fresh ones in which the start is measured.
        part: "start" leaves the other results as they are.
    """
    with tempfile.TemporaryDirectory() as folder, lab.start(Path(folder)) as server:
        start = measure_start(server, kernels)
        for name, row in start["rows"].items():
            print(f"{name:60} frame {row['frame_ms']:.0f} ms, answer {row['answer_ms']:.0f} ms")
        if part == "start":
            write_results("explorer", json.loads((RESULTS / "explorer.json").read_text()) | {"start": start})
            return
        take_picture(server)
        results = {
            f"{name}, answered by the {answerer}": measure(server, f"{prepare}\n{cell(model)}", drags, moves)
            for answerer, prepare in ANSWERERS.items()
            for name, model in MODELS.items()
        }
    for name, row in results.items():
        print(f"{name:40} median {row['median_ms']:.1f} ms, 95th percentile {row['p95_ms']:.1f} ms")
    write_results(
        "explorer",
        {"drags": drags, "moves": moves, "latency": results, "start": start, "provenance": provenance()},
    )


def measure_start(server: lab.Lab, kernels: int) -> dict:
    """Median milliseconds from running a cell to the paints of the explorer's frame and of its first answer."""
    prepare = f"""import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
model, dataset = {MODELS["tsd"]}, CocoDataset(SAMPLE, "val")"""
    explore = "tsdlab.explore(model, dataset)"
    rows: dict[str, list[dict[str, float]]] = {}
    for number in range(kernels):
        server.write([f"{prepare}\n{explore}"], f"one-cell-{number}.ipynb")
        page, _ = server.show(f"one-cell-{number}.ipynb")
        rows.setdefault("import, weights and explorer, fresh kernel", []).append(run_cell(page, 0))
        page.close()
        server.write([prepare, explore, explore], f"cells-{number}.ipynb")
        page, _ = server.show(f"cells-{number}.ipynb")
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
        page.wait_for_function("document.querySelector('.jp-InputPrompt').innerText.includes('1')")
        for number_of_cell, name in ((1, "explorer, fresh kernel"), (2, "explorer once more, same kernel")):
            rows.setdefault(name, []).append(run_cell(page, number_of_cell))
        page.close()
    medians = {
        name: {f"{what}_ms": round(statistics.median(each[what] for each in row)) for what in ("frame", "answer")}
        for name, row in rows.items()
    }
    return {"kernels": kernels, "rows": medians}


def run_cell(page: Page, number: int) -> dict[str, float]:
    """Run the selected code cell, which is that of a number, and wait for its explorer."""
    page.evaluate(START, number)
    page.wait_for_function("'frame' in window.started && 'answer' in window.started", timeout=lab.START_UP * 1e3)
    started = page.evaluate("window.started")
    page.wait_for_timeout(2000)  # until the picture is made and the page has what it computes with
    return started


def take_picture(server: lab.Lab) -> None:
    """Of a proposal on which the two branches differ."""
    server.write([cell(MODELS["tsd"], ", image_index=8, proposal=(37.57, 14.38, 80.84, 42.74)")])
    page, _ = server.open(size=(1650, 1300))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    page.locator(lab.EXPLORER).screenshot(path=PICTURE)
    page.close()


def cell(model: str, state: str = "") -> str:
    return f"""import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
tsdlab.explore({model}, CocoDataset(SAMPLE, "val"){state})"""


def measure(server: lab.Lab, code: str, drags: int, moves: int) -> dict:
    """Milliseconds from the moves of drags to their answers."""
    server.write([code])
    page, traffic = server.open()
    page.wait_for_timeout(3000)  # until the page has what it computes with
    page.evaluate(WATCH, lab.EXPLORER)
    for number in range(drags + 2):
        if number == 2:
            page.evaluate("window.latencies.length = 0")
        grip = page.query_selector(f"{lab.EXPLORER} .canvas [data-handle=move]").bounding_box()
        x, y = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
        way = 1 if number % 2 else -1  # to and fro
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 70 * way, y + 40 * way, steps=moves)
        page.wait_for_function("window.shown")
        page.mouse.up()
    milliseconds = page.evaluate("window.latencies")
    page.close()
    return {
        "median_ms": round(statistics.median(milliseconds), 1),
        "p95_ms": round(statistics.quantiles(milliseconds, n=20, method="inclusive")[-1], 1),
        "answers": len(milliseconds),
        "requests": traffic.requests,
        "moves": moves * drags,
        "most_in_flight": traffic.most_in_flight,
    }


if __name__ == "__main__":
    tyro.cli(main)
