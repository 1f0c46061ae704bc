"""Displacements held against known places."""

from dataclasses import replace

import pytest
import torch

import tsdlab
from tsdlab.analysis.columns import COLUMNS, EDGES
from tsdlab.analysis.displacement import (
    ALL_LEVELS,
    decompose,
    displacements,
    follow,
    measure_displacement,
    tally_displacement,
)
from tsdlab.analysis.statistics import Tally
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.models.build import build_detector
from tsdlab.models.probe import trace
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import BranchTrace, DetectionTrace, RegionTrace

EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


# A trace by hand


def make_trace(proposals, levels, offsets, shift):
    """A trace of TSD with displacements given per proposal: ΔC [K, 2] for all bins alike, and ΔR [K, 2]."""
    count, size = len(proposals), proposals[:, 2:] - proposals[:, :2]
    by_bin = offsets[:, None, None].expand(count, 7, 7, 2)
    branch = BranchTrace(*(torch.zeros(count, 2, *rest) for rest in ((), (), (4,))))
    boxes = proposals + (shift * size).repeat(1, 2)
    regions = {
        "classification": RegionTrace(proposals, bin_centres(proposals, by_bin), by_bin, True),
        "localization": RegionTrace(boxes, bin_centres(boxes), shift[:, None, None].expand(count, 7, 7, 2), False),
    }
    return DetectionTrace(
        proposals, levels, {"tsd": branch}, regions,
        image_size=(128, 128), features={}, strides={}, proposal_scores=torch.ones(count), detections={},
    )  # fmt: skip


@pytest.fixture
def by_hand():
    """Three proposals on two objects, pooled from levels 0, 0 and 2, and one on nothing."""
    boxes = torch.tensor([[10.0, 10.0, 50.0, 30.0], [60.0, 60.0, 120.0, 120.0]])
    proposals = torch.stack([boxes[0], boxes[0] + 1, boxes[1], torch.tensor([0.0, 100.0, 20.0, 120.0])])
    offsets = torch.tensor([[0.1, 0.0], [0.3, 0.0], [0.0, 0.2], [9.0, 9.0]])
    shift = torch.tensor([[-0.1, 0.0], [-0.05, 0.0], [0.0, -0.02], [9.0, 9.0]])
    target = {"boxes": boxes, "labels": torch.tensor([3, 1])}
    return make_trace(proposals, torch.tensor([0, 0, 2, 0]), offsets, shift), target


def test_proposals_belong_to_the_object_they_overlap_most(by_hand):
    trace, target = by_hand
    found = follow(trace, target)
    assert found.objects.tolist() == [0, 0, 1] and found.labels.tolist() == [3, 3, 1]
    assert found.levels.tolist() == [0, 0, 2]
    torch.testing.assert_close(found.proposals, trace.proposals[:3])
    for task, region in found.regions.items():
        torch.testing.assert_close(region.points, trace.regions[task].points[:3])
        torch.testing.assert_close(region.moved, trace.regions[task].moved[:3])
    assert found.columns["classification_offset"].tolist() == pytest.approx([0.1, 0.3, 0.2])
    assert found.columns["classification_offset_px"].tolist() == pytest.approx([4, 12, 12], rel=1e-4)
    assert found.columns["towards_salient"].isnan().all()
    assert len(follow(trace, EMPTY).objects) == 0
    assert len(follow(trace, target, min_iou=0.95).objects) == 2


def test_a_proposal_belongs_to_an_object_from_an_iou_of_a_half_on():
    box = torch.tensor([[10.0, 10.0, 50.0, 30.0]])
    proposals = torch.tensor([[10.0, 10.0, 30.0, 30.0], [10.0, 10.0, 29.0, 30.0]])
    trace = make_trace(proposals, torch.zeros(2).long(), torch.zeros(2, 2), torch.zeros(2, 2))
    assert torch.equal(follow(trace, {"boxes": box, "labels": torch.tensor([1])}).proposals, proposals[:1])


