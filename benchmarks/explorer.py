"""How long after the last move of a drag does the explorer show its answer? In a real JupyterLab and browser.

A drag is many mouse moves, as fast as the browser takes them. Measured in the page: from its last pointer event to
the frame in which the answer to exactly that box is drawn. `python benchmarks/explorer.py` writes
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

SETUPS = {
    "tsd": 'tsdlab.load_detector("badges-tsd")',
    "sibling beside tsd": '{name: tsdlab.load_detector(f"badges-{name}") for name in ("sibling", "tsd")}',
}

# The page draws an answer, then writes its serial in the next frame; nothing is waited for after the last one.
WATCH = """(selector) => {
  const root = document.querySelector(selector);
  window.moved = 0;
  addEventListener("pointermove", () => { window.moved = performance.now(); window.shown = null; }, true);
  new MutationObserver(() => { if (root.dataset.waiting === "no") window.shown ??= performance.now(); })
    .observe(root, { attributeFilter: ["data-answered"] });
}"""


def main(drags: int = 20, moves: int = 60) -> None:
    """Measure every set-up.

    Args:
        drags: to measure, after two to warm up.
        moves: mouse moves of each.
    """
    with tempfile.TemporaryDirectory() as folder, lab.start(Path(folder)) as server:
        take_picture(server)
        results = {name: measure(server, model, drags, moves) for name, model in SETUPS.items()}
    for name, row in results.items():
        print(f"{name:20} median {row['median_ms']:.0f} ms, 95th percentile {row['p95_ms']:.0f} ms")
    write_results("explorer", {"drags": drags, "moves": moves, "latency": results, "provenance": provenance()})


def take_picture(server: lab.Lab) -> None:
    """Of a proposal on which the two branches differ."""
    server.write([cell(SETUPS["tsd"], ", image_index=8, proposal=(37.57, 14.38, 80.84, 42.74)")])
    page, _ = server.open(size=(1650, 1300))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    page.locator(lab.EXPLORER).screenshot(path=PICTURE)
    page.close()


def cell(model: str, state: str = "") -> str:
    return f"""import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
tsdlab.explore({model}, CocoDataset(SAMPLE, "val"){state})"""


def measure(server: lab.Lab, model: str, drags: int, moves: int) -> dict:
    """Milliseconds from the last move of a drag to its answer."""
    server.write([cell(model)])
    page, traffic = server.open()
    page.evaluate(WATCH, lab.EXPLORER)
    milliseconds = []
    for number in range(drags + 2):
        grip = page.query_selector(f"{lab.EXPLORER} .canvas [data-handle=move]").bounding_box()
        x, y = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
        way = 1 if number % 2 else -1  # to and fro
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 70 * way, y + 40 * way, steps=moves)
        page.wait_for_function("window.shown !== null")
        milliseconds.append(page.evaluate("window.shown - window.moved"))
        page.mouse.up()
    page.close()
    measured = milliseconds[2:]
    return {
        "median_ms": round(statistics.median(measured), 1),
        "p95_ms": round(statistics.quantiles(measured, n=20, method="inclusive")[-1], 1),
        "requests": traffic.requests,
        "moves": moves * (drags + 2),
        "most_in_flight": traffic.most_in_flight,
    }


if __name__ == "__main__":
    tyro.cli(main)
