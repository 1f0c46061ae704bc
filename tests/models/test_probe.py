"""A trace says what the model did, in the pixels of the image it was given."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.ops import clip_boxes_to_image

from tsdlab.config import HEADS
from tsdlab.errors import InputError
from tsdlab.models.build import as_detector, build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.probe import Probe, trace
from tsdlab.presets import PRESETS

TINY = PRESETS["badges-tiny"]


def make_model(head="tsd"):
    torch.manual_seed(0)
    model = build_detector(replace(TINY, head=head, roi=replace(TINY.roi, score_thresh=0.1)))
    for name, parameter in model.named_parameters():
        if "offset" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.mark.parametrize("head", HEADS)
def test_trace_repeats_the_models_detections(head):
    model = make_model(head)
    image = torch.rand(3, 96, 160)  # resized on its way in
    with torch.no_grad():
        expected = model([image])[0]
    found = trace(model, image)
    for key in ("boxes", "labels", "scores"):
        torch.testing.assert_close(found.detections[key], expected[key], rtol=1e-4, atol=1e-3)
    assert list(found.branches)[-1] == head and found.detection is found.branches[head]
    assert found.sibling is found.branches.get("sibling")


def test_trace_is_in_original_pixels():
    model, image = make_model(), torch.rand(3, 64, 64)
    found = trace(model, image)
    doubled = trace(model, torch.nn.functional.interpolate(image[None], scale_factor=2.0, mode="bilinear")[0])
    assert found.image_size == (64, 64)
    assert found.strides["0"] == (2.0, 2.0) and doubled.strides["0"] == (4.0, 4.0)
    torch.testing.assert_close(found.proposals * 2, doubled.proposals, rtol=1e-3, atol=0.1)
    assert found.proposals.max() <= 64


def test_given_proposals_are_those_of_the_trace():
    proposals = torch.tensor([[10.0, 20.0, 50.0, 60.0]])
    found = trace(make_model(), torch.rand(3, 128, 128), proposals)
    torch.testing.assert_close(found.proposals, proposals)
    assert found.proposal_scores.isnan().all()


def test_proposals_come_best_first_with_their_scores():
    found = trace(make_model(), torch.rand(3, 128, 128))
    assert len(found.proposals) == len(found.proposal_scores) > 10
    assert (found.proposal_scores.diff() <= 1e-6).all()
    assert ((found.proposal_scores >= 0) & (found.proposal_scores <= 1)).all()


def test_a_trace_can_be_changed_and_differentiated():
    found = trace(make_model(), torch.rand(3, 128, 128))
    found.proposals[0] += 1
    weight = torch.ones((), requires_grad=True)
    (found.features["0"] * weight).sum().backward()
    assert weight.grad.isfinite()


def test_training_mode_is_restored():
    model = make_model().train()
    trace(model, torch.rand(3, 128, 128))
    assert model.training


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"image must be \[3, H, W\], got \(2, 8, 8\)"):
        trace(make_model(), torch.rand(2, 8, 8))
    with pytest.raises(ValueError, match=r"proposals must be \[K, 4\] xyxy, got \(4,\)"):
        trace(make_model(), torch.rand(3, 8, 8), torch.zeros(4))
    with pytest.raises(InputError, match=r"proposals must be numbers \[K, 4\] xyxy, got \[\[1, 2, 3\], \[4\]\]"):
        trace(make_model(), torch.rand(3, 8, 8), [[1, 2, 3], [4]])
    with pytest.raises(InputError, match=r"image must hold floating-point numbers in 0…1, got 0 to 255; divide it"):
        trace(make_model(), torch.linspace(0, 255, 192).view(3, 8, 8))
    with pytest.raises(InputError, match=r"image must be \[3, H, W\], got \(3, 0, 8\)"):
        trace(make_model(), torch.zeros(3, 0, 8))


def test_an_image_may_have_another_precision_than_the_model():
    image = torch.rand(3, 128, 128)
    assert torch.equal(trace(model := make_model(), image.double()).proposals, trace(model, image).proposals)


# Probe


def ask_same(a, b):
    """Two answers are equal."""
    torch.testing.assert_close(a.proposals, b.proposals)
    assert torch.equal(a.levels, b.levels) and a.branches.keys() == b.branches.keys()
    for name, branch in a.branches.items():
        torch.testing.assert_close(vars(branch), vars(b.branches[name]), rtol=1e-4, atol=1e-4)
    assert a.regions.keys() == b.regions.keys()
    for task, region in a.regions.items():
        torch.testing.assert_close(vars(region), vars(b.regions[task]), rtol=1e-4, atol=1e-4)


BOXES = torch.tensor([[10.0, 20.0, 50.0, 60.0], [0.0, 0.0, 96.0, 90.0], [70.0, 30.0, 90.0, 40.0], [5.0, 5.0, 5.0, 5.0]])


@pytest.mark.parametrize("head", HEADS)
def test_asking_again_gives_the_same(head):
    probe = Probe(make_model(head), torch.rand(3, 96, 160))
    once = probe.ask(BOXES)
    probe.propose(), probe.propose_everywhere(), probe.trace()
    ask_same(probe.ask(BOXES), once)
    assert all(branch.boxes.isfinite().all() for branch in once.branches.values())


@pytest.mark.parametrize("head", HEADS)
def test_a_level_that_is_named_is_pooled_from_by_every_head(head):
    """All boxes of one level give the same as assigned to it, and other levels something else."""
    probe = Probe(make_model(head), torch.rand(3, 128, 128))
    boxes = probe.propose()[0]
    assigned = probe.ask(boxes)
    for i, level in enumerate(probe.pooled):
        named, own = probe.ask(boxes, level), assigned.levels == i
        assert (named.levels == i).all()
        for name, branch in named.branches.items():
            same = assigned.branches[name]
            torch.testing.assert_close(branch.logits[own], same.logits[own], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(branch.boxes[own], same.boxes[own], rtol=1e-3, atol=1e-2)
            if (~own).any():
                assert (branch.logits[~own] - same.logits[~own]).abs().amax(dim=1).min() > 1e-6
                assert not torch.allclose(branch.boxes[~own], same.boxes[~own], atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_more_boxes_than_are_answered_at_a_time(head, monkeypatch):
    probe = Probe(make_model(head), torch.rand(3, 128, 128))
    boxes = torch.cat([BOXES] * 3)[:11]
    whole, none = probe.ask(boxes), probe.ask(boxes[:0])
    monkeypatch.setattr("tsdlab.models.probe._CHUNK", 3)
    ask_same(probe.ask(boxes), whole)
    assert len(none.proposals) == 0 and none.detection.boxes.shape == (0, 7, 4)


@pytest.mark.parametrize(
    ("fields", "branches", "deformed"),
    [
        ({}, ["sibling", "tsd"], {"classification": True, "localization": False}),
        (
            {"joint_sibling": False, "progressive_constraint": False},
            ["tsd"],
            {"classification": True, "localization": False},
        ),
        ({"localization_region": "bins"}, ["sibling", "tsd"], {"classification": True, "localization": True}),
    ],
    ids=str,
)
def test_what_a_tsd_answers_with(fields, branches, deformed):
    model = build_detector(replace(TINY, tsd=replace(TINY.tsd, **fields)))
    found = Probe(model, torch.rand(3, 128, 128)).ask(BOXES)
    assert list(found.branches) == branches
    assert {task: region.deformed for task, region in found.regions.items()} == deformed


def test_a_head_that_moves_nothing_answers_alone():
    found = Probe(make_model("sibling"), torch.rand(3, 128, 128)).ask(BOXES)
    assert list(found.branches) == ["sibling"] and found.regions == {}


@pytest.mark.parametrize("head", HEADS)
def test_each_box_may_have_its_own_level(head, monkeypatch):
    probe = Probe(make_model(head), torch.rand(3, 128, 128))
    one = BOXES[:1].expand(3, 4)
    monkeypatch.setattr("tsdlab.models.probe._CHUNK", 2)  # the names are split as the boxes are
    together = probe.ask(one, ["2", "0", "1"])
    assert together.levels.tolist() == [2, 0, 1]
    for i, level in enumerate(["2", "0", "1"]):
        alone = probe.ask(BOXES[:1], level).detection
        torch.testing.assert_close(together.detection.logits[i], alone.logits[0], rtol=1e-4, atol=1e-4)
    assert probe.level_of(BOXES[0]) == probe.pooled[probe.ask(BOXES[:1]).levels[0]]
    with pytest.raises(ValueError, match="levels for 2 RoIs, got 1 RoIs"):
        probe.answer(BOXES[:1], ["0", "1"])


def every_anchors_proposal(probe):
    """Level by level what each anchor makes: boxes [h, w, anchors, 4], original pixels, and logits [h, w, anchors]."""
    rpn, maps = probe.model.rpn, list(probe.features.values())
    (height, width), (seen_height, seen_width) = probe.image_size, probe._images.image_sizes[0]
    zoom = torch.tensor([width / seen_width, height / seen_height] * 2)
    with torch.no_grad():
        objectness, deltas = rpn.head(maps)
        anchors = rpn.anchor_generator(probe._images, maps)[0]
        for logits, delta in zip(objectness, deltas):
            count, h, w = logits.shape[1:]
            own, anchors = anchors[: h * w * count], anchors[h * w * count :]
            delta = delta[0].view(count, 4, h, w).permute(2, 3, 0, 1)  # [h, w, anchors, 4]
            boxes = rpn.box_coder.decode_single(delta.reshape(-1, 4), own)
            boxes = clip_boxes_to_image(boxes, (seen_height, seen_width)) * zoom
            yield boxes.view(h, w, count, 4), logits[0].permute(1, 2, 0)


def test_every_coordinate_has_its_likeliest_anchors_proposal():
    """What the RPN keeps is, wherever a place's likeliest anchor made it, the proposal of that place."""
    probe = Probe(make_model(), torch.rand(3, 96, 160))
    found, kept = probe.propose_everywhere(), probe.propose()[0]
    assert list(found) == list(probe.features)
    chosen, likeliest = [], []
    for proposals, (boxes, logits) in zip(found.values(), every_anchors_proposal(probe)):
        best = logits.argmax(dim=2)
        expected = boxes.gather(2, best[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
        torch.testing.assert_close(proposals.boxes, expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(proposals.objectness, logits.amax(dim=2).sigmoid())
        # Which of the kept proposals come of this level, and were made by the likeliest anchor of their place?
        off = (boxes.view(-1, 4)[None] - kept[:, None]).abs().amax(dim=2)
        here, anchor = off.min(dim=1)
        of_level = here < 1e-3
        is_best = anchor % logits.shape[2] == best.flatten()[anchor // logits.shape[2]]
        chosen.append(proposals.boxes.flatten(0, 1))
        likeliest.append(of_level & is_best)
    made = torch.stack(likeliest).any(dim=0)
    assert made[0] and 0.2 < made.float().mean() < 1, "the best of all is its place's best, others are of other anchors"
    nearest = (torch.cat(chosen)[None] - kept[made][:, None]).abs().amax(dim=2).amin(dim=1)
    assert nearest.max() < 1e-3
    boxes = torch.cat(chosen)
    assert boxes.min() >= 0 and boxes[:, 0::2].max() <= 160 and boxes[:, 1::2].max() <= 96
    assert (boxes[:, 2:] >= boxes[:, :2]).all()


def test_the_likeliest_anchor_is_the_one_with_the_highest_score():
    model = make_model()
    torch.nn.init.zeros_(model.rpn.head.cls_logits.weight)
    torch.nn.init.zeros_(model.rpn.head.bbox_pred.weight)
    torch.nn.init.zeros_(model.rpn.head.bbox_pred.bias)
    for anchor in range(3):
        model.rpn.head.cls_logits.bias.data = torch.full((3,), -1.0).index_fill(0, torch.tensor(anchor), 2.0)
        level = Probe(model, torch.rand(3, 128, 128)).propose_everywhere()["1"]
        width, height = (level.boxes[8, 8, 2:] - level.boxes[8, 8, :2]).tolist()
        assert height / width == pytest.approx(TINY.rpn.aspect_ratios[anchor], rel=0.05)
        centre = (level.boxes[..., :2] + level.boxes[..., 2:]) / 2
        assert centre[8, 6].tolist() == pytest.approx([48, 64], abs=0.5), "row 8, column 6 of stride 8"
        assert level.objectness.flatten().tolist() == pytest.approx([torch.tensor(2.0).sigmoid().item()] * 256)


def test_levels_that_nothing_is_pooled_from_are_refused():
    probe = Probe(make_model(), torch.rand(3, 128, 128))
    assert probe.pooled == ("0", "1", "2") and list(probe.features) == ["0", "1", "2", "pool"]
    for level in ("pool", "7"):
        with pytest.raises(ValueError, match=f"regions are not pooled from level '{level}'; levels are 0, 1, 2"):
            probe.ask(BOXES, level)


def test_a_probe_leaves_the_model_as_it_was():
    model = make_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe = Probe(model, torch.rand(3, 128, 128))
    probe.ask(BOXES), probe.propose(), probe.propose_everywhere(), probe.trace()
    assert model.training and model.rpn.training and model.roi_heads.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_detectors_of_torchvision_are_asked_as_they_are():
    torch.manual_seed(0)
    theirs = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=96, max_size=160, box_score_thresh=0.0
    ).eval()
    image = torch.rand(3, 96, 160)
    probe = Probe(theirs, image)
    # Both of its maps have stride 32, so that torchvision pools every region from the first.
    assert list(probe.features) == ["0", "1", "pool"] and probe.pooled == ("0",)
    assert list(probe.ask(BOXES).branches) == ["sibling"]
    with torch.no_grad():
        expected = theirs([image])[0]
    found = probe.trace().detections
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=1e-3, atol=1e-3)
    assert as_detector(probe.model) is probe.model and isinstance(probe.model, Detector)
    with pytest.raises(ValueError):
        Probe(torch.nn.Linear(1, 1), image)


def test_answers_can_be_differentiated_in_features():
    probe = Probe(make_model(), torch.rand(3, 128, 128))
    watched = {name: feature.detach().requires_grad_() for name, feature in probe.features.items()}
    answer = probe.answer(BOXES[:1], features=watched)
    torch.testing.assert_close(answer.detection.logits.detach(), probe.ask(BOXES[:1]).detection.logits)
    answer.detection.logits.sum().backward()
    level = probe.pooled[int(answer.levels[0])]
    assert watched[level].grad.abs().sum() > 0
    assert all(watched[name].grad is None or not watched[name].grad.any() for name in watched if name != level)
