"""Numbers of maps, of scores against boxes and of NMS, held against what a hand can count."""

import json
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr

from tsdlab.analysis.analyze import Analysis, observe
from tsdlab.analysis.displacement import displacements
from tsdlab.analysis.measures import AGREEMENT, MEASURES, ObjectMaps
from tsdlab.analysis.misalignment import (
    IOU_EDGES,
    _tally_agreement,
    _tally_proposals,
    _tally_survival,
    misalignment,
    tally_misalignment,
    window,
)
from tsdlab.analysis.sensitivity import Grid, ask_everywhere, build_maps, differentiate
from tsdlab.analysis.statistics import Tally
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe
from tsdlab.structures import BranchTrace, DetectionTrace

BOX = torch.tensor([40.0, 30.0, 90.0, 110.0])  # 50 wide, 80 high
LABEL = 1


def test_window_is_half_as_large_again_as_the_object():
    assert window(BOX, (128, 140)) == Grid((27.5, 10.0, 102.5, 128.0), (32, 32)), "cut at the image's border"
    assert window(BOX, (500, 500)).extent == (27.5, 10.0, 102.5, 130.0)
    assert window(torch.tensor([0.0, 0.0, 20.0, 10.0]), (128, 128)).extent == (0.0, 0.0, 25.0, 12.5)


# Scores against boxes


def make_trace(proposals, score, boxes, name="tsd"):
    """A trace of one branch that scores class 1 and decodes `boxes` for it."""
    count = len(proposals)
    scores, decoded = torch.zeros(count, 3), torch.zeros(count, 3, 4)
    scores[:, LABEL], decoded[:, LABEL] = torch.tensor(score), boxes
    branch = BranchTrace(scores, scores, decoded)
    return DetectionTrace(
        proposals, torch.zeros(count, dtype=torch.int64), {name: branch}, {},
        image_size=(128, 128), features={}, strides={}, proposal_scores=torch.zeros(count), detections={},
    )  # fmt: skip


def narrowed(*shares):
    """Boxes of BOX's height and a share of its width: their IoU with BOX is the share."""
    return torch.stack([torch.tensor([40.0, 30.0, 40.0 + 50 * share, 110.0]) for share in shares])


def test_agreement_by_hand():
    tally = Tally(0)
    tally.begin(0)
    iou, score = [0.9, 0.8, 0.7, 0.6, 0.95], [0.2, 0.9, 0.4, 0.1, 0.3]
    near = torch.cat([BOX.expand(4, 4), narrowed(0.5)])
    far = narrowed(0.49)  # overlaps too little to count, however good its box
    trace = make_trace(torch.cat([near, far]), [*score, 1.0], torch.cat([narrowed(*iou), BOX[None]]))
    _tally_agreement(tally, trace, BOX, LABEL)
    found = misalignment(tally).agreement["tsd"]
    assert found.keys() == AGREEMENT.keys()
    expected = {
        "best_iou": 0.95,
        "iou_of_best_score": 0.8,
        "gap": 0.15,
        "spearman": spearmanr(iou, score).statistic,
        "spearman_within": spearmanr(iou, score).statistic,
        "pearson": torch.corrcoef(torch.tensor([iou, score]))[0, 1].item(),
    }
    assert {name: e.value for name, e in found.items()} == pytest.approx(expected, abs=1e-5)
    assert found["pearson"].count == 5 and found["gap"].count == 1


def test_objects_without_proposals_do_not_count_and_few_have_no_rank_correlation():
    tally = Tally(0)
    tally.begin(0)
    trace = make_trace(BOX.expand(4, 4), [0.1, 0.2, 0.3, 0.4], narrowed(0.6, 0.7, 0.8, 0.9))
    _tally_agreement(tally, trace, torch.tensor([0.0, 0.0, 20.0, 20.0]), LABEL)
    assert misalignment(tally).agreement == {}
    _tally_agreement(tally, trace, BOX, LABEL)
    found = misalignment(tally).agreement["tsd"]
    assert found["best_iou"].value == pytest.approx(0.9) and found["gap"].value == 0
    assert found["spearman_within"].value is None and found["spearman"].value == pytest.approx(1)


def test_proposals_of_a_level_are_those_that_overlap_an_object_by_half():
    tally = Tally(0)
    tally.begin(0)
    shares = narrowed(1.0, 0.5, 0.49, 0.8, 0.2)
    trace = replace(make_trace(shares, [0.0] * 5, shares), levels=torch.tensor([0, 1, 1, 1, 2]))
    both = torch.stack([BOX, BOX])  # a proposal that overlaps two objects counts once
    _tally_proposals(tally, ("0", "1", "2", "3"), trace, both)
    _tally_proposals(tally, ("0", "1", "2", "3"), trace, torch.empty(0, 4))
    assert misalignment(tally).proposals == {"0": 1, "1": 2, "2": 0, "3": 0}


# What NMS keeps


