"""Results as pictures: every function takes a result and an Axes, and returns the Axes. No model runs here.

One palette everywhere (Okabe and Ito's, safe for colour-blind readers): see `PALETTE`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from tsdlab.analysis.slide import SlideMaps
from tsdlab.errors import InputError
from tsdlab.models.boxes import paired_iou
from tsdlab.ops.sampling import bin_centres, sample_points
from tsdlab.structures import Answer, BranchTrace

PALETTE = {
    "proposal": "#E69F00",  # P
    "classification": "#0072B2",  # P̂_c
    "localization": "#D55E00",  # P̂_r
    "truth": "#009E73",
    "sibling": "#7F7F7F",
    "d_head": "#CC79A7",
    "double": "#009E73",
    "iou": "#E69F00",
    "tsd": "#0072B2",
    "tsd, no constraint": "#56B4E9",
}
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#F0E442")


def show_image(image: Tensor, ax: Axes | None = None, pixel: float = 1.0) -> Axes:
    """An image [3, H, W] in 0…1 without ticks; `pixel` is its pixels' side in data units.

    With a `pixel` of 1/8 a rendering at eight times the size takes boxes of the image the detector saw.
    """
    ax = ax or plt.gca()
    height, width = (side * pixel for side in image.shape[1:])
    ax.imshow(
        image.permute(1, 2, 0).clamp(0, 1).cpu().numpy(),
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def draw_box(box: Tensor, color: str, ax: Axes, label: str | None = None, **style) -> Axes:
    """One box (xyxy, pixels); further keywords go to matplotlib's Rectangle."""
    x1, y1, x2, y2 = box.tolist()
    outline = {"fill": False, "linewidth": 2.0} | style
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, edgecolor=color, label=label, **outline))
    return ax


