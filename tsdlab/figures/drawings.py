"""Whole pictures of an image and what a detector finds in it, for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import box_iou

from tsdlab.figures.names import drawn, families
from tsdlab.figures.overlays import detections, draw_box, proposal
from tsdlab.structures import DetectionTrace

_LONGEST = 6.0  # inches: letters of 8 points are then 1.9% of the longer side, on a large image
_FEWEST = 100  # pixels an inch: such letters have 11 pixels at least
_SMALL, _ENLARGED = 400, 800  # pixels: letters would cover a smaller image
_LARGE = 8000  # pixels
_PANELS = 12
_PANEL_PIXELS = 1600  # of the image that panels are cut from


def detections_picture(image: Tensor, found: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Every detection over the image, at the size of the image.

    Images with a longer side below 400 pixels are enlarged by a whole number, to 800 or more, because labels would
    cover them. Those beyond 8000 are reduced, which bounds the memory.

    Args:
        image: [3, H, W] in 0…1.
        found: "boxes" [K, 4] in pixels, "labels" [K] in 1…C, "scores" [K] in 0…1.
        names: of the classes; `names[0]` is that of label 1.
    """
    height, width = image.shape[1:]
    longest = max(height, width)
    scale = -(-_ENLARGED // longest) if longest < _SMALL else min(1.0, _LARGE / longest)
    dpi = max(_FEWEST, longest * scale / _LONGEST)
    # Half a pixel more: matplotlib cuts the fraction off.
    sides = [(round(side * scale) + 0.5) / dpi for side in (width, height)]
    figure = Figure(figsize=(sides[0], sides[1]), dpi=dpi)
    detections(image, found, names, figure.add_axes((0, 0, 1, 1)), score_thresh=0.0)
    return figure


def proposals_picture(image: Tensor, trace: DetectionTrace, names: Sequence[str]) -> Figure:
    """A panel for each of the best detections: its proposal P and, if the head moves them, P̂c and P̂r.

    Args:
        image: [3, H, W] in 0…1.
        trace: of this image.
        names: of the classes; `names[0]` is that of label 1.
    """
    found = {name: value[:_PANELS].cpu() for name, value in trace.detections.items()}
    count = len(found["scores"])
    columns = min(max(count, 1), 4)
    rows = max(-(-count // columns), 1)
    figure = Figure(figsize=(3.4 * columns, 3.5 * rows + 0.5), dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    factor = min(1.0, _PANEL_PIXELS / max(image.shape[1:]))
    small = image if factor == 1 else interpolate(image[None], scale_factor=factor, mode="area")[0]
    levels, texts = list(trace.features), drawn(names)
    for ax in axes[count:]:
        ax.set_axis_off()
    if not count:
        axes[0].set_title("nothing found")
        return figure
    for ax, box, label, score in zip(axes, found["boxes"], found["labels"].tolist(), found["scores"].tolist()):
        # The proposal that became this detection: its box of this class is the detection's, clipped.
        index = int(box_iou(trace.detection.boxes[:, label].cpu(), box[None])[:, 0].argmax())
        proposal(small, trace, index, ax, margin=0.6, pixel=image.shape[2] / small.shape[2])
        draw_box(box, "white", ax, "detection", linewidth=1.2)
        name = texts[label - 1]
        title = f"{name} {score:.2f}, level {levels[int(trace.levels[index])]}"
        ax.set_title(title, fontsize=9, fontfamily=families(name))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=8, facecolor="0.8")
    return figure
