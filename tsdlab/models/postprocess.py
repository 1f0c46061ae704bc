"""From a head's predictions to detections: threshold, decode, non-maximum suppression (NMS)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from tsdlab.config import RoIConfig
from tsdlab.models.boxes import decode
from tsdlab.structures import HeadOutput

MIN_SIDE = 1e-2  # pixels, as in torchvision


def candidates_per_image(
    output: HeadOutput, rois: Tensor, image_shapes: list[tuple[int, int]], config: RoIConfig
) -> list[dict[str, Tensor]]:
    """The boxes of every image that enter NMS.

    Only the `pre_nms_top_n` best (RoI, class) pairs above the score threshold are decoded: that bounds the cost at any
    threshold.

    Args:
        output: the head's prediction for `rois` [K, 5] (image index, box).
        image_shapes: (height, width) of every resized image.
        config: its `score_thresh` and `pre_nms_top_n` are used.

    Returns:
        Per image {"boxes" [n, 4] clipped to the image, "labels" [n] int64, 1…C, "scores" [n]}.
    """
    scores = output.scores()[:, 1:]  # [K, C]
    return [
        _candidates(output, scores, torch.where(rois[:, 0] == i)[0], shape, config)
        for i, shape in enumerate(image_shapes)
    ]


def _candidates(
    output: HeadOutput, scores: Tensor, of_image: Tensor, shape: tuple[int, int], config: RoIConfig
) -> dict[str, Tensor]:
    """The candidates among the RoIs `of_image` (their indices)."""
    classes = scores.shape[1]
    pair_scores = scores[of_image].flatten()  # [k · C]
    pairs = torch.where(pair_scores > config.score_thresh)[0]
    if len(pairs) > config.pre_nms_top_n:
        pairs = pairs[pair_scores[pairs].topk(config.pre_nms_top_n).indices]
    roi, label = of_image[pairs // classes], pairs % classes + 1
    boxes = decode(output.deltas[roi, label].float(), output.boxes[roi].float())
    return without_slivers({"boxes": boxes, "labels": label, "scores": pair_scores[pairs]}, shape)


def without_slivers(found: dict[str, Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
    """Clip boxes to an image of (height, width); drop those with a side below 0.01 pixels, and their other values."""
    boxes = clip_boxes_to_image(found["boxes"], shape)
    big = remove_small_boxes(boxes, MIN_SIDE)
    return {name: value[big] for name, value in {**found, "boxes": boxes}.items()}


def detections_of(
    candidates: dict[str, Tensor], config: RoIConfig, confidence: Tensor | None = None
) -> dict[str, Tensor]:
    """The detections among an image's candidates, best first; arguments as for `suppress`."""
    boxes, labels = candidates["boxes"], candidates["labels"]
    kept, scores = suppress(boxes, candidates["scores"], labels, config, confidence)
    return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores}


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, config: RoIConfig, confidence: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Class-wise NMS of one image's boxes; keeps at most `config.detections_per_image`.

    Args:
        boxes: [n, 4] xyxy.
        scores: [n], 0…1.
        labels: [n] int64.
        config: `nms` names the rule that is used without a confidence.
        confidence: [n] how well each box fits its object. If given, it ranks the boxes instead of the scores:
            IoU-guided NMS (Jiang et al., ECCV 2018, Algorithm 1).

    Returns:
        Indices [D] of the kept boxes, best first, and their scores [D], which the rule may have changed.
    """
    if confidence is not None:
        kept, scores = _iou_guided(boxes, scores, labels, confidence, config.nms_thresh)
    elif config.nms == "hard":
        kept = batched_nms(boxes, scores, labels, config.nms_thresh)
        scores = scores[kept]
    else:
        kept, scores = soft_nms(boxes, scores, labels, config)
    return kept[: config.detections_per_image], scores[: config.detections_per_image]


def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, config: RoIConfig) -> tuple[Tensor, Tensor]:
    """Soft-NMS (Bodla et al., ICCV 2017): a box that overlaps a better one is not removed, its score decays.

    Classes do not affect each other, and scores never rise. So one loop over all classes takes the best box each time,
    the scores come out sorted, and boxes below the threshold are removed once, at the end: the loop never waits for a
    result from the device.
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
        remaining[best] = -1.0  # taken; it may decay to −0, and is removed at the end
    kept, new_scores = torch.cat(order), torch.cat(kept_scores)
    above = new_scores > config.score_thresh
    return kept[above], new_scores[above]


def _iou_guided(
    boxes: Tensor, scores: Tensor, labels: Tensor, confidence: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """The most confident box of every cluster, with the highest score in the cluster; sorted by that score.

    A removed box belongs to the cluster of the most confident kept box that overlaps it.
    """
    kept = batched_nms(boxes, confidence, labels, threshold)  # most confident first
    best = scores[kept]
    removed = torch.ones_like(labels, dtype=torch.bool).index_fill(0, kept, False).nonzero()[:, 0]
    if len(removed):
        overlaps = (box_iou(boxes[kept], boxes[removed]) > threshold) & (labels[kept][:, None] == labels[removed])
        owner = overlaps.byte().argmax(dim=0)  # argmax returns the first of equals
        # batched_nms rounds IoUs differently: a box exactly at the threshold may have no owner here.
        owned = overlaps.any(dim=0)
        best = best.scatter_reduce(0, owner[owned], scores[removed[owned]], "amax")
    order = best.argsort(descending=True, stable=True)
    return kept[order], best[order]
