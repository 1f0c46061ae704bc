"""Detections from hand-made answers."""

from dataclasses import replace

import torch

from tsdlab.config import RoIConfig
from tsdlab.models.postprocess import detections_per_image
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
    return detections_per_image(answer, rois, shapes, config)


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


def test_only_the_best_candidates_enter_nms():
    few = replace(CONFIG, pre_nms_top_n=1, score_thresh=0.0)
    (found,) = run([(0.3, 0.7), (0.1, 0.9)], [NEAR, FAR], config=few)
    assert found["boxes"].tolist() == [FAR]


def test_detections_are_capped():
    (found,) = run([(0.1, 0.9), (0.2, 0.8)], [NEAR, FAR], config=replace(CONFIG, detections_per_image=1))
    torch.testing.assert_close(found["scores"], torch.tensor([0.9]))


def test_no_rois_give_empty_float_boxes():
    (found,) = detections_per_image(
        HeadOutput(torch.zeros(0, 3), torch.zeros(0, 3, 4), torch.zeros(0, 4)),
        torch.zeros(0, 5),
        [(10, 10)],
        CONFIG,
    )
    assert found["boxes"].shape == (0, 4) and found["boxes"].is_floating_point()
