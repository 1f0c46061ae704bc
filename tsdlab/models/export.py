"""A detector as one program for images of one size, which runs without tsdlab.

torch.export follows the tensors through a model once. It cannot follow a step whose course depends on values, such as
"keep the boxes above the threshold". So `OneImage` computes the detections of a `Detector` with fixed numbers of boxes:
a box that the detector would drop stays, with the score −1, until the last step.
"""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import clip_boxes_to_image, nms

from tsdlab.errors import InputError, shown
from tsdlab.files import atomic_write, claim_outputs, require_place
from tsdlab.models.boxes import decode
from tsdlab.models.detector import Detector, evaluating
from tsdlab.models.postprocess import MIN_SIDE, soft_nms
from tsdlab.models.refinement import RefiningHead
from tsdlab.models.roi_heads import to_rois
from tsdlab.ops import RegionPooler
from tsdlab.ranges import Side, check_value

_DROPPED = -1.0  # the score of a box that is dropped in the end
_INPUT, _OUTPUTS = "image", ("boxes", "labels", "scores")


def export_detector(
    model: Detector, out: str | Path, height: int, width: int, plain: bool = False, overwrite: bool = False
) -> None:
    """Write a detector as a program: image [3, H, W] in 0…1 → boxes [D, 4] (xyxy, pixels), labels [D], scores [D].

    The program detects what the detector detects, up to rounding. It needs torch and torchvision, or onnxruntime, but
    not tsdlab. The file says what the labels mean: a list of categories as JSON, label i is the i-th. It is an extra
    file "categories.json" of .pt2, and the metadata "categories" of .onnx.

    Args:
        model: the detector, on the CPU.
        out: the file to write. Its suffix is the format: .pt2 (torch.export) or .onnx (needs tsdlab[onnx]).
        height: of the images, in pixels; the program takes images of this size only.
        width: likewise.
        plain: leave out that a head ranks boxes by a predicted IoU and refines them (the iou head), which no program
            can do: its steps depend on values.
        overwrite: whether `out` may be replaced.

    Raises:
        InputError: the suffix is another, a side is out of range, or the head needs `plain`.
        ExistingFileError: `out` exists, and `overwrite` is False.
    """
    if not isinstance(out, str | Path):
        raise InputError(f"out must be the path of a file, got {shown(out, 80)}")
    out = Path(out)
    if any(p.dtype != torch.float32 for p in model.parameters()):
        raise InputError("only a model in float32 can be exported; call model.float() first")
    if out.suffix not in (".pt2", ".onnx"):
        raise InputError(f"the name of the program must end in .pt2 or .onnx, got {out.name!r}")
    check_value("height", height, Side)
    check_value("width", width, Side)
    require_place(out)
    claim_outputs([out], overwrite=overwrite)
    model = copy.deepcopy(model).requires_grad_(False)  # otherwise what the program returns would require gradients
    categories = json.dumps([asdict(category) for category in model.categories], ensure_ascii=False)
    with evaluating(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about itself
        program = torch.export.export(
            OneImage(model, height, width, plain).eval(), (torch.zeros(3, height, width),), strict=False
        )
        if out.suffix == ".pt2":
            with atomic_write(out, overwrite) as file:
                torch.export.save(program, file, extra_files={"categories.json": categories})
        else:
            content = _to_onnx(program, categories)
            with atomic_write(out, overwrite) as file:
                file.write(content)


def _to_onnx(program: Any, categories: str) -> bytes:
    try:
        from tsdlab.models.onnx_operators import OPSET, TRANSLATIONS
    except ModuleNotFoundError as error:
        raise InputError("ONNX needs further packages: pip install tsdlab[onnx]") from error
    onnx = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        custom_translation_table=TRANSLATIONS,
        input_names=[_INPUT],
        output_names=list(_OUTPUTS),
        verbose=False,
    )
    assert onnx is not None
    onnx.model.metadata_props["categories"] = categories
    return onnx.model_proto.SerializeToString()


