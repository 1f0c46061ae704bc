"""Sensitivity maps of detectors whose answer is known at every place."""

import math
from dataclasses import replace

import pytest
import torch
from known_heads import (
    BOX,
    CLASSES,
    IMAGE,
    LABEL,
    STRIDES,
    Corners,
    Judge,
    Known,
    Levels,
    Plain,
    Spot,
    make_model,
)
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn, fasterrcnn_resnet50_fpn
from torchvision.ops import box_iou

from tsdlab.analysis.measures import ObjectMaps
from tsdlab.analysis.sensitivity import (
    Grid,
    ask_everywhere,
    build_maps,
    differentiate,
    gradient_maps,
    sensitivity_maps,
)
from tsdlab.config import HEADS
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe
from tsdlab.structures import Answer, BranchTrace

# Where the peaks are


@pytest.mark.parametrize("aggregation", ["mean", "max", "sum"])
@pytest.mark.parametrize("source", ["rpn", "slide"])
def test_each_task_peaks_where_it_is_answered_best(source, aggregation):
    spot, place = (48.0, 80.0), (80.0, 52.0)
    maps = sensitivity_maps(
        make_model(Spot(spot, place)), IMAGE, BOX, LABEL, source=source, sigma=0.1, aggregation=aggregation
    )
    assert list(maps.levels) == list(STRIDES)
    for level, stride in STRIDES.items():
        for task, where in (("classification", spot), ("localization", place)):
            off = maps.peak(level, "sibling", task) - torch.tensor(where)
            assert off.abs().max() <= stride + 1, (level, task, off)


def test_boxes_left_alone_are_best_where_the_object_is():
    maps = sensitivity_maps(make_model(Known()), IMAGE, BOX, LABEL, source="slide", aggregation="max")
    for level, stride in STRIDES.items():
        assert (maps.peak(level, "sibling", "localization") - torch.tensor([64.0, 68.0])).abs().max() <= stride / 2 + 1
    finest = maps.levels["0"]["sibling"].localization
    two_off = box_iou(BOX[None] + 2, BOX[None]).item()  # the nearest coordinates of stride 4 are at (66, 70), …
    assert finest.max().item() == pytest.approx(two_off, abs=0.01)


@pytest.mark.parametrize("source", ["rpn", "slide"])
def test_what_is_aligned_by_construction_measures_so(source):
    maps = sensitivity_maps(make_model(Judge()), IMAGE, BOX, LABEL, source=source)
    for level in STRIDES:
        pair = maps.levels[level]["sibling"]
        torch.testing.assert_close(pair.classification, pair.localization, atol=1e-4, rtol=0)
        found = ObjectMaps(pair, maps.grid, BOX, None)
        assert found.peak_distance() <= 1.5 / 64
        assert found.rank_correlation() > 0.999 and found.top_overlap() > 0.95


def test_tasks_that_look_from_opposite_sides_measure_apart():
    maps = sensitivity_maps(make_model(Spot((48.0, 68.0), (80.0, 68.0))), IMAGE, BOX, LABEL, source="slide")
    found = ObjectMaps(maps.levels["0"]["sibling"], maps.grid, BOX, None)
    assert found.peak_distance() == pytest.approx(0.5, abs=0.1)
    assert maps.peak_distance("0", "sibling") == pytest.approx(found.peak_distance())
    assert found.top_overlap() < 0.3 and found.rank_correlation() < 0.9
    maps.levels["0"]["sibling"].classification.fill_(0.3)
    assert maps.peak("0", "sibling", "classification").isnan().all() and math.isnan(maps.peak_distance("0", "sibling"))
    assert maps.peak("0", "sibling", "localization").isfinite().all()


# What a map's cells hold


