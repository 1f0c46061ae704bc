"""What is known of one proposal: its object, its levels, and what the constraint still asks for."""

from dataclasses import replace

import pytest
import torch

from tsdlab.analysis.proposal import GroundTruth, Shortfall, ask_levels, find_nearest, valid_box
from tsdlab.config import HEADS
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe


@pytest.mark.parametrize("head", HEADS)
def test_all_levels_in_one_pass_are_those_asked_one_by_one(tiny_config, head):
    torch.manual_seed(0)
    probe = Probe(build_detector(replace(tiny_config, head=head)), torch.rand(3, 64, 64))
    answer = ask_levels(probe, (8.0, 4.0, 50.0, 60.0), GroundTruth())
    boxes = answer.proposal[None]
    assert answer.assigned == probe.pooled[probe.ask(boxes).levels[0]]
    for level, at_level in answer.levels.items():
        for name, branch in probe.ask(boxes, level).branches.items():
            torch.testing.assert_close(at_level.branches[name].scores, branch.scores[0])
            torch.testing.assert_close(at_level.branches[name].boxes, branch.boxes[0], atol=1e-3, rtol=1e-4)


def test_the_nearest_object_is_the_one_overlapped_most_else_the_closest():
    truth = GroundTruth(torch.tensor([[0.0, 0, 10, 10], [20, 0, 60, 40]]), torch.tensor([3, 5]))
    nearest = find_nearest(torch.tensor([20.0, 0, 60, 20]), truth)
    assert (nearest.index, nearest.label, nearest.overlap) == (1, 5, 0.5)
    away = find_nearest(torch.tensor([0.0, 50, 5, 55]), truth)
    assert (away.index, away.overlap) == (0, 0.0) or (away.index, away.overlap) == (1, 0.0)
    assert find_nearest(torch.tensor([0.0, 0, 5, 5]), GroundTruth()) is None


def test_the_constraint_asks_for_the_margin_or_what_is_left_of_it():
    assert Shortfall(sibling=0.5, own=0.6, margin=0.2).value == pytest.approx(0.1)
    assert Shortfall(sibling=0.9, own=0.9, margin=0.2).value == pytest.approx(0.1)
    assert Shortfall(sibling=0.2, own=0.9, margin=0.2).value == 0


def test_a_box_is_put_in_order():
    assert valid_box([5, 6, 1, 2]) == (1, 2, 5, 6)
    assert valid_box(torch.tensor([1, 2, 3, 4])) == (1, 2, 3, 4)
