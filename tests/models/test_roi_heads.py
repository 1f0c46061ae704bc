"""Which regions the second stage is trained on."""

from dataclasses import replace

import pytest
import torch
from torchvision.ops import box_iou

from tsdlab.config import Config
from tsdlab.models.build import build_detector
from tsdlab.models.roi_heads import RoIHeads

TRUTH = torch.tensor([[0.0, 0.0, 10.0, 10.0], [100.0, 100.0, 120.0, 120.0]])
LABELS = torch.tensor([2, 1])


def roi_heads(config: Config, **changes: object) -> RoIHeads:
    return build_detector(replace(config, roi=replace(config.roi, **changes))).roi_heads  # type: ignore[arg-type]


def test_a_proposal_belongs_to_the_object_that_it_overlaps_enough(tiny_config: Config) -> None:
    proposals = torch.tensor(
        [
            [0.0, 0.0, 10.0, 6.0],  # IoU 0.6 with the first object
            [0.0, 0.0, 10.0, 5.9],  # 0.59: background
            [101.0, 100.0, 121.0, 120.0],  # 19/21 with the second
            [50.0, 50.0, 60.0, 60.0],
        ]
    )
    targets = [{"boxes": TRUTH, "labels": LABELS}, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}]
    heads = roi_heads(tiny_config, fg_iou=0.6, samples_per_image=100, positive_fraction=1.0)
    found = heads.sample([proposals, proposals[:2]], targets)
    # The objects themselves are proposals too.
    expected = torch.cat([proposals, TRUTH, proposals[:2]])
    torch.testing.assert_close(found.rois, torch.cat([torch.tensor([[0.0]] * 6 + [[1.0]] * 2), expected], dim=1))
    assert found.labels.tolist() == [2, 0, 1, 0, 2, 1, 0, 0]
    assert torch.equal(found.matched_boxes[found.labels > 0], TRUTH[[0, 1, 0, 1]])


@pytest.mark.parametrize(("near", "positives"), [(50, 4), (1, 3)])  # with the two objects: 52 or 3 that overlap enough
def test_samples_are_so_many_and_at_most_so_many_of_them_are_positive(
    near: int, positives: int, tiny_config: Config
) -> None:
    torch.manual_seed(0)
    close = TRUTH[0] + torch.rand(near, 4)
    far = torch.tensor([200.0, 200.0, 210.0, 210.0]) + torch.rand(50, 1)
    heads = roi_heads(tiny_config, samples_per_image=16, positive_fraction=0.25)
    found = heads.sample([torch.cat([close, far])], [{"boxes": TRUTH, "labels": LABELS}])
    assert len(found.labels) == 16 and int((found.labels > 0).sum()) == positives
    overlap = box_iou(found.rois[:, 1:], TRUTH).amax(dim=1)
    assert torch.equal(overlap >= 0.5, found.labels > 0)