def naive_map(answer, branch, box, label, grid, sigma, aggregation, task):
    """The recipe, one cell and one proposal at a time."""
    x1, y1, x2, y2 = grid.extent
    rows, columns = grid.shape
    said = answer.branches[branch]
    result = []
    for row in range(rows):
        y = y1 + (row + 0.5) * (y2 - y1) / rows
        for column in range(columns):
            x = x1 + (column + 0.5) * (x2 - x1) / columns
            weights, parts = [0.0], [0.0]
            for k, (left, top, right, bottom) in enumerate(answer.proposals.tolist()):
                if not (left <= x <= right and top <= y <= bottom and right > left and bottom > top):
                    continue
                dx, dy = (x - (left + right) / 2) / (right - left), (y - (top + bottom) / 2) / (bottom - top)
                s = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
                c = said.scores[k, label].item()
                if task == "localization":
                    c = box_iou(said.boxes[k, label][None].double(), box[None].double()).item()
                weights.append(s)
                parts.append(s * c)
            mean = sum(parts) / sum(weights) if sum(weights) else 0.0
            result.append({"mean": mean, "sum": sum(parts), "max": max(parts)}[aggregation])
    return torch.tensor(result).view(rows, columns)


def random_answer(count=70, seed=0):
    """Proposals anywhere, some without an area and some beside the image, and two branches' answers to them."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(*shape):
        corner = 140 * torch.rand(*shape, 2, generator=generator) - 20
        return torch.cat([corner, corner + 90 * torch.rand(*shape, 2, generator=generator)], dim=-1)

    proposals = boxes(count)
    if count:
        proposals[3, 2:] = proposals[3, :2]
        proposals[4, 2] = proposals[4, 0]
        proposals[5] = torch.tensor([300.0, 300.0, 350.0, 320.0])
        proposals[6] = 0.0
    branches = {}
    for name in ("sibling", "tsd"):
        logits = torch.randn(count, CLASSES, generator=generator)
        decoded = boxes(count, CLASSES)
        if count:
            decoded[0, LABEL] = BOX
            decoded[1, LABEL] = 0.0
        branches[name] = BranchTrace(logits, logits.softmax(dim=1), decoded)
    return Answer(proposals, torch.zeros(count, dtype=torch.int64), branches, {})


@pytest.mark.parametrize("sigma", [1 / 6, 0.3])
@pytest.mark.parametrize("aggregation", ["mean", "max", "sum"])
def test_maps_are_those_of_a_loop_over_proposals(aggregation, sigma):
    answer = random_answer()
    for grid in (Grid.over_image((90, 120), 12), Grid((20.0, 30.0, 71.0, 50.0), (5, 8))):
        maps = build_maps({"0": answer}, BOX, LABEL, grid, sigma, aggregation)
        for branch in ("sibling", "tsd"):
            for task in ("classification", "localization"):
                found = getattr(maps.levels["0"][branch], task)
                expected = naive_map(answer, branch, BOX, LABEL, grid, sigma, aggregation, task)
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
                if aggregation != "sum":
                    assert found.min() >= 0 and found.max() <= 1 + 1e-6


def test_the_sum_of_one_proposal_is_a_gaussian():
    answer = random_answer(1 + 9)
    one = Answer(torch.tensor([[20.0, 40.0, 80.0, 70.0]]), answer.levels[:1], {
        "sibling": BranchTrace(*(t[:1] for t in vars(answer.branches["sibling"]).values()))
    }, {})  # fmt: skip
    grid = Grid((0.0, 0.0, 101.0, 101.0), (101, 101))  # cell i is centred at i + ½
    score = one.branches["sibling"].scores[0, LABEL].item()
    found = build_maps({"0": one}, BOX, LABEL, grid, 0.25, "sum").levels["0"]["sibling"].classification / score
    row, column = 54, 49  # (49.5, 54.5), half a pixel from the centre
    assert found[row, column].item() == pytest.approx(math.exp(-8 * ((0.5 / 60) ** 2 + (0.5 / 30) ** 2)), rel=1e-5)
    assert found[row, column + 15].item() == pytest.approx(
        math.exp(-8 * ((14.5 / 60) ** 2 + (0.5 / 30) ** 2)), rel=1e-5
    )
    inside = torch.zeros(101, 101, dtype=torch.bool)
    inside[40:70, 20:80] = True
    assert (found[inside] > 0).all() and (found[~inside] == 0).all()
    mean = build_maps({"0": one}, BOX, LABEL, grid).levels["0"]["sibling"].classification
    torch.testing.assert_close(mean[inside], torch.full((1800,), score))


def test_unless_asked_otherwise_three_sigma_reach_the_edge_of_a_proposal():
    one = Answer(BOX[None] * 1.0, torch.zeros(1, dtype=torch.int64), {
        "sibling": BranchTrace(torch.zeros(1, CLASSES), torch.ones(1, CLASSES), BOX.repeat(1, CLASSES, 1))
    }, {})  # fmt: skip
    _, top, right, bottom = BOX.tolist()
    middle_of_edge = Grid((right - 0.002, top, right, bottom), (1, 1))
    found = build_maps({"0": one}, BOX, LABEL, middle_of_edge, aggregation="sum").levels["0"]["sibling"]
    assert found.classification.item() == pytest.approx(math.exp(-(3**2) / 2), rel=1e-3)


def test_unless_asked_otherwise_maps_are_the_papers():
    """The RPN's proposals, pooled as the detector does, and the mean with three sigma to the edge."""
    model = make_model(Levels())

    def maps(**arguments):
        return sensitivity_maps(model, IMAGE, BOX, LABEL, **arguments).levels["2"]["sibling"].classification

    papers = {"source": "rpn", "pooling": "assigned", "sigma": 1 / 6, "aggregation": "mean", "cells": 128}
    default = maps()
    assert torch.equal(default, maps(**papers))
    for other in ({"source": "slide"}, {"pooling": "level"}, {"sigma": 0.2}, {"aggregation": "max"}, {"cells": 64}):
        found = maps(**{**papers, **other})
        assert found.shape != default.shape or not torch.equal(found, default), other