def detections(
    image: Tensor,
    found: Mapping[str, Tensor],
    names: Sequence[str],
    ax: Axes | None = None,
    score_thresh: float = 0.5,
) -> Axes:
    """Detections (boxes, labels, scores) over the image; `names[i]` names label i + 1."""
    ax = show_image(image, ax)
    order = found["scores"].argsort()  # the best is drawn last, over the others
    order = order[found["scores"][order] >= score_thresh]
    for box, label, score in zip(*(found[key][order] for key in ("boxes", "labels", "scores"))):
        label, score = int(label), float(score)
        color = _CYCLE[(label - 1) % len(_CYCLE)]
        draw_box(box, color, ax)
        x, y = box[:2].tolist()
        above = y > 0.08 * image.shape[1]  # else there is no room: inside the box
        ax.text(
            x, y, f" {names[label - 1]} {score:.2f} ", fontsize=8, va="bottom" if above else "top", color="white",
            clip_on=True,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
    return ax


def displacement(
    image: Tensor,
    trace: Answer,
    index: int,
    ax: Axes | None = None,
    truth: Tensor | None = None,
    margin: float = 0.35,
    pixel: float = 1.0,
) -> Axes:
    """Proposal `index` with what TSD makes of it: arrows from each bin of P to its place in P̂_c, and the box P̂_r.

    Args:
        truth: ground-truth box [4] to draw as well.
        margin: how much around the proposal is shown, as a fraction of its size.
        pixel: as in `show_image`.

    Raises:
        ValueError: the traced model does not displace its regions.
    """
    if trace.classification_points is None or trace.localization_proposals is None:
        raise InputError("this trace has no displacements; trace a model with the tsd head")
    ax = show_image(image, ax, pixel)
    proposal = trace.proposals[index]
    if truth is not None:
        draw_box(truth, PALETTE["truth"], ax, "ground truth", linestyle=(0, (1, 1)))
    draw_box(proposal, PALETTE["proposal"], ax, "P  proposal")
    draw_box(
        trace.localization_proposals[index],
        PALETTE["localization"],
        ax,
        "P̂_r  to localize from",
        linestyle="--",
    )
    moved = trace.classification_points[index].flatten(0, 1).cpu().numpy()  # [bins², 2]
    grid = bin_centres(proposal[None], bins=trace.classification_points.shape[1])[0].flatten(0, 1).cpu().numpy()
    ax.plot(*grid.T, ".", color=PALETTE["proposal"], markersize=3, alpha=0.9)
    ax.quiver(
        *grid.T, *(moved - grid).T, angles="xy", scale_units="xy", scale=1, width=0.004,
        color=PALETTE["classification"], alpha=0.8,
    )  # fmt: skip
    ax.plot(
        *moved.T, "o", color=PALETTE["classification"], markersize=4, markeredgecolor="white", markeredgewidth=0.5,
        label="P̂_c  to classify from",
    )  # fmt: skip
    x1, y1, x2, y2 = proposal.tolist()
    pad = margin * max(x2 - x1, y2 - y1)
    ax.set(xlim=(x1 - pad, x2 + pad), ylim=(y2 + pad, y1 - pad))
    return ax


def feature_map(feature: Tensor, stride: float, ax: Axes | None = None) -> Axes:
    """One channel of a feature map [H, W] in pixels of the image: every cell a square of `stride` pixels."""
    ax = ax or plt.gca()
    height, width = (cells * stride for cells in feature.shape)
    ax.imshow(feature.cpu().numpy(), extent=(0, width, height, 0), cmap="Greys_r", interpolation="nearest")
    return cell_grid(stride, ax)


def cell_grid(stride: float, ax: Axes) -> Axes:
    """The borders of the feature map's cells over an image or feature map that is drawn already; ticks go."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    style: dict[str, Any] = {"color": "white", "linewidth": 0.5, "alpha": 0.5}
    ax.vlines(np.arange(left, right + 1e-6, stride), top, bottom, **style)
    ax.hlines(np.arange(top, bottom + 1e-6, stride), left, right, **style)
    ax.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top))
    return ax


def region(box: Tensor, color: str, ax: Axes, offsets: Tensor | None = None, bins: int = 7, samples: int = 2) -> Axes:
    """Where a pooled region looks: its bins as squares, its samples as dots.

    Args:
        box: [4] xyxy in pixels.
        offsets: [bins, bins, 2] (dx, dy) in fractions of the box, or None; arrows lead from where the bins were.
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
    """An arrow from every bin of a box [4]: its offset [bins, bins, 2] (dx, dy), in fractions of the box."""
    arrows = offsets * (box[2:] - box[:2])
    tails = bin_centres(box[None], bins=offsets.shape[0])[0]
    ax.quiver(
        *torch.cat([tails, arrows], dim=2).flatten(0, 1).cpu().numpy().T, angles="xy", scale_units="xy", scale=1,
        width=0.004, color=color, edgecolor="white", linewidth=0.3, zorder=zorder,
    )  # fmt: skip
    return ax


def bilinear_weights(point: Tensor, stride: float, color: str, ax: Axes) -> Axes:
    """A sample [2] (x, y; pixels) and a cell-sized square around it: its area within a cell is that cell's weight."""
    x, y = (point / stride).tolist()
    for column in (math.floor(x - 0.5), math.floor(x + 0.5)):
        for row in (math.floor(y - 0.5), math.floor(y + 0.5)):
            x1, x2 = max(column, x - 0.5), min(column + 1, x + 0.5)
            y1, y2 = max(row, y - 0.5), min(row + 1, y + 0.5)
            draw_box(torch.tensor([x1, y1, x2, y2]) * stride, color, ax, fill=True, facecolor=color, alpha=0.5)
            left, top = (c + (0.2 if c > p else -0.2) for c, p in ((column + 0.5, x), (row + 0.5, y)))  # off the sample
            ax.text(
                left * stride, top * stride, f"{(x2 - x1) * (y2 - y1):.2f}", ha="center", va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
            )  # fmt: skip
    ax.plot(*point.tolist(), "o", color=color, markersize=9, markeredgecolor="white")
    return ax


def class_scores(
    branches: Mapping[str, BranchTrace],
    index: int,
    names: Sequence[str],
    ax: Axes | None = None,
    colors: Mapping[str, str] | None = None,
) -> Axes:
    """Class scores of proposal `index` by every branch, as grouped bars; background is the first class.

    `colors` are by branch, where its name does not say enough.
    """
    ax = ax or plt.gca()
    classes = ["background", *names]
    height = 0.8 / len(branches)
    rows = np.arange(len(classes))
    for i, (branch, answer) in enumerate(branches.items()):
        scores = answer.scores[index].cpu().numpy()
        ax.barh(
            rows + (i - (len(branches) - 1) / 2) * height,
            scores,
            height,
            label=branch,
            color=colors[branch] if colors else color_of(branch, i),
        )
    ax.set(yticks=rows, yticklabels=classes, xlim=(0, 1), xlabel="score")
    ax.invert_yaxis()
    plain_axes(ax)
    return ax


def score_against_iou(branches: Mapping[str, BranchTrace], label: int, truth: Tensor, ax: Axes | None = None) -> Axes:
    """Every proposal as a point: score of class `label` against IoU of its decoded box with `truth` [4].

    Proposals whose box does not touch the truth are left out.
    """
    ax = ax or plt.gca()
    for i, (branch, answer) in enumerate(branches.items()):
        boxes = answer.boxes[:, label]
        iou = paired_iou(boxes, truth.to(boxes).expand_as(boxes)).cpu()
        score = answer.scores[:, label].cpu()
        near = iou > 0
        ax.plot(
            score[near], iou[near], "o", color=color_of(branch, i), markersize=5, alpha=0.7, markeredgecolor="white",
            markeredgewidth=0.4, label=branch,
        )  # fmt: skip
    ax.set(xlim=(-0.03, 1.03), ylim=(0, 1.03), xlabel="score of the true class", ylabel="IoU of the decoded box")
    plain_axes(ax)
    return ax


def slide_map(maps: SlideMaps, task: str, ax: Axes | None = None) -> Axes:
    """The answers of one task ("classification" or "localization") to a box slid over its object, as a heat map.

    A ring marks the best place, a cross the place without shift.
    """
    ax = ax or plt.gca()
    low, high = maps.shifts[0].item(), maps.shifts[-1].item()
    half = (high - low) / (len(maps.shifts) - 1) / 2
    heat = ax.imshow(
        getattr(maps, task).numpy(), extent=(low - half, high + half, high + half, low - half), cmap="viridis", vmin=0,
        vmax=1,
    )  # fmt: skip
    dx, dy = maps.best_place(task).tolist()
    ax.plot(dx, dy, "o", markersize=14, markerfacecolor="none", markeredgecolor="white", markeredgewidth=2)
    ax.plot(0, 0, "+", markersize=12, color="white")
    ax.set(xlabel="shift in x (box widths)", ylabel="shift in y (box heights)")
    ax.figure.colorbar(heat, ax=ax, shrink=0.85)
    return ax


def training_curve(
    logs: Mapping[str, Sequence[Mapping[str, float]]],
    key: str = "total",
    smooth: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """One curve per run: `key` against "step", as a running mean over `smooth` rows."""
    ax = ax or plt.gca()
    for i, (run, rows) in enumerate(logs.items()):
        steps = np.array([row["step"] for row in rows], dtype=float)
        values = np.array([row[key] for row in rows], dtype=float)
        window = min(smooth, len(values))
        if window:
            mean = np.convolve(values, np.ones(window) / window, mode="valid")
            ax.plot(steps[window - 1 :], mean, color=color_of(run, i), label=run)
    ax.set(xlabel="step", ylabel=key)
    plain_axes(ax)
    return ax


def average_precision(
    results: Mapping[str, Mapping[str, float]],
    keys: Sequence[str] = ("AP", "AP50", "AP75"),
    ax: Axes | None = None,
    errors: Mapping[str, Mapping[str, float]] | None = None,
) -> Axes:
    """AP figures (percent) of several models as grouped bars; with `errors` they get whiskers, without their values."""
    ax = ax or plt.gca()
    columns = np.arange(len(keys))
    width = 0.8 / len(results)
    for i, (model, values) in enumerate(results.items()):
        at = columns + (i - (len(results) - 1) / 2) * width
        bars = ax.bar(at, [values[k] for k in keys], width * 0.94, label=model, color=color_of(model, i))
        if errors is None:
            ax.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
        else:
            spread = [errors[model][k] for k in keys]
            ax.errorbar(at, [values[k] for k in keys], spread, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
    ax.set(
        xticks=columns,
        xticklabels=[key.replace("_", " ") for key in keys],
        ylim=(0, 122),
        yticks=range(0, 101, 20),
        ylabel="percent",
    )
    plain_axes(ax, legend=False)
    ax.legend(loc="upper center", ncols=len(results), frameon=False, fontsize=9)  # above the highest bar's label
    return ax


def speedup(
    settings: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]],
    passes: str,
    ax: Axes | None = None,
    peer: str = "torchvision",
) -> Axes:
    """How often each contestant fits into the peer's time, as bars from the peer's 1× on a log axis.

    Args:
        settings: setting → passes → contestant → figures, as `benchmarks/roi_ops.py` writes them.
        passes: "forward" or "forward + backward".
    """
    ax = ax or plt.gca()
    results = {setting: {c: v for c, v in by[passes].items() if c != peer} for setting, by in settings.items()}
    contestants = list(dict.fromkeys(c for rows in results.values() for c in rows))
    ours = cycle(PALETTE[key] for key in ("proposal", "classification", "d_head", "localization"))
    for contestant in contestants:
        color = next(ours) if contestant.startswith("tsdlab") else PALETTE["sibling"]
        places = [g + 0.2 * (list(rows).index(contestant) - (len(rows) - 1) / 2)
                  for g, rows in enumerate(results.values()) if contestant in rows]  # fmt: skip
        times = np.array([rows[contestant][f"times_{peer}"] for rows in results.values() if contestant in rows])
        ax.barh(places, times - 1, 0.18, left=1, color=color, label=contestant)
        for place, value in zip(places, times):
            gap, side = (4, "left") if value >= 1 else (-4, "right")
            ax.annotate(f"{value:.1f}", (value, place), (gap, 0), textcoords="offset points", ha=side, va="center",
                        fontsize=7.5)  # fmt: skip
    ax.axvline(1, color="black", linewidth=1)
    low, high = ax.dataLim.intervalx
    ax.set(xscale="log", xlim=(low / 1.6, high * 1.6), xlabel=f"times as fast as {peer}", title=passes)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low / 1.6 <= t <= high * 1.6]
    ax.set_xticks(ticks, [f"{t:g}×" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_yticks(range(len(results)), list(results))
    ax.set_ylim(len(results) - 0.5, -0.5)  # the first on top, also where axes share their y
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def color_of(name: str, position: int) -> str:
    """A system's own colour, by its name or the name's first word; of an unknown one, that of its position."""
    return PALETTE.get(name) or PALETTE.get(name.split(" ")[0]) or _CYCLE[position % len(_CYCLE)]


def plain_axes(ax: Axes, legend: bool = True) -> Axes:
    """No frame above and to the right, and a legend without one."""
    ax.spines[["top", "right"]].set_visible(False)
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)
    return ax
