"""How long after a move of a drag does the explorer show its answer? In a real JupyterLab and browser.

A drag is many mouse moves, as fast as the browser takes them. Measured in the page: from a pointer event to the frame
in which the answer to exactly that box is drawn, with everything around it. When the page computes the answer, every
move is answered; when the kernel does, the last move of a drag. `python benchmarks/explorer.py` writes
data/results/explorer.json and the picture of the README.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import tyro

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


def main(drags: int = 20, moves: int = 60) -> None:
    """Measure every set-up.

    Args:
        drags: to measure, after two to warm up.
        moves: mouse moves of each.
    """
    with tempfile.TemporaryDirectory() as folder, lab.start(Path(folder)) as server:
        take_picture(server)
        results = {
            f"{name}, answered by the {answerer}": measure(server, f"{prepare}\n{cell(model)}", drags, moves)
            for answerer, prepare in ANSWERERS.items()
            for name, model in MODELS.items()
        }
    for name, row in results.items():
        print(f"{name:40} median {row['median_ms']:.1f} ms, 95th percentile {row['p95_ms']:.1f} ms")
    write_results("explorer", {"drags": drags, "moves": moves, "latency": results, "provenance": provenance()})


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
