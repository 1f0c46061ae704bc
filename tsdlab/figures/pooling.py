"""How a region is pooled: feature maps and their cells, bins and their samples, bilinear weights."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from tsdlab.figures.overlays import draw_box
from tsdlab.ops.sampling import bin_centres, sample_points


def feature_map(feature: Tensor, stride: float, ax: Axes | None = None) -> Axes:
    """One channel of a feature map [H, W]; every cell is a square of `stride` pixels of the image."""
    ax = ax or plt.gca()
    height, width = (cells * stride for cells in feature.shape)
    ax.imshow(feature.cpu().numpy(), extent=(0, width, height, 0), cmap="Greys_r", interpolation="nearest")
    return cell_grid(stride, ax)


def cell_grid(stride: float, ax: Axes) -> Axes:
    """Draw the borders of a feature map's cells over an image or feature map; removes the ticks."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    style: dict[str, Any] = {"color": "white", "linewidth": 0.5, "alpha": 0.5}
    ax.vlines(np.arange(left, right + 1e-6, stride), top, bottom, **style)
    ax.hlines(np.arange(top, bottom + 1e-6, stride), left, right, **style)
    ax.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top))
    return ax


def region(box: Tensor, color: str, ax: Axes, offsets: Tensor | None = None, bins: int = 7, samples: int = 2) -> Axes:
    """The places that a pooled region reads: its bins as squares, its samples as dots.

    Args:
        box: [4] xyxy in pixels.
        offsets: [bins, bins, 2] (dx, dy) in fractions of the box, or None; arrows show how the bins move.
        bins, samples: bins per side of the box, samples per side of a bin.
    """
    if offsets is not None:
        offsets, bins = offsets[None], offsets.shape[0]
    ys, xs = sample_points(box[None], 1.0, (bins, bins), samples, aligned=True, offsets=offsets)
    half = (box[2:] - box[:2]) / bins / 2  # of a bin
    centres = bin_centres(box[None], offsets, bins)[0].flatten(0, 1)  # [bins², 2]
    for corner in centres - half:
        square = Rectangle(corner.tolist(), *(2 * half).tolist(), facecolor=(color, 0.12), edgecolor=(color, 0.9))
        ax.add_patch(square)
    points = torch.broadcast_tensors(xs[0, :, :, None, :] + 0.5, ys[0, :, :, :, None] + 0.5)  # undo aligned's half cell
    ax.plot(
        *(p.flatten().cpu().numpy() for p in points), "o", color=color, markersize=3, markeredgecolor="white",
        markeredgewidth=0.3,
    )  # fmt: skip
    return ax if offsets is None else bin_arrows(box, offsets[0], "black", ax, zorder=0.9)


def bin_arrows(box: Tensor, offsets: Tensor, color: str, ax: Axes, zorder: float = 3.0) -> Axes:
    """The offsets [bins, bins, 2] (dx, dy) of a box [4], in fractions of its size: an arrow from every bin."""
    arrows = offsets * (box[2:] - box[:2])
    tails = bin_centres(box[None], bins=offsets.shape[0])[0]
    ax.quiver(
        *torch.cat([tails, arrows], dim=2).flatten(0, 1).cpu().numpy().T, angles="xy", scale_units="xy", scale=1,
        width=0.004, color=color, edgecolor="white", linewidth=0.3, zorder=zorder,
    )  # fmt: skip
    return ax


def bilinear_weights(point: Tensor, stride: float, color: str, ax: Axes) -> Axes:
    """A sample [2] (x, y) in pixels, and the weights of the four cells that it is interpolated from.

    The weight of a cell is its overlap with a square of one cell's size around the sample.
    """
    x, y = (point / stride).tolist()
    for column in (math.floor(x - 0.5), math.floor(x + 0.5)):
        for row in (math.floor(y - 0.5), math.floor(y + 0.5)):
            x1, x2 = max(column, x - 0.5), min(column + 1, x + 0.5)
            y1, y2 = max(row, y - 0.5), min(row + 1, y + 0.5)
            draw_box(torch.tensor([x1, y1, x2, y2]) * stride, color, ax, fill=True, facecolor=color, alpha=0.5)
            # Away from the sample, so that its marker hides no number.
            left, top = (
                c + (0.2 if c > p else -0.2) for c, p in ((column + 0.5, x), (row + 0.5, y))
            )  # beside the sample
            ax.text(
                left * stride, top * stride, f"{(x2 - x1) * (y2 - y1):.2f}", ha="center", va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
            )  # fmt: skip
    ax.plot(*point.tolist(), "o", color=color, markersize=9, markeredgecolor="white")
    return ax
