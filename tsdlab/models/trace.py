"""`trace`: everything a detector does with one image, for analysis, plots and the explorer."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image

from tsdlab.models.boxes import decode
from tsdlab.models.detector import Detector
from tsdlab.models.roi_heads import to_rois
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import BranchTrace, DetectionTrace, HeadOutput


@torch.no_grad()
def trace(model: Detector, image: Tensor, proposals: Tensor | None = None) -> DetectionTrace:
    """Run `model` in eval mode on one image and keep every intermediate answer.

    Args:
        model: a detector of ours; its training mode is restored afterwards.
        image: [3, H, W] in 0…1.
        proposals: [K, 4] xyxy in pixels of `image` to use instead of the RPN's.

    Returns:
        The trace, in original-image pixels.

    Raises:
        ValueError: image or proposals of another shape.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be [3, H, W], got {tuple(image.shape)}")
    if proposals is not None and (proposals.dim() != 2 or proposals.shape[1] != 4):
        raise ValueError(f"proposals must be [K, 4] xyxy, got {tuple(proposals.shape)}")
    was_training = model.training
    model.eval()
    try:
        return _trace(model, image, proposals)
    finally:
        model.train(was_training)


def _trace(model: Detector, image: Tensor, proposals: Tensor | None) -> DetectionTrace:
    original: tuple[int, int] = (image.shape[1], image.shape[2])
    device = next(model.parameters()).device
    images, _ = model.transform([image.to(device)])
    seen = images.image_sizes[0]
    ratio = image.new_tensor([original[1] / seen[1], original[0] / seen[0]], device=device).repeat(2)  # xyxy
    features = model.backbone(images.tensors)
    if proposals is None:
        boxes, scores = propose(model.rpn, images, features)
    else:
        boxes = proposals.to(device, torch.float32) / ratio
        scores = boxes.new_full((len(boxes),), torch.nan)
    heads = model.roi_heads
    rois = to_rois([boxes])
    pool = heads.prepare(features)
    output: HeadOutput = heads.head(pool, rois, with_sibling=True)
    detections = heads.detect(pool, output, rois, [seen])[0]
    detections["boxes"] = detections["boxes"] * ratio

    whole = output.localization_offset is not None and output.localization_offset.dim() == 2

    def branch(answer: HeadOutput) -> BranchTrace:
        classes = answer.deltas.shape[1]
        decoded = decode(answer.deltas.flatten(0, 1).float(), answer.boxes.repeat_interleave(classes, 0).float())
        on_image = (clip_boxes_to_image(decoded, seen) * ratio).unflatten(0, (-1, classes))
        return BranchTrace(answer.logits, answer.scores(), on_image)

    return DetectionTrace(
        image_size=original,
        features=dict(features),
        strides={
            name: (
                original[0] / seen[0] * _stride(images, f, 0),
                original[1] / seen[1] * _stride(images, f, 1),
            )
            for name, f in features.items()
        },
        proposals=boxes * ratio,
        proposal_scores=scores,
        levels=pool.assign_levels(rois),
        detection=branch(output),
        sibling=None if output.sibling is None else branch(output.sibling),
        classification_offsets=output.classification_offsets,
        localization_offset=output.localization_offset if whole else None,
        classification_points=None
        if output.classification_offsets is None
        else bin_centres(boxes * ratio, output.classification_offsets),
        localization_proposals=output.boxes * ratio if whole else None,
        detections=detections,
    )


def _stride(images: ImageList, feature: Tensor, axis: int) -> int:
    return images.tensors.shape[2 + axis] // feature.shape[2 + axis]


def propose(rpn: RegionProposalNetwork, images: ImageList, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The RPN's proposals [K, 4] for a batch of one image, best first, and their objectness [K] in 0…1.

    torchvision's `rpn(images, features)` computes the same boxes but keeps the scores to itself.
    """
    maps = list(features.values())
    objectness, deltas = rpn.head(maps)
    anchors = rpn.anchor_generator(images, maps)
    per_level = [o[0].numel() for o in objectness]
    flat_objectness, flat_deltas = concat_box_prediction_layers(objectness, deltas)
    boxes = rpn.box_coder.decode(flat_deltas, anchors).view(1, -1, 4)
    proposals, scores = rpn.filter_proposals(boxes, flat_objectness, images.image_sizes, per_level)
    return proposals[0], scores[0]
