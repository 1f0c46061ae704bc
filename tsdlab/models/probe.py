"""`Probe` and `trace`: what a detector makes of one image, for analysis, plots and the explorer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image

from tsdlab.errors import InputError
from tsdlab.models.boxes import decode
from tsdlab.models.build import from_torchvision
from tsdlab.models.detector import Detector
from tsdlab.models.roi_heads import to_rois
from tsdlab.ops import RegionPooler
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import Answer, BranchTrace, DetectionTrace, HeadOutput

# RoIs answered at a time: what a head keeps of them is 100 kB each.
_CHUNK = 2048


@dataclass(frozen=True)
class LevelProposals:
    """What the RPN proposes at every coordinate of a feature map: of its anchors there, the one it holds likeliest."""

    boxes: Tensor  # [h, w, 4] original-image pixels, clipped to the image
    objectness: Tensor  # [h, w] 0…1


class Probe:
    """One image inside a detector: its features are computed once, then any boxes can be asked about.

    Everything goes in and comes out in pixels of the original image. The model is in eval mode while it works, and
    afterwards in the mode it was in.

    Args:
        model: a detector of ours, or a Faster R-CNN of torchvision (see `as_detector`).
        image: [3, H, W] in 0…1.

    Attributes:
        image_size: (height, width) of the image.
        features: level name → [1, channels, h, w].
        strides: level name → (y, x) original-image pixels per feature cell.
        pooled: names of the levels that regions are pooled from, finest first.

    Raises:
        ValueError: the image has another shape, or the model cannot be asked.
    """

    @torch.no_grad()
    def __init__(self, model: GeneralizedRCNN, image: Tensor) -> None:
        if not isinstance(image, Tensor):
            raise InputError(f"image must be one tensor [3, H, W], got a {type(image).__name__}")
        if image.dim() != 3 or image.shape[0] != 3:
            raise InputError(f"image must be [3, H, W], got {tuple(image.shape)}")
        self.model = as_detector(model)
        self.image_size: tuple[int, int] = (image.shape[1], image.shape[2])
        device = next(self.model.parameters()).device
        with _evaluating(self.model):
            self._images, _ = self.model.transform([image.to(device)])
            self.features: dict[str, Tensor] = dict(self.model.backbone(self._images.tensors))
        self._seen: tuple[int, int] = self._images.image_sizes[0]
        zoom = [original / seen for original, seen in zip(self.image_size, self._seen)]  # (y, x)
        self._ratio = torch.tensor(zoom[::-1] * 2, device=device)  # xyxy
        self.strides = {
            name: (zoom[0] * _stride(self._images, f, 0), zoom[1] * _stride(self._images, f, 1))
            for name, f in self.features.items()
        }
        self._pool: RegionPooler = self.model.roi_heads.prepare(self.features)
        self.pooled = tuple(list(self.features)[: len(self._pool.scheme.strides)])

    @torch.no_grad()
    def propose(self) -> tuple[Tensor, Tensor]:
        """The RPN's proposals [K, 4], best first, and their objectness [K] in 0…1.

        torchvision's `rpn(images, features)` computes the same boxes but keeps the scores to itself.
        """
        with _evaluating(self.model):
            boxes, objectness, per_level = _rpn_boxes(self.model.rpn, self._images, self.features)
            proposals, scores = self.model.rpn.filter_proposals(
                boxes[None], objectness[:, None], self._images.image_sizes, per_level
            )
        return proposals[0] * self._ratio, scores[0]

    @torch.no_grad()
    def propose_everywhere(self) -> dict[str, LevelProposals]:
        """What the RPN proposes at every coordinate of every level, before any selection."""
        with _evaluating(self.model):
            boxes, objectness, per_level = _rpn_boxes(self.model.rpn, self._images, self.features)
        boxes = clip_boxes_to_image(boxes, self._seen) * self._ratio
        found = {}
        for (name, feature), level, scores in zip(
            self.features.items(), boxes.split(per_level), objectness.split(per_level)
        ):
            height, width = feature.shape[-2:]
            score, best = scores.view(height * width, -1).max(dim=1)
            chosen = level.view(height * width, -1, 4)[torch.arange(height * width), best]
            found[name] = LevelProposals(chosen.view(height, width, 4), score.sigmoid().view(height, width))
        return found

    @torch.no_grad()
    def ask(self, boxes: Tensor, level: str | None = None) -> Answer:
        """What every branch says of proposals `boxes` [K, 4].

        Args:
            level: the level to pool all of them from; None takes each from the level of its size.

        Raises:
            ValueError: another shape, or no level of that name is pooled from.
        """
        pool = self.pool(level)
        answer: Answer = _joined([self.answer(pool, part) for part in boxes.split(_CHUNK)])
        return answer

    def pool(self, level: str | None = None, features: dict[str, Tensor] | None = None) -> RegionPooler:
        """What regions are pooled with, from one level only if it is named; from other `features` if given."""
        pool = self._pool if features is None else self.model.roi_heads.prepare(features)
        if level is None:
            return pool
        if level not in self.pooled:
            raise InputError(f"no region is pooled from level {level!r}; levels are {', '.join(self.pooled)}")
        return pool.from_level(self.pooled.index(level))

    def answer(self, pool: RegionPooler, boxes: Tensor) -> Answer:
        """As `ask`, with a pool of one's own, and differentiable."""
        return self._answer(pool, boxes)[0]

    def trace(self, proposals: Tensor | None = None) -> DetectionTrace:
        """Everything the detector does with the image; see `tsdlab.trace`."""
        if proposals is None:
            boxes, scores = self.propose()
        else:
            boxes = proposals
            scores = self._ratio.new_full((len(boxes),), torch.nan)
        with torch.no_grad():
            answer, output, rois = self._answer(self._pool, boxes)
            with _evaluating(self.model):
                detections = self.model.roi_heads.detect(self._pool, output, rois, [self._seen])[0]
        return DetectionTrace(
            **{field.name: getattr(answer, field.name) for field in dataclasses.fields(Answer)},
            image_size=self.image_size,
            features=self.features,
            strides=self.strides,
            proposal_scores=scores,
            detections={**detections, "boxes": detections["boxes"] * self._ratio},
        )

    def _answer(self, pool: RegionPooler, proposals: Tensor) -> tuple[Answer, HeadOutput, Tensor]:
        if proposals.dim() != 2 or proposals.shape[1] != 4:
            raise InputError(f"proposals must be [K, 4] xyxy, got {tuple(proposals.shape)}")
        proposals = proposals.to(self._ratio)
        rois = to_rois([proposals / self._ratio])
        with _evaluating(self.model):
            output: HeadOutput = self.model.roi_heads.head(pool, rois, with_sibling=True)
        whole = output.localization_offset is not None and output.localization_offset.dim() == 2
        offsets = output.classification_offsets
        branches: dict[str, HeadOutput] = {self.model.config.head: output}
        if output.sibling is not None and output.sibling.logits is not output.logits:
            branches = {"sibling": output.sibling} | branches
        answer = Answer(
            proposals=proposals,
            levels=pool.assign_levels(rois),
            branches={name: self._branch(branch) for name, branch in branches.items()},
            classification_offsets=offsets,
            localization_offset=output.localization_offset if whole else None,
            classification_points=None if offsets is None else bin_centres(proposals, offsets),
            localization_proposals=output.boxes * self._ratio if whole else None,
        )
        return answer, output, rois

    def _branch(self, output: HeadOutput) -> BranchTrace:
        classes = output.deltas.shape[1]
        decoded = decode(output.deltas.flatten(0, 1).float(), output.boxes.repeat_interleave(classes, 0).float())
        on_image = clip_boxes_to_image(decoded, self._seen) * self._ratio
        return BranchTrace(output.logits, output.scores(), on_image.unflatten(0, (-1, classes)))


