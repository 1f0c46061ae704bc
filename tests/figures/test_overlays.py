"""Boxes and displacements are drawn where they are."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from tsdlab.figures import overlays
from tsdlab.figures.style import PALETTE
from tsdlab.structures import TASKS

NAMES = ["star", "ring"]


def boxes_of(ax):
    """Colour → (x1, y1, x2, y2) of every rectangle."""
    return {to_hex(p.get_edgecolor()): p.get_bbox().extents.round(3).tolist() for p in ax.patches}


def test_image_is_shown_in_its_own_pixels(ax):
    image = torch.rand(3, 4, 6)
    overlays.show_image(image, ax)
    assert ax.get_xlim() == (0, 6) and ax.get_ylim() == (4, 0)
    np.testing.assert_allclose(ax.images[0].get_array(), image.permute(1, 2, 0))


def test_detections_above_the_threshold_are_drawn_and_named(ax):
    found = {
        "boxes": torch.tensor([[1.0, 2.0, 30.0, 40.0], [5.0, 5.0, 9.0, 9.0]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.9, 0.4]),
    }
    overlays.detections(torch.zeros(3, 64, 64), found, NAMES, ax)
    assert [p.get_bbox().extents.tolist() for p in ax.patches] == [[1.0, 2.0, 30.0, 40.0]]
    assert [t.get_text().strip() for t in ax.texts] == ["ring 0.90"]


def test_objects_are_drawn_and_named(ax):
    target = {"boxes": torch.tensor([[5.0, 5.0, 9.0, 9.0], [1.0, 2.0, 30.0, 40.0]]), "labels": torch.tensor([1, 2])}
    overlays.objects(torch.zeros(3, 64, 64), target, NAMES, ax)
    assert [p.get_bbox().extents.tolist() for p in ax.patches] == target["boxes"].tolist()
    assert [t.get_text().strip() for t in ax.texts] == [NAMES[0], NAMES[1]]
    assert len({p.get_edgecolor() for p in ax.patches}) == 2, "a colour for each class"


def test_labels_of_boxes_in_one_place_do_not_cover_each_other(ax):
    box, other = torch.tensor([20.0, 30.0, 90.0, 100.0]), torch.tensor([40.0, 2.0, 110.0, 25.0])
    found = {
        "boxes": torch.stack([box, box, box + 1, other]),
        "labels": torch.tensor([1, 2, 1, 2]),
        "scores": torch.tensor([0.6, 0.9, 0.8, 0.7]),
    }
    overlays.detections(torch.zeros(3, 128, 128), found, NAMES, ax)
    ax.figure.canvas.draw()
    covered = {text.get_text().strip(): text.get_window_extent() for text in ax.texts}
    assert len(covered) == 4
    for name, extent in covered.items():
        assert not any(extent.overlaps(of) for other, of in covered.items() if other != name), name
    assert ax.texts[0].get_text().strip() == "ring 0.90" and ax.texts[0].get_position() == (20, 30)
    x, y = ax.texts[2].get_position()
    assert (x, y) == (40, 2) and ax.texts[2].get_va() == "top", "there is no room above"


def test_displacement_draws_all_three_regions(ax, traced):
    image, found = traced
    truth = torch.tensor([22.0, 33.0, 95.0, 99.0])
    overlays.displacement(image, found, 0, ax, truth)
    boxes = boxes_of(ax)
    classification, localization = (found.regions[task] for task in ("classification", "localization"))
    assert boxes[PALETTE["proposal"].lower()] == found.proposals[0].tolist()
    assert boxes[PALETTE["truth"].lower()] == truth.tolist()
    np.testing.assert_allclose(boxes[PALETTE["localization"].lower()], localization.boxes[0], atol=1e-3)
    grid, moved = (np.stack(line.get_data(), 1) for line in ax.lines)
    np.testing.assert_allclose(moved, classification.points[0].flatten(0, 1), atol=1e-4)
    offsets = classification.offsets[0].flatten(0, 1) * 70  # the proposal is 70 pixels wide and high
    np.testing.assert_allclose(moved - grid, offsets, atol=1e-4)


@pytest.mark.parametrize("draw", [overlays.proposal, overlays.displacement])
@pytest.mark.parametrize(("tasks", "swapped"), list(product([(), TASKS[:1], TASKS[1:], TASKS], [False, True])))
def test_each_region_is_drawn_as_it_is_moved(ax, traced, draw, tasks, swapped):
    """Arrows where bins are moved one by one and a box where all are moved alike, in the colour of the task."""
    image, found = traced
    forms = dict(zip(TASKS, reversed(found.regions.values()) if swapped else found.regions.values()))
    some = replace(found, regions={task: forms[task] for task in tasks})
    if not tasks and draw is overlays.displacement:
        with pytest.raises(ValueError, match="no displacements; trace a model whose head moves its regions"):
            draw(image, some, 0, ax)
        return
    draw(image, some, 0, ax)
    boxes, arrows = boxes_of(ax), {to_hex(of.get_facecolor()[0]) for of in ax.collections}
    names = {"classification": "P̂c: {} for the class", "localization": "P̂r: {} for the box"}
    labels = {"P: proposal"}
    for task in tasks:
        deformed = forms[task].deformed
        assert (PALETTE[task].lower() in arrows, PALETTE[task].lower() in boxes) == (deformed, not deformed)
        labels.add(names[task].format("bins" if deformed else "region"))
    assert set(ax.get_legend_handles_labels()[1]) == labels
    assert len(boxes) + len(arrows) == 1 + len(tasks)
