"""Draw the project's picture: the synthetic world, one displaced proposal, three training curves.

`python experiments/overview_picture.py` writes data/figures/overview.png.
"""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import torch
from torchvision.ops import box_iou

import tsdlab
from tsdlab.data import draw_scene
from tsdlab.data.badges import CLASSES, scene_rng
from tsdlab.figures import plots
from tsdlab.provenance import RESULTS

# An image of the sample (validation, seed 7): index of the image, and of the object in it.
SEED, IMAGE, OBJECT = 7, 0, 0
ZOOM = 8  # the picture is rendered larger than the detector sees it
PICTURE = RESULTS.parent / "figures" / "overview.png"


def draw_overview(figure: plt.Figure) -> None:
    scene = draw_scene(scene_rng(SEED, 1, IMAGE))
    large = torch.from_numpy(draw_scene(scene_rng(SEED, 1, IMAGE), 128 * ZOOM).image).permute(2, 0, 1) / 255
    truth = torch.from_numpy(scene.boxes[OBJECT]).float()
    badge = torch.from_numpy(scene.salient_boxes[OBJECT]).float()
    trace = tsdlab.trace(
        tsdlab.load_detector("badges-tsd"), torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255
    )
    best = int(box_iou(trace.proposals, truth[None])[:, 0].argmax())
    world, moved, learning = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))

    plots.show_image(large, world, 1 / ZOOM)
    plots.draw_box(truth, plots.PALETTE["truth"], world)
    plots.draw_box(badge, "white", world, linestyle=":")
    name = CLASSES[scene.labels[OBJECT] - 1]
    world.set_title(f"limbs set the box, the badge tells the class: a {name}", fontsize=10)

    plots.displacement(large, trace, best, moved, truth, pixel=1 / ZOOM)
    moved.set_title("one proposal becomes two", fontsize=10)
    moved.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, fontsize=8)

    models = json.loads((RESULTS / "badges.json").read_text())["models"]
    plots.training_curve({head: model["history"] for head, model in models.items()}, "AP", smooth=1, ax=learning)
    for line in learning.lines:
        line.set_marker("o")
    learning.set(ylim=(0, 100), ylabel="AP on 500 validation images")
    learning.set_title("what each head makes of the same schedule", fontsize=10)


def main() -> None:
    figure = plt.figure(figsize=(13, 4.6), layout="constrained")
    draw_overview(figure)
    figure.savefig(PICTURE, dpi=110)
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
