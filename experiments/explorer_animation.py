"""Record the README's animation: a proposal is dragged in the explorer, in a real JupyterLab and browser.

`python experiments/explorer_animation.py` writes data/figures/explorer.gif. It needs a chromium. The object is chosen:
of the sample's objects it is the one on which the two branches disagree most often while the proposal moves.
"""

from __future__ import annotations

import io
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path

from PIL import Image

from tsdlab.shipped import RESULTS

sys.path.append(str(Path(__file__).parents[1] / "tests" / "browser"))
import lab

PICTURE = RESULTS.parent / "figures" / "explorer.gif"
CELL = """import tsdlab
from tsdlab.data import SAMPLE, CocoDataset
tsdlab.explore(tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val"), image_index=8,
               proposal=(32.9, 14.9, 75.1, 44.7))"""

# The drag, closed so that the animation loops: (dx, dy) from the first proposal, image pixels, and frames to get there.
DRAG = [((-7.5, 0), 10), ((-4, -6), 8), ((4, -6), 8), ((9, 0.5), 10), ((0, 0), 9)]
HOLD = 6  # frames that the drag rests at each of these places
MILLISECONDS = 100  # for each frame

# A screenshot shows no mouse pointer, so the page draws one. Its own handlers receive the real events.
POINTER = """() => {
  const pointer = document.createElement("div");
  pointer.style = "position: fixed; z-index: 9999; pointer-events: none; width: 18px; height: 18px;"
    + "border-radius: 50%; margin: -9px; border: 2px solid white; background: #0008; box-shadow: 0 0 4px #000";
  document.body.append(pointer);
  addEventListener("pointermove", (event) => {
    pointer.style.left = `${event.clientX}px`;
    pointer.style.top = `${event.clientY}px`;
  }, true);
}"""

# The part of the page that is recorded: from the headline to the end of the image.
REGION = """(selector) => {
  const root = document.querySelector(selector);
  const [headline, image, body] = [".headline", ".stages", ".body"]
    .map((part) => root.querySelector(part).getBoundingClientRect());
  return { x: body.left - 8, y: headline.top - 4, width: body.width + 16, height: image.bottom - headline.top + 12 };
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, lab.start(Path(folder)) as server:
        server.write([CELL])
        page, _ = server.open(size=(1800, 1000))
        frames = record(page)
    first, *others = (frame.quantize(palette=_palette(frames), dither=Image.Dither.NONE) for frame in frames)
    first.save(PICTURE, save_all=True, append_images=others, duration=MILLISECONDS, loop=0, optimize=True)
    size = PICTURE.stat().st_size / 1e6
    print(f"written: {PICTURE}, {len(frames)} frames of {first.width}×{first.height} pixels, {size:.1f} MB")


def record(page: lab.Page) -> list[Image.Image]:
    """Drag the proposal along `DRAG`; one picture after each move, when its answer is on screen."""
    page.locator(f"{lab.EXPLORER} .canvas").first.scroll_into_view_if_needed()
    page.evaluate(POINTER)
    region = page.evaluate(REGION, lab.EXPLORER)
    proposal = page.locator(f"{lab.EXPLORER} .canvas [data-shape=proposal]").first
    box = proposal.bounding_box()
    zoom = box["width"] / float(proposal.get_attribute("width"))  # screen pixels per image pixel
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    frames = []
    for dx, dy in path():
        page.mouse.move(x + dx * zoom, y + dy * zoom, steps=2)
        page.wait_for_selector(f"{lab.EXPLORER}[data-waiting=no]")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        frames.append(Image.open(io.BytesIO(page.screenshot(clip=region))).convert("RGB"))
    page.mouse.up()
    return frames


def path() -> list[tuple[float, float]]:
    """Places of the proposal, one a frame; the drag starts and stops gently at each corner."""
    places = []
    start = (0.0, 0.0)
    for end, count in DRAG:
        for step in range(1, count + 1):
            share = (1 - math.cos(math.pi * step / count)) / 2
            places.append((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
        places += [end] * HOLD
        start = end
    return places


def _palette(frames: list[Image.Image]) -> Image.Image:
    """One palette for all frames, so that what does not move does not flicker.

    A colour counts by the root of its pixels: white stays white, and the thin arrows keep their own colour.
    """
    pixels: Counter[tuple[int, int, int]] = Counter()
    for frame in frames[:: len(frames) // 8]:
        pixels.update({colour: count for count, colour in frame.getcolors(frame.width * frame.height)})
    colours = [colour for colour in sorted(pixels) for _ in range(math.isqrt(pixels[colour]))]
    sheet = Image.new("RGB", (len(colours), 1))
    sheet.putdata(colours)
    return sheet.quantize(255)  # the 256th stands for pixels that do not change


if __name__ == "__main__":
    main()
