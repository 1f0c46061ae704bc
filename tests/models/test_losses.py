"""Losses against values worked out by hand."""

import math

import pytest
import torch

from tsdlab.models.boxes import decode, encode, paired_iou
from tsdlab.models.losses import detection_losses, progressive_constraint
from tsdlab.structures import HeadOutput, Samples

SQUARE = [0.0, 0.0, 10.0, 10.0]


def logits_for(*scores):
    """Logits whose softmax is `scores`."""
    return torch.tensor([scores]).log()


def output(scores, box=SQUARE, deltas=None):
    logits = torch.cat([logits_for(*s) for s in scores])
    count, classes = logits.shape
    deltas = torch.zeros(count, classes, 4) if deltas is None else deltas
    return HeadOutput(logits, deltas, torch.tensor([box]).repeat(count, 1))


def samples(labels, matched=SQUARE):
    rois = torch.tensor([[0.0, *SQUARE]]).repeat(len(labels), 1)
    return Samples(rois, torch.tensor(labels), torch.tensor([matched]).repeat(len(labels), 1))


def test_paired_iou_by_hand():
    a = torch.tensor([SQUARE, SQUARE, SQUARE, [1.0, 1.0, 1.0, 1.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], SQUARE, [20.0, 20.0, 30.0, 30.0], [1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(paired_iou(a, b), torch.tensor([50 / 150, 1.0, 0.0, 0.0]))


def test_encode_inverts_decode():
    boxes, targets = torch.tensor([[3.0, 4.0, 20.0, 30.0]]), torch.tensor([[5.0, 2.0, 25.0, 28.0]])
    torch.testing.assert_close(decode(encode(targets, boxes), boxes), targets)


def test_detection_losses_by_hand():
    # Two RoIs. Cross-entropy: −ln 0.5 and −ln 0.8. The positive should move 1 px of 10 in x: target dx = 10·0.1.
    answer = output([(0.3, 0.5, 0.2), (0.8, 0.1, 0.1)])
    classification, localization = detection_losses(answer, samples([1, 0], matched=[1.0, 0.0, 11.0, 10.0]))
    assert classification.item() == pytest.approx((-math.log(0.5) - math.log(0.8)) / 2, rel=1e-5)
    assert localization.item() == pytest.approx((1 - 0.5 / 9) / 2, rel=1e-5)  # smooth L1, β = 1/9, over 2 RoIs
    classification, localization = detection_losses(
        output([(0.3, 0.5, 0.2)]), samples([1], matched=[1.0, 0.0, 11.0, 10.0])
    )
    assert classification.item() == pytest.approx(-math.log(0.5), rel=1e-5)
    assert localization.item() == pytest.approx(1 - 0.5 / 9, rel=1e-5)


@pytest.mark.parametrize(
    ("label", "sibling", "tsd", "expected"),
    [
        (1, 0.6, 0.7, 0.1),  # 0.6 − 0.7 + 0.2
        (1, 0.93, 0.8, 0.2),  # 0.93 − 0.8 + min(0.07, 0.2)
        (1, 0.3, 0.6, 0.0),  # TSD is better by more than the margin
        (0, 0.5, 0.57, 0.13),  # background has the same margin: 0.5 − 0.57 + 0.2
        (0, 0.85, 0.72, 0.28),  # 0.85 − 0.72 + min(0.15, 0.2)
        (0, 0.3, 0.6, 0.0),
    ],
)
def test_classification_constraint_by_hand(label, sibling, tsd, expected):
    def answer(score):
        return output([(1 - score, score) if label else (score, 1 - score)])

    classification, _ = progressive_constraint(answer(tsd), answer(sibling), samples([label]), 0.2, None)
    assert classification.item() == pytest.approx(expected, abs=1e-5)


def test_classification_constraint_is_the_mean_over_all_rois():
    sibling = output([(0.4, 0.6), (0.85, 0.15), (0.3, 0.7)])
    answer = output([(0.3, 0.7), (0.72, 0.28), (0.6, 0.4)])
    classification, _ = progressive_constraint(answer, sibling, samples([1, 0, 0]), 0.2, 0.2)
    assert classification.item() == pytest.approx((0.1 + 0.28 + 0) / 3, rel=1e-4)


def test_localization_constraint_by_hand():
    # Truth is shifted by 5 of 10: the sibling stays, IoU 1/3; TSD moves by 2.5 (dx = 10·0.25): IoU 7.5/12.5 = 0.6.
    deltas = torch.zeros(2, 2, 4)
    deltas[0, 1, 0] = 2.5
    answer, sibling = output([(0.5, 0.5)] * 2, deltas=deltas), output([(0.5, 0.5)] * 2)
    drawn = samples([1, 0], matched=[5.0, 0.0, 15.0, 10.0])
    _, localization = progressive_constraint(answer, sibling, drawn, 0.2, 0.3)
    assert localization.item() == pytest.approx(1 / 3 - 0.6 + 0.3, abs=1e-4)  # mean over the one positive


def test_constraint_asks_nothing_of_a_perfect_sibling():
    classification, localization = progressive_constraint(
        output([(0.0, 1.0)]), output([(0.0, 1.0)]), samples([1]), 0.5, 0.5
    )
    assert classification.item() == pytest.approx(0, abs=1e-5)
    assert localization.item() == pytest.approx(0, abs=1e-5)


def test_constraint_teaches_tsd_and_not_the_sibling():
    sibling = output([(0.4, 0.6)])
    sibling.logits.requires_grad_()
    sibling.deltas.requires_grad_()
    answer = output([(0.5, 0.5)])
    answer.logits.requires_grad_()
    answer.deltas.requires_grad_()
    answer.boxes.requires_grad_()
    sum(progressive_constraint(answer, sibling, samples([1], matched=[5.0, 0.0, 15.0, 10.0]), 0.2, 0.2)).backward()
    assert sibling.logits.grad is None and sibling.deltas.grad is None
    assert answer.logits.grad.any() and answer.deltas.grad[0, 1].any() and answer.boxes.grad.any()
    assert not answer.deltas.grad[0, 0].any(), "only the true class's deltas are compared"


def test_constraint_may_teach_the_sibling_to_be_worse():
    sibling = output([(0.4, 0.6)])
    sibling.logits.requires_grad_()
    answer = output([(0.5, 0.5)])
    classification, _ = progressive_constraint(answer, sibling, samples([1]), 0.2, None, teaches_sibling=True)
    assert classification.item() == pytest.approx(0.6 - 0.5 + 0.2)
    classification.backward()
    torch.testing.assert_close(sibling.logits.grad, torch.tensor([[-0.24, 0.24]]))  # s (1 − s) towards the true class
    sibling.deltas.requires_grad_()
    shifted = samples([1], matched=[5.0, 0.0, 15.0, 10.0])
    _, localization = progressive_constraint(answer, sibling, shifted, None, 0.2, teaches_sibling=True)
    localization.backward()
    assert sibling.deltas.grad[0, 1, 0] > 0  # away from the object on its right


@pytest.mark.parametrize("labels", [[0, 0], []])
def test_without_positives_every_loss_is_finite_and_has_a_gradient(labels):
    count = len(labels)

    def blank():
        return HeadOutput(
            torch.zeros(count, 3, requires_grad=True),
            torch.zeros(count, 3, 4, requires_grad=True),
            torch.ones(count, 4),
        )

    answer = blank()
    drawn = Samples(torch.zeros(count, 5), torch.tensor(labels, dtype=torch.long), torch.zeros(count, 4))
    losses = (*detection_losses(answer, drawn), *progressive_constraint(answer, blank(), drawn, 0.2, 0.2))
    assert all(loss.isfinite() for loss in losses)
    sum(losses).backward()
    assert answer.logits.grad is not None and answer.deltas.grad is not None