@pytest.mark.parametrize("aggregation", ["mean", "max", "sum"])
def test_without_a_proposal_a_map_is_zero(aggregation):
    grid = Grid.over_image((90, 120), 12)
    for maps in (
        build_maps({"0": random_answer(0)}, BOX, LABEL, grid, aggregation=aggregation),
        build_maps({"0": random_answer()}, BOX, LABEL, grid, aggregation=aggregation, min_iou=1.0),
    ):
        assert (maps.levels["0"]["tsd"].localization == 0).all()


def test_proposals_far_from_the_object_can_be_left_out():
    answer, grid = random_answer(), Grid.over_image((90, 120), 12)
    near = box_iou(answer.proposals, BOX[None])[:, 0] >= 0.1
    assert 0 < near.sum() < len(near)
    part = Answer(answer.proposals[near], answer.levels[near], {
        name: BranchTrace(*(t[near] for t in vars(b).values())) for name, b in answer.branches.items()
    }, {})  # fmt: skip
    expected = build_maps({"0": part}, BOX, LABEL, grid).levels["0"]["tsd"]
    found = build_maps({"0": answer}, BOX, LABEL, grid, min_iou=0.1).levels["0"]["tsd"]
    torch.testing.assert_close(found.classification, expected.classification)
    torch.testing.assert_close(found.localization, expected.localization)


def test_grids_cover_the_image_in_square_cells():
    assert Grid.over_image((100, 200), 50) == Grid((0.0, 0.0, 200, 100), (25, 50))
    assert Grid.over_image((30, 20), 128).shape == (30, 20)
    ys, xs = Grid((10.0, 20.0, 14.0, 23.0), (3, 2)).axes()
    assert ys.tolist() == [20.5, 21.5, 22.5] and xs.tolist() == [11.0, 13.0]
    maps = sensitivity_maps(make_model(Known()), torch.rand(3, 72, 120), BOX * 0.6, LABEL, cells=40)
    assert {m.classification.shape for b in maps.levels.values() for m in b.values()} == {(24, 40)}


# Where features come from


def test_assigned_pools_from_the_level_of_a_proposals_size():
    model = make_model(Levels(), Plain())
    probe = Probe(model, IMAGE)
    for level, answer in ask_everywhere(probe).items():
        torch.testing.assert_close(answer.detection.scores[:, LABEL], 0.1 * (answer.levels + 1), atol=1e-5, rtol=0)
        scheme = model.roi_heads.pooler
        torch.testing.assert_close(answer.levels, scheme.assign_levels(answer.proposals))
        assert level in STRIDES


