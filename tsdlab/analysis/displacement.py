"""Where do TSD's displacements lead? Held against what is known of each object: its salient part, and its box.

The salient part is what tells the class: the badge of a badges world, or "salient_bbox" of any annotation file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou
from tqdm import tqdm

from tsdlab.data.coco import CocoDataset
from tsdlab.evaluate import PROGRESS_INTERVAL
from tsdlab.models.detector import Detector
from tsdlab.models.trace import trace
from tsdlab.ops.sampling import bin_centres


@dataclass(frozen=True)
class Displacement:
    """Means over proposals that overlap an object; distances in fractions of the proposal's width and height."""

    proposals: int
    grid_on_salient: float  # share of the plain grid's bin centres that lie on the salient part, 0…1
    moved_on_salient: float  # the same of P̂_c, the bin centres after ΔC
    towards_salient: float  # how much nearer ΔC brings a bin centre to the salient part's centre
    classification_offset: float  # |ΔC|
    grid_spread: float  # of the plain grid: how far its bin centres lie from their mean
    moved_spread: float  # the same of P̂_c
    centre_distance: float  # of P's centre from the object's
    classification_centre_distance: float  # of P̂_c's mean from it
    localization_centre_distance: float  # of P̂_r's centre from it
    localization_offset: float  # |ΔR|


def measure_displacement(
    model: Detector, dataset: CocoDataset, images: int = 100, min_iou: float = 0.5, progress: bool = True
) -> Displacement:
    """Follow ΔC and ΔR of the proposals that overlap an object, over the first `images` of the dataset.

    Args:
        model: a detector whose head moves its regions: TSD with one displacement per proposal for localization.
        dataset: every object needs a "salient_bbox".
        images: how many of its images.
        min_iou: a proposal belongs to the object it overlaps most, if at least this much.
        progress: show a progress bar.

    Raises:
        ValueError: the head moves nothing, the dataset knows no salient parts, or no proposal overlaps an object.
    """
    rows: list[Tensor] = []  # per proposal, in the order of the fields
    for index in tqdm(
        range(min(images, len(dataset))),
        "displacement",
        disable=not progress,
        leave=False,
        mininterval=PROGRESS_INTERVAL,
    ):
        image, target = dataset[index]
        if "salient_boxes" not in target:
            raise ValueError(f'{dataset.annotation_file} has objects without "salient_bbox"')
        seen = trace(model, image)
        if seen.classification_points is None or seen.localization_proposals is None:
            raise ValueError(f"head {model.config.head!r} does not move its regions, or its boxes' bin by bin")
        if len(target["boxes"]) == 0:
            continue
        overlap, nearest = box_iou(seen.proposals, target["boxes"].to(seen.proposals)).max(dim=1)
        good = overlap >= min_iou
        rows.append(
            _follow(
                seen.proposals[good].cpu(),
                seen.classification_points[good].cpu(),
                seen.localization_proposals[good].cpu(),
                target["boxes"][nearest[good].cpu()],
                target["salient_boxes"][nearest[good].cpu()],
            )
        )
    table = torch.cat(rows) if rows else torch.empty(0)
    if len(table) == 0:
        raise ValueError(f"no proposal overlaps an object with IoU ≥ {min_iou}")
    names = [field.name for field in dataclasses.fields(Displacement)][1:]
    return Displacement(len(table), **dict(zip(names, table.mean(dim=0).tolist())))


def _follow(proposals: Tensor, points: Tensor, moved: Tensor, objects: Tensor, salient: Tensor) -> Tensor:
    """Fields of `Displacement` after the first, [K, 10], from boxes [K, 4] and points [K, bins, bins, 2]."""
    size = (proposals[:, 2:] - proposals[:, :2]).clamp(min=1e-6)
    grid = bin_centres(proposals, bins=points.shape[1])
    goal = _centre(salient)[:, None, None]
    scale = size[:, None, None]
    distance, moved_distance = (torch.linalg.vector_norm((p - goal) / scale, dim=-1) for p in (grid, points))
    centre, mean = _centre(objects), points.mean(dim=(1, 2))
    columns = [
        _inside(grid, salient).mean(dim=(1, 2)),
        _inside(points, salient).mean(dim=(1, 2)),
        (distance - moved_distance).mean(dim=(1, 2)),
        torch.linalg.vector_norm((points - grid) / scale, dim=-1).mean(dim=(1, 2)),
        torch.linalg.vector_norm((grid - _centre(proposals)[:, None, None]) / scale, dim=-1).mean(dim=(1, 2)),
        torch.linalg.vector_norm((points - mean[:, None, None]) / scale, dim=-1).mean(dim=(1, 2)),
        torch.linalg.vector_norm((_centre(proposals) - centre) / size, dim=-1),
        torch.linalg.vector_norm((mean - centre) / size, dim=-1),
        torch.linalg.vector_norm((_centre(moved) - centre) / size, dim=-1),
        torch.linalg.vector_norm((_centre(moved) - _centre(proposals)) / size, dim=-1),
    ]
    return torch.stack(columns, dim=1)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """[K, bins, bins] 1 where points [K, bins, bins, 2] lie in boxes [K, 4]."""
    low, high = boxes[:, None, None, :2], boxes[:, None, None, 2:]
    return ((points >= low) & (points <= high)).all(dim=-1).float()
