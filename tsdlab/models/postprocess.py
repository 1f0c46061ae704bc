"""From a head's answers to detections: score, decode, non-maximum suppression."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from tsdlab.config import RoIConfig
from tsdlab.models.boxes import decode
from tsdlab.structures import HeadOutput

_MIN_SIDE = 1e-2  # pixels, as in torchvision


def detections_per_image(
    output: HeadOutput, rois: Tensor, image_shapes: list[tuple[int, int]], config: RoIConfig
) -> list[dict[str, Tensor]]:
    """Detections of every image, best first.

    Only the `pre_nms_top_n` best (RoI, class) pairs above the score threshold are decoded and enter the class-wise
    NMS, so that the cost is bounded whatever the threshold.

    Args:
        output: the head's answer to `rois` [K, 5] (image index, box).
        image_shapes: (height, width) of every image, pixels of the image the detector sees.

    Returns:
        Per image {"boxes" [D, 4], "labels" [D] int64 in 1…C, "scores" [D]}.
    """
    scores = output.scores()[:, 1:]  # [K, C]
    return [
        _detections(scores, output, torch.where(rois[:, 0] == i)[0], shape, config)
        for i, shape in enumerate(image_shapes)
    ]


def _detections(
    scores: Tensor, output: HeadOutput, of_image: Tensor, shape: tuple[int, int], config: RoIConfig
) -> dict[str, Tensor]:
    classes = scores.shape[1]
    pair_scores = scores[of_image].flatten()  # [k · C]
    pairs = torch.where(pair_scores > config.score_thresh)[0]
    if len(pairs) > config.pre_nms_top_n:
        pairs = pairs[pair_scores[pairs].topk(config.pre_nms_top_n).indices]
    roi, label = of_image[pairs // classes], pairs % classes + 1
    boxes = decode(output.deltas[roi, label].float(), output.boxes[roi].float())
    boxes = clip_boxes_to_image(boxes, shape)
    kept_scores = pair_scores[pairs]
    big = remove_small_boxes(boxes, _MIN_SIDE)
    boxes, label, kept_scores = boxes[big], label[big], kept_scores[big]
    keep = batched_nms(boxes, kept_scores, label, config.nms_thresh)[: config.detections_per_image]
    return {"boxes": boxes[keep], "labels": label[keep], "scores": kept_scores[keep]}