class OneImage(nn.Module):
    """image [3, H, W] in 0…1 → boxes [D, 4] (xyxy, pixels), labels [D] (1…C), scores [D], best first.

    Args:
        model: a detector in eval mode.
        height, width: of the images, in pixels.
        plain: as for `export_detector`.
    """

    def __init__(self, model: Detector, height: int, width: int, plain: bool = False) -> None:
        super().__init__()
        self.model = model
        self.size = (height, width)
        self.pooler = copy.copy(model.roi_heads.pooler)
        self.pooler.backend = "bag"  # its operators are torch's own
        with torch.no_grad():
            seen, _ = model.transform([next(model.parameters()).new_zeros(3, height, width)])
            features = model.backbone(seen.tensors)
            (anchors,) = model.rpn.anchor_generator(seen, list(features.values()))
            region = anchors.new_tensor([[0, 0, 0, 32, 32]]), torch.ones(1, dtype=torch.long, device=anchors.device)
            confidence = model.roi_heads.head.box_confidence(self._prepare(features), *region)
        if not plain and (confidence is not None or isinstance(model.roi_heads.head, RefiningHead)):
            raise InputError(
                f"the {model.config.head} head ranks boxes by a predicted IoU or refines them, in steps that depend on "
                "values; no program can be made of that. With --plain (plain=True in Python) the program leaves it out"
            )
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        seen, _ = model.transform([image])
        features = model.backbone(seen.tensors)
        proposals, valid = self._propose(features, seen.image_sizes[0])
        roi_heads = model.roi_heads
        rois = to_rois([proposals])
        output = roi_heads.head(self._prepare(features), rois)

        config = roi_heads.config
        scores = torch.where(valid[:, None], output.scores()[:, 1:], _DROPPED)  # [K, C]
        classes = scores.shape[1]
        scores, pairs = _best(scores.flatten(), config.pre_nms_top_n)
        roi, labels = pairs // classes, pairs % classes + 1
        boxes = decode(output.deltas[roi, labels].float(), output.boxes[roi].float())
        boxes = clip_boxes_to_image(boxes, seen.image_sizes[0])
        scores = torch.where((scores > config.score_thresh) & _are_big(boxes, MIN_SIDE), scores, _DROPPED)
        if config.nms == "hard":
            scores, kept = _best(_nms(boxes, scores, labels, config.nms_thresh), config.detections_per_image)
        else:
            kept, scores = soft_nms(boxes, scores, labels, config)
        above = scores > config.score_thresh
        kept, scores = kept[above], scores[above]
        return resize_boxes(boxes[kept], seen.image_sizes[0], self.size), labels[kept], scores

    def _prepare(self, features: dict[str, Tensor]) -> RegionPooler:
        return self.pooler([features[str(i)] for i in range(len(self.pooler.strides))])

    def _propose(self, features: dict[str, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Proposals [K, 4] of the one image, and which of them are valid [K]; K depends on the image's size only."""
        rpn = self.model.rpn
        objectness, deltas = rpn.head(list(features.values()))
        counts = [o[0].numel() for o in objectness]
        flat_objectness, flat_deltas = concat_box_prediction_layers(objectness, deltas)
        boxes = rpn.box_coder.decode(flat_deltas, [self.anchors])[:, 0]
        flat_objectness = flat_objectness.reshape(1, -1)
        best = rpn._get_top_n_idx(flat_objectness, counts)[0]
        boxes = clip_boxes_to_image(boxes[best], size)
        scores = flat_objectness[0][best].sigmoid()
        scores = torch.where((scores >= rpn.score_thresh) & _are_big(boxes, rpn.min_size), scores, _DROPPED)
        levels = torch.cat([scores.new_full((min(n, rpn.pre_nms_top_n()),), i) for i, n in enumerate(counts)])
        scores, kept = _best(_nms(boxes, scores, levels, rpn.nms_thresh), rpn.post_nms_top_n())
        return boxes[kept], scores != _DROPPED


def _best(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The highest of scores [n], at most `most`, and their indices; equal scores stay in order, as in the detector."""
    values, indices = scores.sort(descending=True, stable=True)
    return values[:most], indices[:most]


def _are_big(boxes: Tensor, side: float) -> Tensor:
    return ((boxes[:, 2:] - boxes[:, :2]) >= side).all(dim=1)


def _nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """The scores [n] after non-maximum suppression within each group: those of suppressed boxes are dropped.

    Boxes that were dropped before come last, so they suppress none but each other.
    """
    # Groups are moved apart, as in torchvision. In float32 this rounds boxes to about a hundredth of a pixel for 100
    # groups; ONNX has no other type for it.
    apart = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]
    kept = nms(apart, scores, threshold)
    return torch.where(torch.zeros_like(scores, dtype=torch.bool).index_fill(0, kept, True), scores, _DROPPED)
