"""The losses that train a head: the detection losses, and TSD's progressive constraint."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tsdlab.models.boxes import decode, encode, paired_iou
from tsdlab.structures import HeadOutput, Samples


def detection_losses(output: HeadOutput, samples: Samples) -> tuple[Tensor, Tensor]:
    """Fast R-CNN's losses: cross-entropy over all RoIs, smooth L1 on the deltas of the positives.

    Both are divided by the number of all RoIs, as in torchvision. A loss without positives (or without RoIs) is zero
    and passes a zero gradient to every parameter. If `output.boxes` is differentiable, so is the regression target.
    """
    count = max(len(samples.labels), 1)
    classification = F.cross_entropy(output.logits.float(), samples.labels, reduction="sum") / count
    positive = torch.where(samples.labels > 0)[0]
    labels = samples.labels[positive]
    localization = F.smooth_l1_loss(
        output.deltas[positive, labels].float(),
        encode(samples.matched_boxes[positive], output.boxes[positive]),
        beta=1 / 9,
        reduction="sum",
    )
    return classification, localization / count


def progressive_constraint(
    output: HeadOutput,
    sibling: HeadOutput,
    samples: Samples,
    classification_margin: float | None,
    localization_margin: float | None,
    teaches_sibling: bool = False,
) -> tuple[Tensor, Tensor]:
    """TSD must beat its sibling by a margin (Eq. 7 and 8): M_cls and M_loc.

    M_cls = mean over all RoIs of |s(y|P) − s_D(y|P̂c) + min(1 − s(y|P), m_c)|₊, s the softmax score of the true
    class (background included). M_loc = mean over positives of |IoU(B̂, B) − IoU(B̂_D, B) + min(1 − IoU(B̂, B),
    m_r)|₊, with the boxes decoded for the true class. As in the reference code, the sibling's score and IoU are
    constants, and the margin shrinks where the sibling is almost perfect: a perfect sibling need not be beaten.

    Args:
        output: TSD's prediction.
        sibling: the sibling head's prediction for the same RoIs.
        samples: the targets.
        classification_margin: m_c; None turns M_cls off: it is zero.
        localization_margin: m_r; None turns M_loc off.
        teaches_sibling: let the gradient reach the sibling too. It makes the sibling worse.
    """
    classification = localization = output.logits.new_zeros((), dtype=torch.float32)
    if classification_margin is not None:
        every = torch.arange(len(samples.labels), device=samples.labels.device)
        score = output.logits.float().softmax(dim=1)[every, samples.labels]
        sibling_score = sibling.logits.float().softmax(dim=1)[every, samples.labels]
        classification = _hinge(score, sibling_score, classification_margin, teaches_sibling)
    if localization_margin is not None:
        positive = torch.where(samples.labels > 0)[0]
        labels, truth = samples.labels[positive], samples.matched_boxes[positive]
        iou, sibling_iou = (
            paired_iou(decode(branch.deltas[positive, labels].float(), branch.boxes[positive]), truth)
            for branch in (output, sibling)
        )
        localization = _hinge(iou, sibling_iou, localization_margin, teaches_sibling)
    return classification, localization


def _hinge(value: Tensor, sibling_value: Tensor, margin: float, teaches_sibling: bool) -> Tensor:
    """Mean over RoIs of how far `value` [K] is below the sibling's value plus the margin; all in 0…1."""
    if not teaches_sibling:
        sibling_value = sibling_value.detach()
    shortfall = F.relu(sibling_value - value + (1 - sibling_value).clamp(max=margin))
    return shortfall.sum() / max(len(value), 1)
