"""Draw the project's picture: an object, the two regions TSD makes of one proposal, and what two heads read there.

`python experiments/overview_picture.py` writes data/figures/overview.png. The proposal is chosen by a rule, not by
hand: see `choose`.
"""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

import tsdlab
from tsdlab.analysis.disagreement import ReadProposal, read_proposals
from tsdlab.data.badges import CLASSES, WORLD, Scene, draw_scene, scene_rng
from tsdlab.figures import plots
from tsdlab.models.detector import Detector
from tsdlab.shipped import RESULTS

# The first validation images of the world that the sample comes from; no model was trained on them.
SEED, VALIDATION, IMAGES = 7, 1, 100
ZOOM = 8  # the picture is rendered larger than the detectors see it
PICTURE = RESULTS.parent / "figures" / "overview.png"


def scene(image: int, zoom: int = 1) -> tuple[Scene, Tensor]:
    """A scene, and its image [3, H, W] in 0…1 at `zoom` times the size that detectors see."""
    drawn = draw_scene(scene_rng(SEED, VALIDATION, image), int(WORLD) * zoom)
    return drawn, torch.from_numpy(drawn.image).permute(2, 0, 1).float() / 255


def choose(sibling: Detector, tsd: Detector) -> ReadProposal:
    """The proposal that ΔR improves most (gain in IoU from P to P̂r), among those that only TSD classifies.

    "Only TSD": the sibling head's best class is another one, or background; TSD gives the true class 0.9 or more.
    """
    images = []
    for index in range(IMAGES):
        drawn, image = scene(index)
        images.append(
            (image, {"boxes": torch.from_numpy(drawn.boxes).float(), "labels": torch.from_numpy(drawn.labels)})
        )
    read = read_proposals(sibling, tsd, images)
    only_tsd = [p for p in read if p.first.label != p.label and p.second.score >= 0.9]
    return max(only_tsd, key=lambda p: p.moved_overlap - p.overlap)


def draw_overview(figure: plt.Figure, sibling: Detector, tsd: Detector, chosen: ReadProposal) -> None:
    seen, image = scene(chosen.image)
    _, large = scene(chosen.image, ZOOM)
    truth = torch.from_numpy(seen.boxes[chosen.object]).float()
    badge = torch.from_numpy(seen.salient_boxes[chosen.object]).float()
    traces = {
        name: tsdlab.trace(model, image, chosen.proposal[None]) for name, model in (("sibling", sibling), ("tsd", tsd))
    }
    axes = figure.subplot_mosaic(
        [["world", "moved", "scores"], ["world", "moved", "learning"]], width_ratios=(1, 1, 0.9)
    )

    plots.show_image(large, axes["world"], 1 / ZOOM)
    plots.draw_box(truth, plots.PALETTE["truth"], axes["world"])
    plots.draw_box(badge, "white", axes["world"], linestyle=":")
    name = CLASSES[chosen.label - 1]
    axes["world"].set_title(f"The limbs set the box, the badge tells the class ({name})", fontsize=10)

    plots.displacement(large, traces["tsd"], 0, axes["moved"], truth, pixel=1 / ZOOM)
    axes["moved"].set(xlim=axes["world"].get_xlim(), ylim=axes["world"].get_ylim())
    axes["moved"].set_title(
        f"TSD makes two regions of P (IoU {chosen.overlap:.2f} → P̂r: {chosen.moved_overlap:.2f})", fontsize=10
    )
    axes["moved"].legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, fontsize=9)

    plots.class_scores({name: t.detection for name, t in traces.items()}, 0, CLASSES, axes["scores"])
    axes["scores"].set_title("Class scores of each head for P", fontsize=10)
    draw_learning(axes["learning"])


def draw_learning(ax: Axes) -> None:
    """AP on validation images during training: the mean over seeds."""
    models = json.loads((RESULTS / "badges.json").read_text())["models"]
    curves = {
        head: [{"step": row["step"], "AP": row["AP"]["mean"]} for row in model["history"]]
        for head, model in models.items()
    }
    plots.training_curve(curves, "AP", smooth=1, ax=ax)
    for line in ax.lines:
        line.set_marker("o")
    ax.set(ylim=(0, 100), ylabel="AP on 500 images")
    ax.set_title("AP during training", fontsize=10)


def main() -> None:
    sibling, tsd = (tsdlab.load_detector(f"badges-{head}") for head in ("sibling", "tsd"))
    chosen = choose(sibling, tsd)
    figure = plt.figure(figsize=(13, 5), layout="constrained")
    draw_overview(figure, sibling, tsd, chosen)
    figure.savefig(PICTURE, dpi=110)
    print(f"image {chosen.image}, object {chosen.object}: a {CLASSES[chosen.label - 1]}")
    print(f"IoU of the proposal {chosen.overlap:.3f}, of P̂r {chosen.moved_overlap:.3f}")
    for head, reading in (("sibling", chosen.first), ("tsd", chosen.second)):
        print(f"{head}: score of the true class {reading.score:.2f}, IoU of the decoded box {reading.iou:.3f}")
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
