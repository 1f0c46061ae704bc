"""The whole detector: a torchvision detector in contract, parity and gradients."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet18
from torchvision.ops import FrozenBatchNorm2d

from tsdlab.config import HEADS, BackboneConfig, Config
from tsdlab.errors import InputError
from tsdlab.models.backbones import build_backbone
from tsdlab.models.build import build_detector
from tsdlab.models.deformable import DeformableConv2d
from tsdlab.models.probe import trace
from tsdlab.models.torchvision_weights import load_torchvision
from tsdlab.presets import PRESETS

TINY = PRESETS["badges-tiny"]
LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
BRANCHES = ("classification", "localization")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_images(count=2):
    return [torch.rand(3, 128, 128) for _ in range(count)]


OBJECTS = {"boxes": torch.tensor([[10.0, 10, 60, 60], [50, 50, 120, 100]]), "labels": torch.tensor([1, 2])}
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("targets", [[OBJECTS, NOTHING], [NOTHING, NOTHING]], ids=["objects", "no objects"])
def test_every_loss_is_present_and_every_parameter_gets_a_gradient(head, targets):
    model = build_detector(replace(TINY, head=head)).train()
    losses = model(make_images(), targets)
    assert set(losses) >= LOSSES and set(losses) == set(model(make_images(), [OBJECTS, OBJECTS]))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_loss_weight_scales_the_head_alone():
    torch.manual_seed(0)
    model = build_detector(replace(TINY, head="tsd")).train()
    losses = {}
    for weight in (1.0, 0.5):
        model.roi_heads.config = replace(TINY.roi, loss_weight=weight)
        torch.manual_seed(1)
        losses[weight] = model(make_images(), [OBJECTS, OBJECTS])
    for name, loss in losses[1.0].items():
        factor = 1.0 if name in ("loss_objectness", "loss_rpn_box_reg") else 0.5
        torch.testing.assert_close(losses[0.5][name], factor * loss)


@pytest.mark.parametrize("head", HEADS)
def test_training_survives_an_rpn_without_proposals(head, monkeypatch):
    model = build_detector(replace(TINY, head=head)).train()
    nothing = [torch.zeros(0, 4), torch.zeros(0, 4)]
    monkeypatch.setattr(model.rpn, "filter_proposals", lambda *args: (nothing, nothing))
    losses = model(make_images(), [NOTHING, NOTHING])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("head", HEADS)
def test_geometry_stays_in_full_precision_under_autocast(head):
    """A box in bfloat16 would be off by pixels; only the layers may compute in half precision."""
    model = build_detector(replace(TINY, head=head)).train()
    seen = []
    model.roi_heads.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    draw = model.roi_heads.sample
    model.roi_heads.sample = lambda *args: seen.append(draw(*args)) or seen[-1]
    truth = OBJECTS["boxes"] + 0.337
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(make_images(), [{**OBJECTS, "boxes": truth}] * 2)
    samples, rois = seen
    assert rois.dtype == samples.matched_boxes.dtype == torch.float32
    matched = samples.matched_boxes[samples.labels > 0]
    assert len(matched) and all((row == truth).all(1).any() for row in matched), "the truth is not rounded"
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("head", HEADS)
def test_batch_equals_single(head):
    model = build_detector(replace(TINY, head=head, roi=replace(TINY.roi, score_thresh=0.0))).eval()
    images = make_images(3)
    with torch.no_grad():
        together = model(images)
        alone = [model([image])[0] for image in images]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a["scores"], b["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=1e-4, atol=1e-2)


def torchvision_detector(classes=5):
    backbone = _resnet_fpn_extractor(resnet18(weights=None, norm_layer=FrozenBatchNorm2d), 5)
    anchors = AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5)
    model = FasterRCNN(backbone, 1 + classes, min_size=128, max_size=192, rpn_anchor_generator=anchors)
    # Random weights score every class alike: sharpen them, so that there is something to detect.
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.5)
    return model.eval()


def matching_config(head, classes=5):
    coco = PRESETS["coco-r50-1x"]
    return replace(
        coco,
        head=head,
        num_classes=classes,
        image=replace(coco.image, min_size=128, max_size=192),
        backbone=replace(coco.backbone, name="resnet18", trainable_stages=5),
        rpn=replace(coco.rpn, anchor_sizes=(16, 32, 64, 128, 256)),
        roi=replace(coco.roi, aligned=False),
    )


@pytest.mark.parametrize("head", ["sibling", "d_head", "tsd"])
def test_torchvision_weights_give_torchvision_detections(head):
    """Their branches begin as copies of torchvision's layers, TSD's offsets at zero."""
    theirs = torchvision_detector()
    ours = build_detector(matching_config(head)).eval()
    load_torchvision(ours, theirs.state_dict())
    images = [torch.rand(3, 100, 150), torch.rand(3, 128, 90)]
    with torch.no_grad():
        for a, b in zip(ours(images), theirs(images)):
            assert len(a["boxes"]) == len(b["boxes"]) > 20
            same = (a["labels"][:, None] == b["labels"]) & ((a["scores"][:, None] - b["scores"]).abs() < 1e-4)
            close = (a["boxes"][:, None] - b["boxes"]).abs().amax(dim=2) < 1e-2
            # One partner each, in whatever order: two equal scores may change places.
            assert ((same & close).sum(dim=0) == 1).all() and ((same & close).sum(dim=1) == 1).all()


def test_torchvision_weights_give_torchvision_losses():
    theirs = torchvision_detector().train()
    ours = build_detector(matching_config("sibling")).train()
    load_torchvision(ours, theirs.state_dict())
    images = make_images()
    torch.manual_seed(1)
    expected = theirs(images, [OBJECTS, OBJECTS])
    torch.manual_seed(1)
    losses = ours(images, [OBJECTS, OBJECTS])
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)


def test_torchvision_weights_load_into_tsds_sibling():
    theirs = torchvision_detector()
    model = build_detector(matching_config("tsd"))
    load_torchvision(model, theirs.state_dict())
    assert torch.equal(model.roi_heads.head.sibling.box_head.fc6.weight, theirs.roi_heads.box_head.fc6.weight)
    assert torch.equal(
        model.roi_heads.head.sibling.box_predictor.bbox_pred.bias, theirs.roi_heads.box_predictor.bbox_pred.bias
    )


def test_outputs_for_other_classes_stay_as_they_are():
    theirs = torchvision_detector()
    model = build_detector(matching_config("d_head", classes=7))
    head = model.roi_heads.head
    before = head.classification.out.weight.clone()
    outputs = [f"roi_heads.head.{branch}.out.{kind}" for branch in BRANCHES for kind in ("bias", "weight")]
    assert load_torchvision(model, theirs.state_dict()) == outputs
    assert torch.equal(head.classification.out.weight, before)
    assert torch.equal(head.classification.fc.fc7.weight, theirs.roi_heads.box_head.fc7.weight)


def test_torchvision_weights_of_another_network_are_refused():
    config = matching_config("sibling")
    model = build_detector(replace(config, roi=replace(config.roi, hidden=512)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"box_head.fc6.bias is \(1024,\), not \(512,\)"):
        load_torchvision(model, torchvision_detector().state_dict())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()), "nothing half-loaded"


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnext50_32x4d", "timm:resnet10t"])
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_backbones_have_the_levels_they_promise(name, norm):
    config = BackboneConfig(name=name, stages=(1, 2, 3), fpn_channels=16, norm=norm, trainable_stages=5)
    backbone = build_backbone(config).eval()
    with torch.no_grad():
        levels = backbone(torch.rand(1, 3, 64, 96))
    assert list(levels) == ["0", "1", "2", "pool"]
    for level, stride in zip(levels.values(), (*backbone.strides, 32)):
        assert level.shape == (1, 16, 64 // stride, 96 // stride)


@pytest.mark.slow
def test_senet154_builds_trains_and_detects():
    """The preset, on a small image and with a small head."""
    preset = PRESETS["coco-senet154-dcn"]
    model = build_detector(replace(preset, image=TINY.image, roi=TINY.roi))
    deformable = [name for name, m in model.backbone.body.named_modules() if isinstance(m, DeformableConv2d)]
    blocks = [f"layer{stage}.{i}.conv2" for stage, count in ((2, 8), (3, 36), (4, 3)) for i in range(count)]
    assert deformable == blocks
    trainable = {
        name.split(".")[2]
        for name, p in model.backbone.body.named_parameters(prefix="backbone.body")
        if p.requires_grad
    }
    assert trainable == {"layer2", "layer3", "layer4"}
    losses = model.train()([torch.rand(3, 64, 64)], [OBJECTS])
    assert all(loss.isfinite() for loss in losses.values())
    found = trace(model, torch.rand(3, 64, 64))
    assert [tuple(f.shape[2:]) for f in found.features.values()] == [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet10t"])
def test_frozen_stages_stay_frozen(name):
    config = BackboneConfig(name=name, fpn_channels=16, norm="batch", trainable_stages=2)
    frozen = {n.split(".")[1] for n, p in build_backbone(config).named_parameters() if not p.requires_grad}
    assert {"conv1", "bn1", "layer1", "layer2"} <= frozen
    assert not frozen & {"layer3", "layer4"}


def test_frozen_stages_of_a_backbone_in_blocks():
    """timm wraps some models in a class of their own, with the stages one level deeper."""
    backbone = build_backbone(BackboneConfig(name="timm:mobilenetv2_035", fpn_channels=16, norm="batch"))
    trains = {name: p.requires_grad for name, p in backbone.body.named_parameters()}
    assert not trains["conv_stem.weight"]
    assert {name.split(".")[1] for name, t in trains.items() if t and name.startswith("blocks")} == {
        "2",
        "3",
        "4",
        "5",
        "6",
    }


def test_a_backbone_in_blocks_can_be_frozen_as_a_whole():
    """Also if its last stages are not used: they are not built, so there is nothing of them to freeze."""
    config = BackboneConfig(name="timm:resnet10t", stages=(2, 3), fpn_channels=16, trainable_stages=0)
    assert not any(p.requires_grad for p in build_backbone(config).body.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "resnot50"}, "unknown backbone 'resnot50'"),
        ({"name": "resnet51"}, "unknown backbone 'resnet51'"),  # looks like one, but torchvision has none of that depth
        ({"name": "vgg16"}, "unknown backbone 'vgg16'"),  # torchvision has it, but it is no ResNet
        ({"name": "timm:nothing"}, "backbone.name: timm makes no feature backbone 'nothing'"),
        ({"name": "timm:no/prefix"}, "backbone.name: timm makes no feature backbone 'no/prefix'"),
    ],
)
def test_unknown_backbones_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(replace(BackboneConfig(), **change))


def test_detections_with_other_post_processing_and_size():
    """Arguments of one call, where nothing of the model changes."""
    model = build_detector(replace(TINY, head="sibling", roi=replace(TINY.roi, score_thresh=0.0))).eval()
    strict, images = replace(TINY.roi, score_thresh=0.0, detections_per_image=3), make_images()
    with torch.no_grad():
        usual = model(images)
        for few, all_of_them, larger in zip(model.detect(images, strict), usual, model.detect(images, min_size=192)):
            assert len(few["scores"]) == 3 and torch.equal(few["scores"], all_of_them["scores"][:3])
            assert larger["boxes"].shape[1] == 4 and larger["boxes"].max() <= 128, "pixels of the input image"
            assert not torch.equal(larger["scores"][:3], few["scores"])
        again = model(images)
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(usual, again))


def test_a_detector_in_training_mode_does_not_detect():
    with pytest.raises(ValueError, match=r"is in training mode; call model\.eval\(\)"):
        build_detector(TINY).train().detect(make_images())


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (0, 5), (5, 0), (1, 65)])
def test_images_that_vanish_are_refused_by_name(tiny_config: Config, size: tuple[int, int]) -> None:
    model = build_detector(tiny_config)
    image = torch.rand(3, *size)
    target = {"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([1])}
    with pytest.raises(InputError, match=f"an image is {size[1]}×{size[0]} pixels"):
        model([image], [target])
    with pytest.raises(InputError, match=f"an image is {size[1]}×{size[0]} pixels"):
        model.eval()([image])
    assert len(model([torch.rand(3, 1, 63), torch.rand(3, 1, 1)])) == 2
