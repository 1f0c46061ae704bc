"""Draw where the features matter to each task, for one object and every shipped detector.

`python experiments/misalignment_picture.py` writes data/figures/misalignment.png.
"""

from __future__ import annotations

import matplotlib.pyplot as plt

import tsdlab
from tsdlab.analysis.sensitivity import gradient_maps
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.figures import maps
from tsdlab.shipped import RESULTS

IMAGE, OBJECT = 1, 1  # of the sample's validation images
PICTURE = RESULTS.parent / "figures" / "misalignment.png"


def draw_misalignment(figure: plt.Figure) -> None:
    """Gradient maps of both tasks (rows) for every shipped detector (columns), on one object."""
    image, target = CocoDataset(SAMPLE, "val")[IMAGE]
    box, badge, label = target["boxes"][OBJECT], target["salient_boxes"][OBJECT], int(target["labels"][OBJECT])
    axes = figure.subplots(2, 3)
    for column, head in zip(axes.T, ("sibling", "d_head", "tsd")):
        found = gradient_maps(tsdlab.load_detector(f"badges-{head}"), image, box, label)
        level = max(found.levels, key=lambda name: found.levels[name][head].classification.max().item())
        for ax, task in zip(column, maps.TASKS):
            maps.heat(found, level, head, task, ax, image, salient=badge)
        column[0].set_title(head)
    for ax, task in zip(axes[:, 0], maps.TASKS):
        ax.set_ylabel(task)
    maps.explain(figure, axes, salient="its badge")


def main() -> None:
    figure = plt.figure(figsize=(9.6, 6.2), layout="constrained")
    draw_misalignment(figure)
    figure.savefig(PICTURE, dpi=110)
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