def test_survival_by_hand():
    """Of three boxes on one object NMS keeps the best scored, of IoU 0.72; another object's only box is kept."""
    other = torch.tensor([100.0, 0.0, 120.0, 20.0])
    boxes = torch.cat([narrowed(0.98, 0.72, 0.78, 0.3), other[None], torch.tensor([[0.0, 0, 9, 9]])])
    score = [0.5, 0.9, 0.3, 0.99, 0.4, 0.8]  # the fourth overlaps the second by 0.42 only, and hides none
    trace = make_trace(torch.zeros(6, 4), score, boxes)
    tally = Tally(0)
    tally.begin(0)
    _tally_survival(tally, "tsd", trace.branches["tsd"], torch.stack([BOX, other]), [LABEL, LABEL], 0.5)
    found = misalignment(tally).survival["tsd"]
    assert len(found) == len(IOU_EDGES) - 1 == 10
    by_bin = {round(float(low), 2): (e.value, e.count) for low, e in zip(IOU_EDGES, found) if e.count}
    assert by_bin == {0.7: (1.0, 1), 0.75: (0.0, 1), 0.95: (0.5, 2)}
    assert all(e.value is None for e in found if not e.count)


def test_survival_counts_boxes_of_the_objects_class_only():
    trace = make_trace(torch.zeros(2, 4), [0.5, 0.9], narrowed(0.98, 0.72))
    tally = Tally(0)
    tally.begin(0)
    _tally_survival(tally, "tsd", trace.branches["tsd"], BOX[None], [2], 0.5)
    _tally_survival(tally, "tsd", trace.branches["tsd"], torch.zeros(0, 4), [], 0.5)
    assert all(e.value is None and e.count == 0 for e in misalignment(tally).survival["tsd"])


# Awkward images


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        [[0.0, 0.0, 3.0, 2.0]],  # smaller than a cell of any level, in the corner
        [[50.5, 20.25, 51.0, 20.75]],  # smaller than a pixel
        [[0.0, 0.0, 64.0, 64.0]],  # the image
        [[30.0, 40.0, 64.0, 64.0], [30.0, 40.0, 64.0, 64.0]],  # at the border, twice
        [[-8.0, 10.0, 30.0, 90.0]],  # reaches beyond it
    ],
)
def test_awkward_objects_leave_no_nan(tiny_config, boxes):
    torch.manual_seed(0)
    boxes = torch.tensor(boxes).view(-1, 4)
    target = {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "salient_boxes": boxes.clone()}
    tally = Tally(20)
    for i, image in enumerate((torch.rand(3, 64, 64), torch.zeros(3, 64, 64))):
        tally.begin(i)
        observe(tally, Probe(build_detector(tiny_config), image), target)
    report = Analysis(misalignment(tally), displacements(tally))
    text = json.dumps(report.as_dict(), allow_nan=False)
    found = report.misalignment
    assert (found.images, found.objects) == (2, 2 * len(boxes)) and text
    assert (found.maps == {}) == (len(boxes) == 0)
    assert found.moved.keys() == found.maps.keys()


def test_maps_are_measured_in_the_objects_window_from_the_proposals_near_it(tiny_config):
    torch.manual_seed(0)
    image, box = torch.rand(3, 64, 64), torch.tensor([10.0, 12.0, 40.0, 50.0])
    config = replace(tiny_config, roi=replace(tiny_config.roi, nms_thresh=0.8))
    probe, tally = Probe(build_detector(config), image), Tally(0)
    trace = probe.trace(box + 4 * torch.randn(20, 4))
    tally.begin(0)
    tally_misalignment(tally, probe, trace, {"boxes": box[None], "labels": torch.tensor([LABEL])})
    grid = Grid((2.5, 2.5, 47.5, 59.5), (32, 32))  # 1.5 times 30 × 38
    expected = {
        "proposals": build_maps(ask_everywhere(probe), box, LABEL, grid, 1 / 6, "mean", min_iou=0.1),
        "gradients": differentiate(probe, box, LABEL, grid, "assigned", trace.proposals),
    }
    for method, maps in expected.items():
        for level, branches in maps.levels.items():
            for branch, pair in branches.items():
                found = misalignment(tally).maps[method][level][branch]
                for name, measure in MEASURES.items():
                    value = found[name].value
                    hand = measure.compute(ObjectMaps(pair, grid, box, None))
                    assert hand == pytest.approx(math.nan if value is None else value, nan_ok=True), (level, name)
    survival = []
    for threshold in (0.8, 0.5):
        by_hand = Tally(0)
        by_hand.begin(0)
        _tally_survival(by_hand, "tsd", trace.branches["tsd"], box[None], [LABEL], threshold)
        survival.append(misalignment(by_hand).survival["tsd"])
    assert misalignment(tally).survival["tsd"] == survival[0] != survival[1]


def test_what_tsd_moves_is_the_difference_to_its_sibling(tiny_config):
    torch.manual_seed(0)
    tally, model = Tally(20), build_detector(tiny_config)
    for i in range(3):
        image, box = torch.rand(3, 64, 64), torch.tensor([[10.0, 12.0, 40.0, 50.0]])
        tally.begin(i)
        probe = Probe(model, image)
        tally_misalignment(tally, probe, probe.trace(), {"boxes": box, "labels": torch.tensor([1])})
    found = misalignment(tally)
    assert list(found.maps) == ["proposals", "gradients"] and list(found.agreement) in ([], ["sibling", "tsd"])
    assert list(found.survival) == ["sibling", "tsd"]
    for method, levels in found.maps.items():
        assert list(levels) == (["0", "1", "pool"] if method == "proposals" else ["0", "1"])
        for level, branches in levels.items():
            assert list(branches) == ["sibling", "tsd"]
            for measure in MEASURES:
                ours, sibling = branches["tsd"][measure], branches["sibling"][measure]
                moved = found.moved[method][level][measure]
                if moved.value is None:
                    assert 0 in (ours.count, sibling.count)
                else:
                    assert moved.value == pytest.approx(ours.value - sibling.value, abs=1e-9)
