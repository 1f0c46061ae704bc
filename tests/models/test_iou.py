"""IoU-Net: what its branch is trained on, what it says, and how detections follow from it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tsdlab.models.boxes import paired_iou
from tsdlab.models.build import build_detector
from tsdlab.models.heads.iou import IoUHead, jitter
from tsdlab.ops import MultiScaleDeformRoIAlign
from tsdlab.presets import PRESETS
from tsdlab.structures import Samples

CONFIG = replace(PRESETS["badges-tiny"], head="iou")
SMALL = replace(
    CONFIG,
    num_classes=2,
    backbone=replace(CONFIG.backbone, fpn_channels=4),
    roi=replace(CONFIG.roi, output_size=3, hidden=8),
)
OBJECTS = torch.tensor([[0, 10.0, 12.0, 60.0, 50.0], [0, 70.0, 20.0, 120.0, 90.0], [1, 30.0, 20.0, 120.0, 126.0]])
LABELS = torch.tensor([1, 2, 2])
# The first object has four samples, the others one each; the last sample is background.
SAMPLES = Samples(
    rois=torch.cat([OBJECTS[:1].repeat(4, 1), OBJECTS[1:], torch.tensor([[1, 0.0, 0.0, 20.0, 20.0]])])
    + torch.tensor([0, 1.0, 2.0, 1.0, 2.0]),
    labels=torch.tensor([1, 1, 1, 1, 2, 2, 0]),
    matched_boxes=OBJECTS[[0, 0, 0, 0, 1, 2, 2], 1:],
)
NO_OBJECTS = replace(SAMPLES, labels=torch.zeros_like(SAMPLES.labels))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_pool(dtype=torch.float32, images=2, requires_grad=False):
    pyramid = [torch.randn(images, 4, 128 // s, 128 // s, dtype=dtype) for s in (4, 8, 16)]
    pyramid = [f.requires_grad_(requires_grad) for f in pyramid]
    return MultiScaleDeformRoIAlign((4, 8, 16), output_size=3, canonical_size=112)(pyramid), pyramid


def training_boxes(head, samples=SAMPLES):
    """The rois [n, 5] and labels [n] the branch is trained on, and its loss."""
    asked, answer = [], head._fit
    head._fit = lambda *arguments: asked.append(arguments) or answer(*arguments)
    pool, _ = make_pool()
    losses = head.losses(pool, head(pool, samples.rois), samples)
    ((_, _, rois, labels),) = asked
    return rois, labels, losses


side = st.floats(4.0, 600.0)
corner = st.floats(-100.0, 1300.0)


@settings(max_examples=200, deadline=None)
@given(x=corner, y=corner, width=side, height=side, iou=st.floats(0.05, 1.0), seed=st.integers(0, 10**6))
def test_a_jittered_box_has_the_iou_that_was_drawn(x, y, width, height, iou, seed):
    torch.manual_seed(seed)
    box = torch.tensor([[x, y, x + width, y + height]]).repeat(8, 1)
    moved = jitter(box, torch.full((8,), iou))
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert (paired_iou(moved.double(), box.double()) - iou).abs().max() < 1e-4


def test_a_perfect_fit_is_the_object_itself():
    assert torch.equal(jitter(OBJECTS[:, 1:], torch.ones(3)), OBJECTS[:, 1:])


def test_every_edge_moves_both_ways_alike():
    boxes = torch.tensor([[10.0, 20.0, 50.0, 40.0]]).repeat(4000, 1)
    motion = (jitter(boxes, torch.full((4000,), 0.7)) - boxes) / torch.tensor([40.0, 20.0, 40.0, 20.0])
    assert ((motion > 0).float().mean(dim=0) - 0.5).abs().max() < 0.04
    spread = motion.abs().mean(dim=0)
    assert spread.min() > 0.9 * spread.max(), "in proportion to the sides"


def test_training_boxes_are_uniform_in_iou_and_every_object_has_as_many():
    head = IoUHead(replace(SMALL, iou=replace(SMALL.iou, boxes_per_object=1000)))
    rois, labels, _ = training_boxes(head)
    assert len(rois) == 3000
    for index, (obj, label) in enumerate(zip(OBJECTS, LABELS)):
        own = rois[1000 * index : 1000 * (index + 1)]
        assert (own[:, 0] == obj[0]).all() and (labels[1000 * index : 1000 * (index + 1)] == label).all()
        iou = paired_iou(own[:, 1:], obj[1:].repeat(1000, 1))
        assert iou.min() > 0.4999 and iou.max() < 1.0001
        counts = torch.histc(iou, 10, 0.5, 1.0)
        assert ((counts - 100) ** 2 / 100).sum() < 30, "χ² of 9 degrees of freedom: 30 is beyond the 99.9th percentile"


@pytest.mark.parametrize("bias", [-1.0, 0.3])
def test_the_loss_compares_with_targets_from_minus_one_to_one(bias):
    head = IoUHead(replace(SMALL, iou=replace(SMALL.iou, loss_weight=3.0)))
    torch.nn.init.zeros_(head.iou.out.weight)
    torch.nn.init.constant_(head.iou.out.bias, bias)
    rois, _, losses = training_boxes(head)
    iou = paired_iou(rois[:, 1:], OBJECTS[:, 1:].repeat_interleave(16, 0))
    target = (iou - 0.75) / 0.25
    assert losses["loss_iou"].item() == pytest.approx(
        3 * F.smooth_l1_loss(torch.full((48,), bias), target).item(), rel=1e-3
    )
    pool, _ = make_pool()
    assert head.box_confidence(pool, OBJECTS, LABELS).tolist() == pytest.approx([0.75 + 0.25 * bias] * 3)


def test_training_boxes_repeat_under_the_global_seed():
    head = IoUHead(SMALL)
    torch.manual_seed(1)
    first, _, _ = training_boxes(head)
    torch.manual_seed(1)
    again, _, _ = training_boxes(head)
    other, _, _ = training_boxes(head)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_loss_teaches_features_and_the_branch_alone():
    head = IoUHead(SMALL)
    pool, pyramid = make_pool(requires_grad=True)
    head.losses(pool, head(pool, SAMPLES.rois), SAMPLES)["loss_iou"].backward()
    assert any(f.grad.any() for f in pyramid)
    taught = {name.split(".")[0] for name, p in head.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"iou"}


def test_a_batch_without_objects_gives_zero_loss_and_zero_gradients():
    head = IoUHead(SMALL)
    pool, pyramid = make_pool(requires_grad=True)
    loss = head.losses(pool, head(pool, NO_OBJECTS.rois), NO_OBJECTS)["loss_iou"]
    assert loss == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.iou.parameters())
    assert not any(f.grad.any() for f in pyramid)


def test_every_class_has_its_own_answer():
    head = IoUHead(SMALL)
    torch.nn.init.zeros_(head.iou.out.weight)
    head.iou.out.bias.data = torch.tensor([-1.0, 1.0])
    pool, _ = make_pool()
    assert head.predict_iou(pool, OBJECTS, LABELS).tolist() == [0.5, 1.0, 1.0]


def test_the_box_is_pooled_precisely_from_the_level_of_its_size():
    """Of a constant map per level every bin is that constant."""
    head = IoUHead(SMALL)
    pyramid = [torch.full((2, 4, 128 // s, 128 // s), float(s)) for s in (4, 8, 16)]
    pool = MultiScaleDeformRoIAlign((4, 8, 16), output_size=3, canonical_size=112)(pyramid)
    seen = []
    head.iou.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    rois = torch.tensor([[0, 40.0, 40.0, 60.0, 60.0], [1, 20.0, 40.0, 90.0, 100.0], [0, 8.0, 8.0, 120.0, 120.0]])
    head.predict_iou(pool, rois, LABELS)
    torch.testing.assert_close(seen[0].flatten(1).mean(dim=1), torch.tensor([4.0, 8.0, 16.0]))


def test_predicted_iou_is_differentiable_in_the_boxes():
    head = IoUHead(SMALL).double()
    pool, _ = make_pool(torch.float64)
    rois = OBJECTS.double()

    def predicted(boxes):
        return head.predict_iou(pool, torch.cat([rois[:, :1], boxes], 1), LABELS)

    assert torch.autograd.gradcheck(predicted, (rois[:, 1:].clone().requires_grad_(),))


def test_without_guided_nms_boxes_are_not_ranked_by_it():
    pool, _ = make_pool()
    head = IoUHead(replace(SMALL, iou=replace(SMALL.iou, guided_nms=False)))
    assert head.box_confidence(pool, OBJECTS, LABELS) is None
    assert head.predict_iou(pool, OBJECTS, LABELS).shape == (3,)


@pytest.mark.parametrize("nms", ["linear", "gaussian"])
def test_two_ways_to_suppress_are_refused(nms):
    soft = replace(CONFIG.roi, nms=nms)
    with pytest.raises(ValueError, match=rf"iou\.guided_nms replaces roi\.nms, which is '{nms}'"):
        replace(CONFIG, roi=soft)
    assert replace(CONFIG, roi=soft, iou=replace(CONFIG.iou, guided_nms=False)).roi.nms == nms
    assert replace(CONFIG, head="sibling", roi=soft).roi.nms == nms


# Refinement


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("levels", [1, 3])
def test_refinement_works_where_gradients_are_off_and_leaves_none(mode, autocast, levels):
    head = IoUHead(replace(SMALL, iou=replace(SMALL.iou, step_size=5.0, max_loss=1.0))).eval()
    strides = (4, 8, 16)[:levels]
    with mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        pyramid = [torch.randn(2, 4, 128 // s, 128 // s, requires_grad=True) * 1 for s in strides]
        pool = MultiScaleDeformRoIAlign(strides, output_size=3, canonical_size=112)(pyramid)
        rois, labels = OBJECTS.clone(), LABELS.clone()
        head.box_confidence(pool, rois, labels)  # as on the way to the detections; autocast remembers its weights
        boxes = head.refine(pool, rois, labels)
        assert torch.equal(rois, OBJECTS)
        moved = torch.cat([rois[:, :1], boxes], 1)
        assert boxes.dtype == torch.float32 and not torch.equal(boxes, rois[:, 1:]) and not boxes.requires_grad
        if not autocast:
            assert (head.predict_iou(pool, moved, labels) > head.predict_iou(pool, rois, labels)).all()
    assert all(p.grad is None for p in head.parameters())


def test_every_box_is_refined_in_its_own_image_and_for_its_own_class():
    head = IoUHead(replace(SMALL, iou=replace(SMALL.iou, step_size=5.0))).eval()
    pool, _ = make_pool()
    together = head.refine(pool, OBJECTS, LABELS)
    alone = [head.refine(pool, OBJECTS[i : i + 1], LABELS[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not torch.allclose(together, head.refine(pool, OBJECTS, 3 - LABELS))


def rectangles(count):
    """Features that are 1 inside one rectangle per image (stride 8), and the rectangles as rois [count, 5]."""
    corners = 16 + 40 * torch.rand(count, 2)
    boxes = torch.cat([corners, corners + 32 + 24 * torch.rand(count, 2)], 1)
    edges = torch.arange(17.0) * 8
    x, y = (
        (torch.minimum(edges[1:], boxes[:, a + 2, None]) - torch.maximum(edges[:-1], boxes[:, a, None])).clamp(min=0)
        / 8
        for a in (0, 1)
    )
    features = y[:, None, :, None] * x[:, None, None, :]
    return features, torch.cat([torch.arange(count)[:, None], boxes], 1)


def test_a_trained_branch_improves_boxes():
    config = replace(
        SMALL,
        num_classes=1,
        backbone=replace(SMALL.backbone, fpn_channels=1),
        roi=replace(SMALL.roi, output_size=7, hidden=64),
        iou=replace(SMALL.iou, boxes_per_object=32),
    )
    head = IoUHead(config)
    scheme = MultiScaleDeformRoIAlign((8,), output_size=7)
    optimizer = torch.optim.Adam(head.iou.parameters(), 3e-3)
    for _ in range(150):
        features, objects = rectangles(8)
        samples = Samples(objects, torch.ones(8, dtype=torch.long), objects[:, 1:])
        pool = scheme([features])
        optimizer.zero_grad()
        head.losses(pool, head(pool, objects), samples)["loss_iou"].backward()
        optimizer.step()

    features, objects = rectangles(50)
    labels = torch.ones(50, dtype=torch.long)
    with torch.inference_mode():
        pool = scheme([features.clone()])
        rois = torch.cat([objects[:, :1], jitter(objects[:, 1:], torch.full((50,), 0.7))], 1)
        predicted = head.predict_iou(pool, rois, labels)
        boxes = head.refine(pool, rois, labels)
        improved = head.predict_iou(pool, torch.cat([objects[:, :1], boxes], 1), labels)
    assert (predicted - 0.7).abs().mean() < 0.06
    assert (improved > predicted).float().mean() > 0.9 and (improved - predicted).mean() > 0.05
    iou = paired_iou(boxes, objects[:, 1:])
    assert (iou > 0.7).float().mean() > 0.9 and iou.mean() > 0.75


# In a detector


def test_with_both_uses_off_it_detects_as_the_sibling_head():
    plain = replace(CONFIG, iou=replace(CONFIG.iou, guided_nms=False, refinement_steps=0))
    model, sibling = build_detector(plain).eval(), build_detector(replace(CONFIG, head="sibling")).eval()
    sibling.load_state_dict({k: v for k, v in model.state_dict().items() if ".head.iou." not in k})
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    with torch.no_grad():
        for a, b in zip(model(images), sibling(images)):
            assert len(a["boxes"]) > 10
            assert all(torch.equal(a[key], b[key]) for key in b)


def test_detections_are_chosen_by_predicted_iou_then_refined_then_clipped():
    config = replace(
        CONFIG,
        roi=replace(CONFIG.roi, detections_per_image=2000),
        iou=replace(CONFIG.iou, step_size=1000.0, max_loss=10.0),
    )
    model = build_detector(config).eval()
    heads = model.roi_heads
    calls = []

    def recorded(name, function):
        def call(pool, rois, labels):
            calls.append((name, rois.clone(), labels.clone(), function(pool, rois, labels)))
            return calls[-1][-1]

        return call

    heads.head.box_confidence = recorded("confidence", heads.head.box_confidence)
    heads.head.refine = recorded("refine", heads.head.refine)
    with torch.inference_mode():
        found = model([torch.rand(3, 128, 128), torch.rand(3, 128, 128)])
    assert [name for name, *_ in calls] == ["confidence", "refine"], "once for the whole batch"
    (_, candidates, _, confidence), (_, kept, labels, boxes) = calls
    assert confidence.shape == candidates.shape[:1] and len(kept) < len(candidates)
    best = candidates[confidence.argmax()]
    assert (kept == best).all(dim=1).any(), "nothing removes the box of highest predicted IoU"
    clipped = boxes.clamp(0, 128)
    left = ((clipped[:, 2:] - clipped[:, :2]) >= 0.01).all(dim=1)
    assert (boxes < 0).any() and not left.all(), "some boxes leave the image, some altogether"
    assert torch.equal(labels[left], torch.cat([f["labels"] for f in found]))
    assert torch.equal(clipped[left], torch.cat([f["boxes"] for f in found]))
    assert all((f["scores"].diff() <= 0).all() for f in found)