def test_levels_field_and_directions_by_hand(by_hand):
    tally = Tally(10)
    tally.begin(0)
    tally_displacement(tally, follow(*by_hand), ("0", "1", "2"))
    found = displacements(tally).levels
    assert list(found) == [ALL_LEVELS, "0", "2"], "no proposal, no level"
    assert [level.proposals for level in found.values()] == [3, 2, 1]
    assert found["0"].means["classification_offset"].value == pytest.approx(0.2)
    assert found["2"].means["localization_offset"].value == pytest.approx(0.02, rel=1e-4)
    field = torch.tensor(found[ALL_LEVELS].field)
    torch.testing.assert_close(field, torch.tensor([0.4 / 3, 0.2 / 3]).expand(7, 7, 2))
    assert torch.tensor(found["2"].field)[3, 4].tolist() == pytest.approx([0.0, 0.2])
    assert torch.tensor(found["0"].localization_field)[6, 1].tolist() == pytest.approx([-0.075, 0.0])

    def bins(level, name):
        shares = found[level].distributions[name]
        assert len(shares) == len(EDGES[name]) - 1
        assert sum(share.value for share in shares) == pytest.approx(1)
        return {float(low): share.value for low, share in zip(EDGES[name], shares) if share.value}

    assert bins("0", "classification_direction") == {0.0: 1.0}, "to the right"
    assert bins("2", "classification_direction") == {90.0: 1.0}, "down"
    assert bins("0", "localization_direction") == {165.0: 1.0}, "to the left"
    assert bins("2", "localization_direction") == {-90.0: 1.0}, "up"
    offsets = bins(ALL_LEVELS, "classification_offset_px")
    assert sum(offsets.values()) == pytest.approx(1) and {round(low) for low in offsets} <= {3, 4, 11, 12}


def test_of_nothing_followed_there_are_no_displacements(by_hand):
    tally = Tally(10)
    tally.begin(0)
    trace, _ = by_hand
    tally_displacement(tally, follow(trace, EMPTY), ("0", "1", "2"))
    assert displacements(tally) is None and displacements(Tally(10)) is None


# Real models


def test_the_shipped_model_brings_its_regions_where_they_belong():
    dataset = CocoDataset(SAMPLE, "val")
    found = measure_displacement(tsdlab.load_detector("badges-tsd"), dataset, min_iou=0.5, progress=False)
    proposals = {name: level.proposals for name, level in found.levels.items()}
    whole = proposals.pop(ALL_LEVELS)
    assert whole > 20 and sum(proposals.values()) == whole and proposals.keys() <= {"0", "1", "2"}
    assert found.mean("moved_on_salient") > found.mean("grid_on_salient")
    assert found.mean("localization_centre_distance") < found.mean("centre_distance")
    assert found.mean("classification_centre_distance") < found.mean("centre_distance")
    assert found.mean("localization_heading") > 0
    for level, count in proposals.items():
        assert 0 < found.mean("classification_offset", level) < 0.5
        assert found.levels[level].means["localization_offset"].count == count
        for name, shares in found.levels[level].distributions.items():
            assert sum(share.value for share in shares) == pytest.approx(1), name


def test_salient_parts_that_nobody_marked_are_none(tiny_config, tiny_data):
    torch.manual_seed(0)
    model, tiny = build_detector(replace(tiny_config, head="tsd")), CocoDataset(tiny_data, "val")
    found = measure_displacement(model, tiny, min_iou=0.1, progress=False)
    assert found.mean("grid_on_salient") is found.mean("towards_salient") is None
    assert found.levels[ALL_LEVELS].means["moved_on_salient"].count == 0
    assert found.mean("classification_offset") >= 0 and found.levels[ALL_LEVELS].proposals > 0


def test_first_images_only(tiny_config, tiny_data):
    torch.manual_seed(0)
    model, tiny = build_detector(replace(tiny_config, head="tsd")), CocoDataset(tiny_data, "val")
    proposals = []
    for images in (2, 3, 100):
        found = measure_displacement(model, tiny, images=images, min_iou=0.1, progress=False)
        proposals.append(found.levels[ALL_LEVELS].proposals)
    assert proposals[0] < proposals[1] < proposals[2]