def test_level_pools_from_the_level_that_is_drawn():
    maps = sensitivity_maps(make_model(Levels(), Plain()), IMAGE, BOX, LABEL, pooling="level")
    assert list(maps.levels) == ["0", "1", "2"], "nothing is pooled from the RPN's extra level"
    for i, branches in enumerate(maps.levels.values(), 1):
        values = branches["sibling"].classification
        assert values.median().item() == pytest.approx(0.1 * i, abs=1e-5)
        covered = values > 0
        torch.testing.assert_close(values[covered], torch.full_like(values[covered], 0.1 * i), atol=1e-5, rtol=0)


# Gradients


@pytest.mark.parametrize("level", ["0", "1", "2"])
def test_gradients_are_where_the_head_looks(level):
    probe = Probe(make_model(Corners()), IMAGE)
    grid = Grid.over_image(probe.image_size)
    pair = differentiate(probe, BOX, LABEL, grid, "level", proposals=BOX[None] + 4).levels[level]["sibling"]
    ys, xs = grid.axes()
    size, reach = 64 / 7, 2 * STRIDES[level]  # bilinear taps reach one cell further, and so does drawing them
    for values, corner in ((pair.classification, BOX[:2] + 4), (pair.localization, BOX[2:] + 4 - size)):
        assert values.sum() > 0
        (x, y), total = (corner + size / 2).tolist(), values.sum()
        centre = (values.sum(0) @ xs / total).item(), (values.sum(1) @ ys / total).item()
        assert centre == pytest.approx((x, y), abs=STRIDES[level] / 4)
        far = (ys - y).abs()[:, None].maximum((xs - x).abs()[None]) > size / 2 + reach
        assert far.any() and (values[far] == 0).all()


def test_levels_without_a_proposal_have_no_gradient():
    probe = Probe(make_model(Corners()), IMAGE)
    grid = Grid.over_image(probe.image_size)
    levels = differentiate(probe, BOX, LABEL, grid, proposals=BOX[None] + 4).levels
    total = {name: pair["sibling"].classification.sum().item() for name, pair in levels.items()}
    assert total["1"] > 0 and total["0"] == total["2"] == 0, "a box of 64 px is pooled from the second level"
    torch.testing.assert_close(
        levels["1"]["sibling"].classification,
        differentiate(probe, BOX, LABEL, grid, "level", BOX[None] + 4).levels["1"]["sibling"].classification,
    )


def test_gradient_is_the_derivative_of_the_mean_answer():
    """A nudge of one feature cell changes the score's log-odds by what the map says of its place."""
    probe = Probe(make_model(Corners()), IMAGE)
    feature = probe.features["1"]
    proposals = torch.stack([BOX, BOX + 4])
    side = feature.shape[-1]
    grid = Grid((0.0, 0.0, 128.0, 128.0), (side, side))  # one cell of the map for each of the level's
    found = differentiate(probe, BOX, LABEL, grid, proposals=proposals).levels["1"]["sibling"].classification

    def log_odds(features):
        logits = probe.answer(proposals, features={**probe.features, "1": features}).detection.logits
        return torch.special.logit(logits.double().softmax(dim=1)[:, LABEL]).mean()

    row, column = divmod(int(found.argmax()), side)
    changes = []
    for channel in range(feature.shape[1]):
        step = torch.zeros_like(feature)
        step[0, channel, row, column] = 1.0  # the head is linear
        changes.append(log_odds(feature + step) - log_odds(feature))
    assert found.max().item() == pytest.approx(torch.stack(changes).norm().item(), rel=1e-3)


def test_gradients_of_an_object_that_is_not_proposed_are_of_its_own_box():
    probe = Probe(make_model(Corners()), IMAGE)
    grid = Grid.over_image(probe.image_size)
    far = differentiate(probe, BOX, LABEL, grid, proposals=torch.tensor([[0.0, 0.0, 9.0, 9.0]]))
    own = differentiate(probe, BOX, LABEL, grid, proposals=BOX[None])
    torch.testing.assert_close(far.levels["1"]["sibling"].classification, own.levels["1"]["sibling"].classification)


def test_proposals_from_an_iou_of_a_half_on_belong_to_the_object():
    probe = Probe(make_model(Corners()), IMAGE)
    grid = Grid.over_image(probe.image_size, 32)
    x1, y1, x2, y2 = BOX.tolist()
    half = torch.tensor([x1, y1, (x1 + x2) / 2, y2])
    less = half - torch.tensor([0.0, 0.0, 1.0, 0.0])
    both, alone, own = (
        differentiate(probe, BOX, LABEL, grid, proposals=torch.stack(proposals)).levels["1"]["sibling"].classification
        for proposals in ([half, less], [half], [BOX])
    )
    torch.testing.assert_close(both, alone)
    assert not torch.allclose(alone, own)


