"""Gradient ascent on a confidence one can compute by hand."""

from dataclasses import replace

import pytest
import torch

from tsdlab.config import IoUConfig
from tsdlab.models.boxes import paired_iou
from tsdlab.models.heads.d_head import DHead
from tsdlab.models.heads.iou import IoUHead
from tsdlab.models.refinement import RefiningHead, ascend
from tsdlab.presets import PRESETS

CONFIG = IoUConfig()
BOX = torch.tensor([[10.0, 20.0, 50.0, 40.0]])  # 40 × 20


def of_right_edge(function):
    """Confidence as a function of x2 alone; keeps the boxes it was asked about."""

    def confidence(boxes, which):
        confidence.asked.append((boxes.detach().clone(), which.tolist()))
        return function(boxes[:, 2])

    confidence.asked = []
    return confidence


def test_a_step_is_the_gradient_times_the_size_times_lambda():
    slope = torch.tensor([0.001, 0.002, -0.003, 0.004])
    boxes = ascend(lambda boxes, which: boxes @ slope, BOX, replace(CONFIG, refinement_steps=1))
    expected = BOX + 0.5 * slope * torch.tensor([40.0, 20.0, 40.0, 20.0])
    torch.testing.assert_close(boxes, expected)


def test_boxes_climb_to_their_own_peaks():
    torch.manual_seed(0)
    truth = 100 * torch.rand(20, 2)
    truth = torch.cat([truth, truth + 20 + 30 * torch.rand(20, 2)], 1)
    boxes = truth + 3 * torch.randn(20, 4)
    before = paired_iou(boxes, truth)

    def confidence(boxes, which):
        return paired_iou(boxes, truth[which])

    after = paired_iou(ascend(confidence, boxes, CONFIG), truth)
    assert (after > before).all() and (after - before).mean() > 0.05
    further = paired_iou(ascend(confidence, boxes, replace(CONFIG, refinement_steps=10)), truth)
    assert further.mean() > after.mean()


def test_a_box_is_done_when_its_confidence_hardly_changes():
    """x2 moves by 20 slopes a step: 0.0008 is too little to go on, 0.0032 is not."""
    confidence = of_right_edge(lambda x2: x2 * torch.where(x2 > 60, 0.0126, 0.0063))
    boxes = ascend(confidence, torch.cat([BOX, BOX + 20]), CONFIG)
    assert [which for _, which in confidence.asked] == [[0, 1], [0, 1], *[[1]] * 4]
    assert boxes[0, 2] == pytest.approx(50 + 20 * 0.0063), "the last step counts"
    assert boxes[1, 2] > 70 + 4 * 20 * 0.0126


@pytest.mark.parametrize(("drop", "steps"), [(0.009, 5), (0.011, 1)])
def test_a_step_that_makes_a_box_much_worse_is_the_last_and_taken_back(drop, steps):
    """The gradient points up, and yet every step loses `drop`."""
    fallen = iter(range(100))
    confidence = of_right_edge(lambda x2: 0.01 * (x2 - x2.detach()) - drop * next(fallen))
    boxes = ascend(confidence, BOX, CONFIG)
    assert len(confidence.asked) == 1 + steps
    expected = BOX.clone() if drop > CONFIG.max_loss else confidence.asked[-1][0]
    assert torch.equal(boxes, expected)


@pytest.mark.parametrize("slope", [1e4, float("nan"), float("inf")])
def test_a_box_never_turns_inside_out_or_vanishes(slope):
    assert torch.equal(ascend(lambda boxes, which: boxes[:, 0] * slope, BOX, CONFIG), BOX)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_where_gradients_are_off_and_leaves_none(mode):
    weight = torch.nn.Parameter(torch.tensor(0.01))
    given = BOX.clone().requires_grad_()
    with mode():
        start = given * 1  # in inference mode, a tensor that no gradient may touch
        boxes = ascend(lambda boxes, which: boxes[:, 2] * weight, start, CONFIG)
        assert torch.equal(start, BOX), "the boxes given stay as they are"
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert boxes[0, 2] > BOX[0, 2] and not boxes.requires_grad
    assert weight.grad is None and given.grad is None


def test_nothing_to_do():
    def never(boxes, which):
        raise AssertionError

    assert torch.equal(ascend(never, BOX, replace(CONFIG, refinement_steps=0)), BOX)
    assert ascend(never, BOX[:0], CONFIG).shape == (0, 4)


def test_heads_that_refine_are_told_from_those_that_do_not():
    config = PRESETS["badges-tiny"]
    assert isinstance(IoUHead(config), RefiningHead) and not isinstance(DHead(config), RefiningHead)