def test_what_cannot_be_followed_is_said(tiny_config):
    sample = CocoDataset(SAMPLE, "val")
    with pytest.raises(ValueError, match="'d_head' has no displacement to follow"):
        model = build_detector(replace(tiny_config, head="d_head", num_classes=6))
        measure_displacement(model, sample, progress=False)
    with pytest.raises(ValueError, match="no proposal overlaps"):
        model = build_detector(replace(tiny_config, head="tsd", num_classes=6))
        measure_displacement(model, sample, images=1, min_iou=1.1, progress=False)


def test_a_task_that_is_pooled_from_the_proposal_has_no_number(tiny_config, tiny_data):
    """Double-Head enlarges P for the box: every bin moves away from the centre, and the centre stays."""
    torch.manual_seed(0)
    double = replace(tiny_config, head="double", double=replace(tiny_config.double, box_scale=1.4))
    found = measure_displacement(build_detector(double), CocoDataset(tiny_data, "val"), min_iou=0.1, progress=False)
    whole = found.levels[ALL_LEVELS]
    assert found.tasks == ["localization"] and whole.field is None and whole.proposals > 0
    places = torch.linspace(-3, 3, 7) / 7  # of the bins around the centre, fractions of P's size
    y, x = torch.meshgrid(places, places, indexing="ij")
    expected = 0.4 * torch.stack([x, y], dim=-1)
    torch.testing.assert_close(torch.tensor(whole.localization_field), expected, atol=1e-4, rtol=0)
    assert found.mean("localization_offset") == pytest.approx(expected.norm(dim=-1).mean().item(), abs=1e-4)
    assert found.mean("localization_gain") == 0 and found.mean("localization_heading") is None
    assert found.mean("localization_centre_distance") == found.mean("centre_distance") > 0
    assert {name for name, column in COLUMNS.items() if column.role == "classification"} <= {
        name for name, mean in whole.means.items() if mean.value is None
    }
    assert all(share.value is None for share in whole.distributions["classification_offset"])
    assert all(share.value is None for share in whole.distributions["localization_direction"]), "no direction"


def test_bins_that_are_moved_for_the_box_are_followed(tiny_config):
    torch.manual_seed(0)
    bins = build_detector(replace(tiny_config, head="tsd", tsd=replace(tiny_config.tsd, localization_region="bins")))
    torch.nn.init.normal_(bins.roi_heads.head.localization_offset[-1].weight)
    found = trace(bins, torch.rand(3, 64, 64))
    proposal, region = found.proposals[:1], found.regions["localization"]
    size = proposal[:, 2:] - proposal[:, :2]
    way = 0.1 * size / size.norm() * region.translation[0].sign()
    target = {"boxes": proposal + way.repeat(1, 2), "labels": torch.tensor([1])}
    columns = follow(found, target, min_iou=0.6).columns
    assert columns["localization_offset"][0] == pytest.approx(region.moved[0].item(), rel=1e-3) != 0
    assert columns["localization_heading"][0] > 0 and columns["localization_gain"][0] > 0


def test_decomposition_by_hand():
    """Moves of length 3 in x with a sign per proposal, a fixed pattern of length 4 in y whose mean is zero, no rest."""
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    offsets = torch.zeros(4, 2, 2, 2)
    offsets[..., 0] = 3 * signs[:, None, None]
    offsets[..., 1] = torch.tensor([[4.0, -4.0], [-4.0, 4.0]])
    shift = torch.stack([signs / 2, torch.tensor([0.1, 0.2, -0.3, 0.0])], dim=1)
    found = decompose(offsets, shift)
    assert (found.translation, found.pattern, found.rest) == pytest.approx((9 / 25, 16 / 25, 0), abs=1e-6)
    assert found.translation_is_shift[0] == pytest.approx(1)
    offsets[0, ..., 1] += torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    assert decompose(offsets, shift).rest > 0
    with pytest.raises(ValueError, match="cannot split ΔC of"):
        decompose(torch.zeros(5, 2, 2, 2), torch.zeros(5, 2))