def test_gradient_maps_asks_the_rpns_proposals():
    model = make_model(Corners())
    probe = Probe(model, IMAGE)
    expected = differentiate(probe, BOX, LABEL, Grid.over_image((128, 128), 32), proposals=probe.propose()[0])
    found = gradient_maps(model, IMAGE, BOX, LABEL, cells=32)
    for level in ("0", "1", "2"):
        torch.testing.assert_close(
            found.levels[level]["sibling"].classification, expected.levels[level]["sibling"].classification
        )
    assert all(parameter.grad is None for parameter in model.parameters())


# Any detector


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_maps(head, tiny_config):
    torch.manual_seed(0)
    model = build_detector(replace(tiny_config, head=head)).train()
    for make in (sensitivity_maps, gradient_maps):
        maps = make(model, IMAGE[:, :64, :64], BOX / 2, LABEL, cells=16)
        for branches in maps.levels.values():
            assert list(branches)[-1] == head
            for pair in branches.values():
                assert pair.classification.isfinite().all() and pair.localization.isfinite().all()
    assert model.training and model.roi_heads.training


@pytest.mark.parametrize("build", [fasterrcnn_resnet50_fpn, fasterrcnn_mobilenet_v3_large_320_fpn])
def test_detectors_of_torchvision_have_maps_of_every_level(build):
    model = build(weights=None, weights_backbone=None, num_classes=4, min_size=64, max_size=64).train()
    for parameter in (*model.rpn.parameters(), *model.roi_heads.box_predictor.parameters()):
        nn.init.zeros_(parameter)  # anchors as they are, four classes as likely as each other
    maps = sensitivity_maps(model, IMAGE[:, :48, :64], torch.tensor([4.0, 4.0, 50.0, 40.0]), LABEL, cells=16)
    names = ["0", "1", "2", "3", "pool"] if build is fasterrcnn_resnet50_fpn else ["0", "1", "pool"]
    assert list(maps.levels) == names
    for branches in maps.levels.values():
        pair = branches["sibling"]
        covered = pair.classification > 0
        torch.testing.assert_close(pair.classification[covered], torch.full((int(covered.sum()),), 0.25))
        assert covered.any()
        assert pair.localization.isfinite().all() and pair.localization.min() >= 0 and pair.localization.max() < 1
    assert maps.levels["0"]["sibling"].localization.max() > 0
    assert model.training


# Wrong arguments


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"source": "anchors"}, "source must be one of rpn, slide; got 'anchors'"),
        ({"pooling": "all"}, "pooling must be one of assigned, level; got 'all'"),
        ({"pooling": "all", "source": "slide"}, "pooling must be one of assigned, level; got 'all'"),
        ({"aggregation": "median"}, "aggregation must be one of mean, max, sum; got 'median'"),
        ({"sigma": 0.0}, r"sigma must be positive, got 0\.0"),
        ({"cells": 0}, "cells must be at least 1, got 0"),
        ({"label": 0}, "label must be 1…6, got 0"),
        ({"label": 7}, "label must be 1…6, got 7"),
        ({"box": BOX[None]}, r"box must be \[4\] xyxy, got \(1, 4\)"),
        ({"box": BOX + 200}, r"box \[232\.0, .* has no area on the image of 128×128"),
        ({"box": BOX[[2, 3, 0, 1]]}, "box .* has no area"),
        ({"box": BOX * math.nan}, r"box \[nan, .* has no area"),
        ({"image": IMAGE[:2]}, r"image must be \[3, H, W\], got \(2, 128, 128\)"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    arguments = {"image": IMAGE, "box": BOX, "label": LABEL} | wrong
    with pytest.raises(ValueError, match=message):
        sensitivity_maps(make_model(), **arguments)
    if wrong.keys().isdisjoint({"source", "aggregation", "sigma"}):
        with pytest.raises(ValueError, match=message):
            gradient_maps(make_model(), **arguments)
