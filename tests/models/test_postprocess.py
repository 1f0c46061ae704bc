"""Detections from hand-made answers."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from tsdlab.config import RoIConfig
from tsdlab.models.postprocess import candidates_per_image, detections_of, suppress
from tsdlab.structures import HeadOutput

CONFIG = RoIConfig()
FAR, NEAR, SHIFTED = [40.0, 40.0, 60.0, 60.0], [0.0, 0.0, 20.0, 20.0], [1.0, 0.0, 21.0, 20.0]


def run(scores, boxes, image=None, shape=(100, 100), config=CONFIG):
    boxes = torch.tensor(boxes)
    image = torch.zeros(len(boxes)) if image is None else torch.tensor(image)
    rois = torch.cat([image[:, None], boxes], 1)
    scores = torch.tensor(scores)
    answer = HeadOutput(scores.log(), torch.zeros(*scores.shape, 4), boxes)
    shapes = [shape] * (int(image.max()) + 1)
    return [detections_of(found, config) for found in candidates_per_image(answer, rois, shapes, config)]


def test_nms_is_class_wise_and_best_first():
    (found,) = run([(0.1, 0.7, 0.2), (0.1, 0.8, 0.1), (0.05, 0.05, 0.9)], [NEAR, SHIFTED, NEAR])
    # SHIFTED suppresses NEAR in class 1 (IoU 0.9); in class 2 NEAR suppresses the others.
    torch.testing.assert_close(found["scores"], torch.tensor([0.9, 0.8]))
    assert found["labels"].tolist() == [2, 1]
    torch.testing.assert_close(found["boxes"], torch.tensor([NEAR, SHIFTED]))


def test_score_threshold_is_exclusive_and_background_never_detected():
    (found,) = run([(0.95, 0.05), (0.94, 0.06)], [NEAR, FAR])
    assert found["boxes"].tolist() == [FAR]


def test_every_image_keeps_its_own():
    first, second = run([(0.1, 0.9), (0.2, 0.8)], [NEAR, FAR], image=[1.0, 0.0])
    assert first["boxes"].tolist() == [FAR] and second["boxes"].tolist() == [NEAR]


def test_boxes_are_clipped_and_vanished_ones_dropped():
    (found,) = run([(0.1, 0.9), (0.1, 0.9)], [[-5.0, -5.0, 20.0, 20.0], [200.0, 200.0, 220.0, 220.0]])
    assert found["boxes"].tolist() == [[0.0, 0.0, 20.0, 20.0]]


def test_boxes_from_a_hundredth_of_a_pixel_on_are_detected():
    sides = (0.02, 0.5, 0.009)
    (found,) = run([[0.1, 0.9]] * 3, [[10.0 * i, 5.0, 10.0 * i + side, 9.0] for i, side in enumerate(sides)])
    assert sorted(found["boxes"][:, 0].tolist()) == [0.0, 10.0]


def test_only_the_best_candidates_enter_nms():
    few = replace(CONFIG, pre_nms_top_n=1, score_thresh=0.0)
    (found,) = run([(0.3, 0.7), (0.1, 0.9)], [NEAR, FAR], config=few)
    assert found["boxes"].tolist() == [FAR]


def test_detections_are_capped():
    (found,) = run([(0.1, 0.9), (0.2, 0.8)], [NEAR, FAR], config=replace(CONFIG, detections_per_image=1))
    torch.testing.assert_close(found["scores"], torch.tensor([0.9]))


def test_no_rois_give_empty_float_boxes():
    (found,) = candidates_per_image(
        HeadOutput(torch.zeros(0, 3), torch.zeros(0, 3, 4), torch.zeros(0, 4)),
        torch.zeros(0, 5),
        [(10, 10)],
        CONFIG,
    )
    for kept in (found, detections_of(found, CONFIG), detections_of(found, CONFIG, torch.zeros(0))):
        assert kept["boxes"].shape == (0, 4) and kept["boxes"].is_floating_point()
        assert kept["labels"].dtype == torch.long and kept["scores"].shape == (0,)


# Ways to suppress

RULES = ("hard", "linear", "gaussian", "IoU-guided")


def crowd(seed, count=60, classes=3):
    """Boxes in heaps, over and over each other."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 4, (count, 2), generator=generator) * 30 + 12 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + 20 + 12 * torch.rand(count, 2, generator=generator)], 1)
    scores, confidence = torch.rand(2, count, generator=generator)
    return boxes, scores, torch.randint(1, classes + 1, (count,), generator=generator), confidence


