"""A box that is shifted off its object: by how much, and which one is found."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

import tsdlab
from tsdlab.analysis.shifted import find_disagreement, shift_box
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.models.probe import Probe

SIDES = st.floats(0.5, 500)


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDES, SIDES), st.floats(0.05, 0.95), st.integers(1, 40))
def test_copies_have_the_size_of_the_box_and_the_overlap_that_is_asked_for(size, overlap, directions):
    box = torch.tensor([10.0, 20, 10 + size[0], 20 + size[1]])
    copies = shift_box(box, overlap, directions)
    torch.testing.assert_close(copies[:, 2:] - copies[:, :2], (box[2:] - box[:2]).expand(directions, 2))
    torch.testing.assert_close(
        box_iou(copies.double(), box.double()[None])[:, 0].float(),
        torch.full((directions,), overlap),
        atol=2e-3,
        rtol=0,
    )
    assert len(copies.unique(dim=0)) == directions


def test_copies_go_into_all_directions():
    right, down, left, up = shift_box(torch.tensor([0.0, 0, 100, 50]), 0.6, 4).tolist()
    # A quarter of the width or height is lost: IoU = 0.75 / 1.25.
    assert right == pytest.approx([25, 0, 125, 50], abs=1e-3) and down == pytest.approx([0, 12.5, 100, 62.5], abs=1e-3)
    assert left == pytest.approx([-25, 0, 75, 50], abs=1e-3) and up == pytest.approx([0, -12.5, 100, 37.5], abs=1e-3)


@pytest.fixture(scope="module")
def asked():
    model = tsdlab.load_detector("badges-tsd")
    return [(Probe(model, image), target) for image, target in CocoDataset(SAMPLE, "val")]


def test_it_is_the_copy_with_the_largest_difference_of_scores_and_boxes(asked):
    for probe, target in asked[:4]:
        found = find_disagreement([probe], target["boxes"], target["labels"])
        label = int(target["labels"][found.object])
        owner = box_iou(found.box[None], target["boxes"])[0]
        assert int(owner.argmax()) == found.object and owner.max().item() == pytest.approx(0.55, abs=1e-3)
        assert (found.box >= 0).all() and (found.box <= 128).all()
        # No other copy of this object that lies in the image, and is nearest to it, is read more differently.
        copies = shift_box(target["boxes"][found.object], 0.55, 24)
        inside = (copies >= 0).all(dim=1) & (copies <= 128).all(dim=1)
        nearest = box_iou(copies, target["boxes"]).argmax(dim=1) == found.object
        answer = probe.ask(torch.cat([found.box[None], copies[inside & nearest]])).branches.values()
        scores = [branch.scores[:, label] for branch in answer]
        fits = [box_iou(branch.boxes[:, label], target["boxes"][found.object][None])[:, 0] for branch in answer]
        apart = (scores[0] - scores[1]).abs() + (fits[0] - fits[1]).abs()
        assert found.disagreement == pytest.approx(apart[0].item(), abs=1e-5)
        assert apart[0] >= apart.max() - 1e-4


def test_two_detectors_are_compared_branch_by_branch(asked):
    probe, target = asked[1]
    other = Probe(tsdlab.load_detector("badges-sibling"), CocoDataset(SAMPLE, "val")[1][0])
    both = find_disagreement([other, probe], target["boxes"], target["labels"])
    assert both.disagreement >= find_disagreement([probe], target["boxes"], target["labels"]).disagreement - 1e-4


@pytest.mark.parametrize(
    ("boxes", "objects"),
    [
        ([], set()),
        ([[20.0, 20, 20, 60]], set()),  # no area
        ([[20.0, 20, 20, 60], [30, 30, 60, 60]], {1}),
        ([[0.0, 0, 128, 128]], {0}),  # every copy hangs over the border
        ([[40.0, 40, 80, 80], [40, 40, 80, 80]], {0, 1}),  # no copy is nearest to the second one alone
        ([[2.0 * i, 2 * i, 2 * i + 30, 2 * i + 20] for i in range(45)], set(range(45))),
        ([[300.0, 300, 340, 360]], {0}),  # outside
    ],
)
def test_boxes_of_any_kind(asked, boxes, objects):
    probe, _ = asked[0]
    found = find_disagreement([probe], torch.tensor(boxes).reshape(-1, 4), torch.ones(len(boxes), dtype=torch.int64))
    assert (found is None) == (not objects)
    assert found is None or (found.object in objects and found.box.isfinite().all())
