"""`Probe` and `trace`: what a detector computes for one image, for analysis, plots and the explorer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image

from tsdlab.data.arrays import as_image
from tsdlab.data.targets import as_boxes
from tsdlab.errors import InputError
from tsdlab.models.boxes import decode
from tsdlab.models.build import as_detector
from tsdlab.models.detector import evaluating, require_finite
from tsdlab.models.roi_heads import to_rois
from tsdlab.ops import RegionPooler
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import (
    TASKS,
    Answer,
    BranchTrace,
    DetectionTrace,
    HeadOutput,
    Region,
    RegionTrace,
    map_tensors,
)

# RoIs per pass of the head, which needs about 100 kB of memory for each.
_CHUNK = 2048


@dataclass(frozen=True)
class LevelProposals:
    """The RPN's proposal at every cell of a feature map: that of the cell's anchor with the highest objectness."""

    boxes: Tensor  # [h, w, 4] original-image pixels, clipped to the image
    objectness: Tensor  # [h, w] 0…1


class Probe:
    """One image inside a detector: computes its features once, then predicts for any boxes.

    All inputs and results are in pixels of the original image. The model runs in eval mode, and its mode is restored
    afterwards.

    Args:
        model: a `Detector`, or a Faster R-CNN of torchvision (see `tsdlab.models.build.as_detector`).
        image: [3, H, W] in 0…1, or any other form that `tsdlab.data.arrays.as_image` takes.

    Attributes:
        image_size: (height, width) of the image.
        seen_size: (height, width) of the resized image that the backbone saw.
        features: level name → [1, channels, h, w].
        strides: level name → (y, x) original-image pixels per feature cell.
        pooled: names of the levels that regions are pooled from, finest first.

    Raises:
        ValueError: the image has another shape, or the model is no such detector.
    """

    @torch.inference_mode(False)  # features of inference mode could not be differentiated later
    @torch.no_grad()
    def __init__(self, model: nn.Module, image: Any) -> None:
        image = as_image(image)
        self.model = as_detector(model)
        require_finite(self.model)
        self.image_size: tuple[int, int] = (image.shape[1], image.shape[2])
        some_weights = next(self.model.parameters())
        device = some_weights.device
        with evaluating(self.model):
            self._images, _ = self.model.transform([image.to(some_weights)])
            self.features: dict[str, Tensor] = dict(self.model.backbone(self._images.tensors))
        self.seen_size: tuple[int, int] = self._images.image_sizes[0]
        zoom = [original / seen for original, seen in zip(self.image_size, self.seen_size)]  # (y, x)
        self._ratio = torch.tensor(zoom[::-1] * 2, device=device, dtype=torch.float32)  # xyxy
        self.strides = {
            name: (zoom[0] * _stride(self._images, f, 0), zoom[1] * _stride(self._images, f, 1))
            for name, f in self.features.items()
        }
        self._pool: RegionPooler = self.model.roi_heads.prepare(self.features)
        self.pooled = tuple(list(self.features)[: len(self._pool.scheme.strides)])

    @torch.inference_mode(False)
    @torch.no_grad()
    def propose(self) -> tuple[Tensor, Tensor]:
        """The RPN's proposals [K, 4], best first, and their objectness [K] in 0…1.

        torchvision's `rpn(images, features)` computes the same boxes but keeps the scores to itself.
        """
        with evaluating(self.model):
            boxes, objectness, per_level = _rpn_boxes(self.model.rpn, self._images, self.features)
            proposals, scores = self.model.rpn.filter_proposals(
                boxes[None], objectness[:, None], self._images.image_sizes, per_level
            )
        return proposals[0] * self._ratio, scores[0]

    @torch.no_grad()
    def propose_everywhere(self) -> dict[str, LevelProposals]:
        """The RPN's proposals at every cell of every level, before any selection."""
        with evaluating(self.model):
            boxes, objectness, per_level = _rpn_boxes(self.model.rpn, self._images, self.features)
        boxes = clip_boxes_to_image(boxes, self.seen_size) * self._ratio
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
    def ask(self, boxes: Any, level: str | Sequence[str] | None = None) -> Answer:
        """What every branch predicts for proposals `boxes` [K, 4].

        Args:
            boxes: [K, 4] xyxy.
            level: the name of the level that all boxes are pooled from, or one name for each box. None assigns a level
                to each box by its size, as inference does.

        Raises:
            ValueError: `boxes` has another shape, or regions are not pooled from a level of that name.
        """
        boxes = as_boxes(boxes)
        parts = (
            self.answer(
                boxes[i : i + _CHUNK],
                level if level is None or isinstance(level, str) else level[i : i + _CHUNK],
            )
            for i in range(0, max(len(boxes), 1), _CHUNK)
        )
        answer: Answer = map_tensors(lambda *chunks: torch.cat(chunks), *parts)
        return answer

    def answer(
        self, boxes: Tensor, level: str | Sequence[str] | None = None, features: dict[str, Tensor] | None = None
    ) -> Answer:
        """As `ask`, but in one pass and differentiable in `boxes` and `features`.

        Args:
            boxes, level: as for `ask`.
            features: the features to pool from instead of the image's own; same names and shapes.
        """
        pool = self._pool if features is None else self.model.roi_heads.prepare(features)
        if level is not None:
            names = [level] * len(boxes) if isinstance(level, str) else level
            pool = pool.from_levels(self._indices(names))
        return self._answer(pool, boxes)[0]

    def level_of(self, box: Tensor) -> str:
        """The name of the level that inference pools a proposal `box` [4] from, by its size."""
        return self.pooled[int(self._pool.assign_levels(self._rois(box[None]))[0])]

    def _indices(self, levels: Sequence[str]) -> Tensor:
        """[K] int64 index of each named level among those that regions are pooled from."""
        for unknown in set(levels) - set(self.pooled):
            raise InputError(f"regions are not pooled from level {unknown!r}; levels are {', '.join(self.pooled)}")
        indices = [self.pooled.index(name) for name in levels]
        return torch.tensor(indices, dtype=torch.int64, device=self._ratio.device)

    def _rois(self, proposals: Tensor) -> Tensor:
        """Proposals [K, 4] as rois [K, 5] of the resized image."""
        return to_rois([proposals.to(self._ratio) / self._ratio])

    def trace(self, proposals: Tensor | None = None) -> DetectionTrace:
        """Everything the detector does with the image; see `tsdlab.trace`."""
        if proposals is None:
            boxes, scores = self.propose()
        else:
            boxes = as_boxes(proposals)
            scores = self._ratio.new_full((len(boxes),), torch.nan)
        with torch.no_grad():
            answer, output, rois = self._answer(self._pool, boxes)
            with evaluating(self.model):
                detections = self.model.roi_heads.postprocess(self._pool, output, rois, [self.seen_size])[0]
        return DetectionTrace(
            **{field.name: getattr(answer, field.name) for field in dataclasses.fields(Answer)},
            image_size=self.image_size,
            features=self.features,
            strides=self.strides,
            proposal_scores=scores,
            detections={**detections, "boxes": detections["boxes"] * self._ratio},
        )

    def _answer(self, pool: RegionPooler, proposals: Tensor) -> tuple[Answer, HeadOutput, Tensor]:
        proposals = as_boxes(proposals)
        proposals, rois = proposals.to(self._ratio), self._rois(proposals)
        with evaluating(self.model):
            output: HeadOutput = self.model.roi_heads.head(pool, rois, all_branches=True)
        branches = {**output.extra_branches(), self.model.config.head: output}
        for task in output.regions.keys() - set(TASKS):
            raise InputError(
                f"the head {self.model.config.head!r} has a region of {task!r}; tasks are {', '.join(TASKS)}"
            )
        answer = Answer(
            proposals=proposals,
            levels=pool.assign_levels(rois),
            branches={name: self._branch(branch) for name, branch in branches.items()},
            regions={task: self._region(region, rois[:, 1:]) for task, region in output.regions.items()},
        )
        return answer, output, rois

    def _region(self, region: Region, proposals: Tensor) -> RegionTrace:
        """A region for proposals [K, 4] of the resized image, on which both are known without rounding."""
        bins = self._pool.scheme.output_size
        points = bin_centres(region.boxes, region.offsets, bins)
        places = bin_centres(proposals, bins=points.shape[1])
        size = (proposals[:, 2:] - proposals[:, :2]).clamp(min=1e-6)  # a side of zero has no fractions
        return RegionTrace(
            boxes=region.boxes * self._ratio,
            points=points * self._ratio[:2],
            offsets=(points - places) / size[:, None, None],
            deformed=region.offsets is not None,
        )

    def _branch(self, output: HeadOutput) -> BranchTrace:
        classes = output.deltas.shape[1]
        decoded = decode(output.deltas.flatten(0, 1).float(), output.boxes.repeat_interleave(classes, 0).float())
        on_image = clip_boxes_to_image(decoded, self.seen_size) * self._ratio
        return BranchTrace(output.logits.float(), output.scores().float(), on_image.unflatten(0, (-1, classes)))