def apply(rule, boxes, scores, labels, confidence, **options):
    if rule == "IoU-guided":
        return suppress(boxes, scores, labels, replace(CONFIG, **options), confidence)
    return suppress(boxes, scores, labels, replace(CONFIG, nms=rule, **options))


def textbook_soft_nms(boxes, scores, labels, config):
    """Bodla et al., Fig. 2, of each class; then all classes in order."""
    iou = box_iou(boxes, boxes).tolist()
    result = []
    for label in set(labels.tolist()):
        left = {i: s for i, s in enumerate(scores.tolist()) if labels[i] == label}
        while left:
            best = max(left, key=left.__getitem__)
            score = left.pop(best)
            if score <= config.score_thresh:
                break
            result.append((score, best))
            for i in left:
                if config.nms == "gaussian":
                    left[i] *= math.exp(-(iou[best][i] ** 2) / config.soft_nms_sigma)
                elif iou[best][i] >= config.nms_thresh:
                    left[i] *= 1 - iou[best][i]
    return sorted(result, reverse=True)[: config.detections_per_image]


def textbook_iou_guided_nms(boxes, scores, labels, confidence, config):
    """Jiang et al., Algorithm 1, of each class; then all classes in order."""
    iou = box_iou(boxes, boxes)
    result, left = [], set(range(len(boxes)))
    while left:
        best = max(left, key=lambda i: confidence[i].item())
        cluster = {i for i in left if labels[i] == labels[best] and iou[best, i] > config.nms_thresh} | {best}
        result.append((max(scores[i].item() for i in cluster), best))
        left -= cluster
    return sorted(result, reverse=True)[: config.detections_per_image]


@pytest.mark.parametrize("rule", ["linear", "gaussian"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.sampled_from([5, 100]), threshold=st.sampled_from([0.0, 0.05, 0.4]))
def test_soft_nms_is_the_textbooks(rule, seed, most, threshold):
    boxes, scores, labels, confidence = crowd(seed)
    options = {"detections_per_image": most, "score_thresh": threshold, "nms_thresh": 0.4, "soft_nms_sigma": 0.3}
    kept, new_scores = apply(rule, boxes, scores, labels, confidence, **options)
    expected = textbook_soft_nms(boxes, scores, labels, replace(CONFIG, nms=rule, **options))
    assert kept.tolist() == [i for _, i in expected]
    torch.testing.assert_close(new_scores, torch.tensor([s for s, _ in expected]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.sampled_from([5, 100]))
def test_iou_guided_nms_is_the_textbooks(seed, most):
    boxes, scores, labels, confidence = crowd(seed)
    kept, new_scores = apply("IoU-guided", boxes, scores, labels, confidence, detections_per_image=most)
    expected = textbook_iou_guided_nms(boxes, scores, labels, confidence, replace(CONFIG, detections_per_image=most))
    assert new_scores.tolist() == [pytest.approx(s) for s, _ in expected]
    assert kept.tolist() == [i for _, i in expected]


def test_soft_nms_decays_from_the_threshold_on_and_keeps_what_is_above_the_score_threshold():
    boxes, scores = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 20.0, 10.0]]), torch.tensor([0.75, 0.5])
    for score_thresh, expected in ((0.2, [0.75, 0.25]), (0.25, [0.75])):  # the IoU is 0.5
        config = replace(CONFIG, nms="linear", nms_thresh=0.5, score_thresh=score_thresh)
        assert suppress(boxes, scores, torch.tensor([1, 1]), config)[1].tolist() == expected


