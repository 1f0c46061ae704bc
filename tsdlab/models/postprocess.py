"""From a head's answers to detections: score, decode, non-maximum suppression."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from tsdlab.config import RoIConfig
from tsdlab.models.boxes import decode
from tsdlab.structures import HeadOutput

_MIN_SIDE = 1e-2  # pixels, as in torchvision


def candidates_per_image(
    output: HeadOutput, rois: Tensor, image_shapes: list[tuple[int, int]], config: RoIConfig
) -> list[dict[str, Tensor]]:
    """What of every image enters non-maximum suppression.

    Only the `pre_nms_top_n` best (RoI, class) pairs above the score threshold are decoded, so that the cost is bounded
    whatever the threshold.

    Args:
        output: the head's answer to `rois` [K, 5] (image index, box).
        image_shapes: (height, width) of every image, pixels of the image the detector sees.

    Returns:
        Per image {"boxes" [n, 4] clipped to the image, "labels" [n] int64 in 1…C, "scores" [n]}.
    """
    scores = output.scores()[:, 1:]  # [K, C]
    return [
        _candidates(scores, output, torch.where(rois[:, 0] == i)[0], shape, config)
        for i, shape in enumerate(image_shapes)
    ]


def _candidates(
    scores: Tensor, output: HeadOutput, of_image: Tensor, shape: tuple[int, int], config: RoIConfig
) -> dict[str, Tensor]:
    classes = scores.shape[1]
    pair_scores = scores[of_image].flatten()  # [k · C]
    pairs = torch.where(pair_scores > config.score_thresh)[0]
    if len(pairs) > config.pre_nms_top_n:
        pairs = pairs[pair_scores[pairs].topk(config.pre_nms_top_n).indices]
    roi, label = of_image[pairs // classes], pairs % classes + 1
    boxes = decode(output.deltas[roi, label].float(), output.boxes[roi].float())
    return without_slivers({"boxes": boxes, "labels": label, "scores": pair_scores[pairs]}, shape)


def without_slivers(found: dict[str, Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
    """`found` with its boxes clipped to an image of (height, width), without those of which nothing is left."""
    boxes = clip_boxes_to_image(found["boxes"], shape)
    big = remove_small_boxes(boxes, _MIN_SIDE)
    return {name: value[big] for name, value in {**found, "boxes": boxes}.items()}


def detections_of(
    candidates: dict[str, Tensor], config: RoIConfig, confidence: Tensor | None = None
) -> dict[str, Tensor]:
    """An image's detections from its candidates, best first; arguments as of `suppress`."""
    boxes, labels = candidates["boxes"], candidates["labels"]
    kept, scores = suppress(boxes, candidates["scores"], labels, config, confidence)
    return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores}


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, config: RoIConfig, confidence: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Class-wise non-maximum suppression of one image's boxes; at most `config.detections_per_image` are kept.

    Args:
        boxes: [n, 4] xyxy.
        scores: [n], 0…1.
        labels: [n] int64.
        config: `nms` names the rule, unless there is a confidence.
        confidence: [n] how well each box fits its object. With it boxes compete by confidence and not by score:
            IoU-guided NMS (Jiang et al., ECCV 2018, Algorithm 1).

    Returns:
        Indices [D] of the boxes that are kept, best first, and their scores [D], which a rule may change.
    """
    if confidence is not None:
        kept, scores = _iou_guided(boxes, scores, labels, confidence, config.nms_thresh)
    elif config.nms == "hard":
        kept = batched_nms(boxes, scores, labels, config.nms_thresh)
        scores = scores[kept]
    else:
        kept, scores = _soft(boxes, scores, labels, config)
    return kept[: config.detections_per_image], scores[: config.detections_per_image]


def _soft(boxes: Tensor, scores: Tensor, labels: Tensor, config: RoIConfig) -> tuple[Tensor, Tensor]:
    """Soft-NMS (Bodla et al., ICCV 2017): what overlaps a better box is not removed, its score decays.

    The classes do not touch each other, and scores only ever fall. So the best box of all classes is taken each time,
    scores come out in order, and what is below the threshold can be cut off at the end: nothing waits for the device.
    """
    remaining, order, kept_scores = scores.clone(), [labels[:0]], [scores[:0]]
    for _ in range(min(len(scores), config.detections_per_image)):
        score, best = remaining.max(dim=0, keepdim=True)
        order.append(best)
        kept_scores.append(score)
        iou = box_iou(boxes[best], boxes)[0]
        if config.nms == "linear":
            decay = torch.where(iou >= config.nms_thresh, 1 - iou, 1.0)
        else:  # "gaussian"
            decay = torch.exp(-(iou**2) / config.soft_nms_sigma)
        remaining = torch.where(labels == labels[best], remaining * decay, remaining)
        remaining[best] = -1.0  # taken; it decays to −0 at most, and is cut off at the end
    kept, new_scores = torch.cat(order), torch.cat(kept_scores)
    above = new_scores > config.score_thresh
    return kept[above], new_scores[above]


def _iou_guided(
    boxes: Tensor, scores: Tensor, labels: Tensor, confidence: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Of every cluster the box of highest confidence, with the cluster's highest score; sorted by that score.

    A box belongs to the cluster of the box that removed it: the first one kept, by confidence, that overlaps it.
    """
    kept = batched_nms(boxes, confidence, labels, threshold)  # by falling confidence
    best = scores[kept]
    removed = torch.ones_like(labels, dtype=torch.bool).index_fill(0, kept, False).nonzero()[:, 0]
    if len(removed):
        overlaps = (box_iou(boxes[kept], boxes[removed]) > threshold) & (labels[kept][:, None] == labels[removed])
        owner = overlaps.byte().argmax(dim=0)  # the first of equals
        # batched_nms rounds IoUs in its own way: a box at the very threshold may find no owner here.
        owned = overlaps.any(dim=0)
        best = best.scatter_reduce(0, owner[owned], scores[removed[owned]], "amax")
    order = best.argsort(descending=True, stable=True)
    return kept[order], best[order]