def trace(model: nn.Module, image: Any, proposals: Any = None) -> DetectionTrace:
    """Run `model` on one image and keep every intermediate result.

    Args:
        model: a `Detector`, or a Faster R-CNN of torchvision. It runs in eval mode; its mode is restored afterwards.
        image: [3, H, W] in 0…1, or any other form that `tsdlab.data.arrays.as_image` takes.
        proposals: [K, 4] xyxy in pixels of `image` to use instead of the RPN's: a tensor, an array or lists.

    Returns:
        The trace, in pixels of `image`.

    Raises:
        ValueError: image or proposals have another shape, or the model is no such detector.
    """
    return Probe(model, image).trace(proposals)


def _rpn_boxes(
    rpn: RegionProposalNetwork, images: ImageList, features: dict[str, Tensor]
) -> tuple[Tensor, Tensor, list[int]]:
    """Boxes [anchors, 4] of a batch of one image, objectness logits [anchors], and the number of anchors per level.

    Within a level, anchors are ordered by row, then column, then by their number in the cell.
    """
    maps = list(features.values())
    objectness, deltas = rpn.head(maps)
    anchors = rpn.anchor_generator(images, maps)
    per_level = [o[0].numel() for o in objectness]
    flat_objectness, flat_deltas = concat_box_prediction_layers(objectness, deltas)
    return rpn.box_coder.decode(flat_deltas, anchors)[:, 0], flat_objectness[:, 0], per_level


def _stride(images: ImageList, feature: Tensor, axis: int) -> int:
    return images.tensors.shape[2 + axis] // feature.shape[2 + axis]