def test_soft_nms_by_hand():
    """SHIFTED overlaps NEAR with IoU 19/21 and FAR not at all."""
    boxes, scores, labels = torch.tensor([NEAR, SHIFTED, FAR]), torch.tensor([0.9, 0.8, 0.5]), torch.tensor([1, 1, 1])
    kept, new_scores = suppress(boxes, scores, labels, replace(CONFIG, nms="linear"))
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(new_scores, torch.tensor([0.9, 0.5, 0.8 * 2 / 21]))
    kept, new_scores = suppress(boxes, scores, labels, replace(CONFIG, nms="gaussian"))
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(new_scores, torch.tensor([0.9, 0.5, 0.8 * math.exp(-((19 / 21) ** 2) / 0.5)]))
    kept, _ = suppress(boxes, scores, labels, replace(CONFIG, nms="linear", score_thresh=0.1))
    assert kept.tolist() == [0, 2]


# Boxes 20 wide, each moved by 5: neighbours overlap with IoU 15/25 = 0.6, the first and the third with 10/30.
CHAIN = torch.tensor([[0.0, 0, 20, 20], [5, 0, 25, 20], [10, 0, 30, 20]])


@pytest.mark.parametrize(
    ("confidence", "kept", "scores"),
    [
        # A is best and removes B; C, which only B would have removed, stays. B's score goes to A.
        ((0.9, 0.8, 0.7), [0, 2], [0.8, 0.4]),
        # B is best and removes both.
        ((0.7, 0.9, 0.8), [1], [0.8]),
        # C is best and removes B, so that B's score goes to C and not to A, which overlaps it as much.
        ((0.7, 0.8, 0.9), [2, 0], [0.8, 0.3]),
    ],
)
def test_iou_guided_nms_of_a_chain(confidence, kept, scores):
    found, new_scores = suppress(
        CHAIN, torch.tensor([0.3, 0.8, 0.4]), torch.tensor([1, 1, 1]), CONFIG, torch.tensor(confidence)
    )
    assert found.tolist() == kept
    torch.testing.assert_close(new_scores, torch.tensor(scores))


def test_iou_guided_nms_of_two_classes():
    """The better-fitting box of class 2 neither removes the others nor gives them its score."""
    labels = torch.tensor([1, 2, 1])
    boxes = torch.tensor([NEAR, NEAR, SHIFTED])
    kept, scores = suppress(boxes, torch.tensor([0.3, 0.9, 0.6]), labels, CONFIG, torch.tensor([0.8, 0.9, 0.7]))
    assert kept.tolist() == [1, 0]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.6]))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_ranks_caps_and_keeps_classes_apart(rule):
    boxes, scores, labels, confidence = crowd(0)
    options = {"detections_per_image": 1000, "score_thresh": 0.0}
    kept, new_scores = apply(rule, boxes, scores, labels, confidence, **options)
    assert (new_scores.diff() <= 0).all() and len(set(kept.tolist())) == len(kept)
    few, few_scores = apply(rule, boxes, scores, labels, confidence, **{**options, "detections_per_image": 7})
    assert torch.equal(few, kept[:7]) and torch.equal(few_scores, new_scores[:7])
    for label in (1, 2, 3):
        members = torch.where(labels == label)[0]
        alone, alone_scores = apply(
            rule, boxes[members], scores[members], labels[members], confidence[members], **options
        )
        assert torch.equal(members[alone], kept[labels[kept] == label])
        torch.testing.assert_close(alone_scores, new_scores[labels[kept] == label])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_survives_equal_boxes_and_no_boxes(rule):
    boxes, scores = torch.tensor([NEAR] * 4), torch.tensor([0.5, 0.9, 0.9, 0.2])
    labels = torch.ones(4, dtype=torch.long)
    kept, new_scores = apply(rule, boxes, scores, labels, torch.full((4,), 0.5))
    assert new_scores[0] == 0.9 and new_scores.isfinite().all() and len(set(kept.tolist())) == len(kept)
    kept, new_scores = apply(rule, boxes[:0], scores[:0], labels[:0], scores[:0])
    assert kept.shape == new_scores.shape == (0,) and kept.dtype == torch.long