def trace(model: GeneralizedRCNN, image: Tensor, proposals: Tensor | None = None) -> DetectionTrace:
    """Run `model` in eval mode on one image and keep every intermediate answer.

    Args:
        model: a detector of ours, or a Faster R-CNN of torchvision; its training mode is restored afterwards.
        image: [3, H, W] in 0…1.
        proposals: [K, 4] xyxy in pixels of `image` to use instead of the RPN's.

    Returns:
        The trace, in original-image pixels.

    Raises:
        ValueError: image or proposals of another shape.
    """
    return Probe(model, image).trace(proposals)


def as_detector(model: GeneralizedRCNN) -> Detector:
    """`model` itself if it is a detector of ours; a Faster R-CNN of torchvision as one of ours with a sibling head.

    A model of torchvision is copied: over many images convert it once, by this function.

    Raises:
        ValueError: it is neither; says why.
    """
    return model if isinstance(model, Detector) else from_torchvision(model, head="sibling")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _rpn_boxes(
    rpn: RegionProposalNetwork, images: ImageList, features: dict[str, Tensor]
) -> tuple[Tensor, Tensor, list[int]]:
    """Boxes [anchors, 4] of a batch of one image, objectness logits [anchors], and how many belong to each level.

    Within a level they go cell by cell, row by row; the anchors of a cell are neighbours.
    """
    maps = list(features.values())
    objectness, deltas = rpn.head(maps)
    anchors = rpn.anchor_generator(images, maps)
    per_level = [o[0].numel() for o in objectness]
    flat_objectness, flat_deltas = concat_box_prediction_layers(objectness, deltas)
    return rpn.box_coder.decode(flat_deltas, anchors)[:, 0], flat_objectness[:, 0], per_level


def _joined(parts: list[Any]) -> Any:
    """Tensors, or what is made of them, one after the other along the first dimension."""
    if len(parts) == 1 or parts[0] is None:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], dict):
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}
    names = [field.name for field in dataclasses.fields(parts[0])]
    return type(parts[0])(**{name: _joined([getattr(part, name) for part in parts]) for name in names})


def _stride(images: ImageList, feature: Tensor, axis: int) -> int:
    return images.tensors.shape[2 + axis] // feature.shape[2 + axis]
