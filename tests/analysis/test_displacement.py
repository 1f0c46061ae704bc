"""Displacements held against known places."""

from dataclasses import replace

import pytest
import torch

import tsdlab
from tsdlab.analysis.displacement import _follow, measure_displacement
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.models.detector import build_detector
from tsdlab.ops.sampling import bin_centres

P = torch.tensor([[0.0, 0.0, 70.0, 14.0]])


def test_by_hand():
    """All bins of a 70 × 14 proposal are gathered on its badge, and its box moved onto the object."""
    badge = torch.tensor([[60.0, 0.0, 70.0, 2.0]])  # the last bin of the first row
    points = torch.tensor([65.0, 1.0]).expand(1, 7, 7, 2)
    moved, thing = P + torch.tensor([7.0, 0.0, 7.0, 0.0]), P + torch.tensor([14.0, 0.0, 14.0, 0.0])
    row = _follow(P, points, moved, thing, badge)[0].tolist()
    grid, on, towards, offset, spread, moved_spread, before, gathered, after, shift = row
    assert grid == pytest.approx(1 / 49) and on == 1
    distance = torch.linalg.vector_norm((bin_centres(P) - points) / torch.tensor([70.0, 14.0]), dim=-1).mean().item()
    assert towards == pytest.approx(distance) and offset == pytest.approx(distance)
    assert (before, after, shift) == pytest.approx((0.2, 0.1, 0.1))
    assert gathered == pytest.approx(((65 - 49) ** 2 / 70**2 + (1 - 7) ** 2 / 14**2) ** 0.5)
    plain = torch.linalg.vector_norm((bin_centres(P) - torch.tensor([35.0, 7.0])) / torch.tensor([70.0, 14.0]), dim=-1)
    assert moved_spread == 0 and spread == pytest.approx(plain.mean().item())


def test_without_displacement_nothing_changes():
    same = _follow(P, bin_centres(P), P, P, P)[0].tolist()
    assert same == pytest.approx([1, 1, 0, 0, same[5], same[5], 0, 0, 0, 0], abs=1e-6)


def test_the_shipped_model_brings_its_regions_where_they_belong():
    found = measure_displacement(
        tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val"), min_iou=0.5, progress=False
    )
    assert found.proposals > 20
    assert found.moved_on_salient > found.grid_on_salient
    assert found.localization_centre_distance < found.centre_distance
    assert found.classification_centre_distance < found.centre_distance


def test_what_cannot_be_followed_is_said(tiny_config, tiny_data):
    sample, tiny = CocoDataset(SAMPLE, "val"), CocoDataset(tiny_data, "val")
    with pytest.raises(ValueError, match="'d_head' does not move its regions"):
        measure_displacement(build_detector(replace(tiny_config, head="d_head")), sample, progress=False)
    with pytest.raises(ValueError, match="salient_bbox"):
        measure_displacement(build_detector(replace(tiny_config, head="tsd")), tiny, progress=False)
    with pytest.raises(ValueError, match="no proposal overlaps"):
        model = build_detector(replace(tiny_config, head="tsd"))
        measure_displacement(model, sample, images=1, min_iou=1.1, progress=False)
