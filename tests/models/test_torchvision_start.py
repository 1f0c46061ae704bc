"""A torchvision detector under another head: the same detections before training, saved and loaded, or refused."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from tsdlab import build_detector, from_torchvision, load_detector, trace
from tsdlab.config import BackboneConfig, Config, config_from_dict, config_to_dict
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.weights import load_tensors, save_weights
from tsdlab.structures import Category

CLASSES = 5
CATEGORIES = tuple(Category(i, f"class {i}") for i in range(1, 1 + CLASSES))
SMALL = {
    "min_size": 96,
    "max_size": 128,
    "rpn_post_nms_top_n_train": 40,
    "rpn_pre_nms_top_n_test": 40,
    "rpn_post_nms_top_n_test": 40,
    "box_batch_size_per_image": 32,
}
MOBILENET = "fasterrcnn_mobilenet_v3_large_fpn"
# Sides that padding to a multiple of 32 does not change: else torchvision guesses strides from the first image.
IMAGES = [torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(i)) for i in range(2)]
OBJECTS = {"boxes": torch.tensor([[10.0, 10, 60, 60], [50, 50, 120, 90]]), "labels": torch.tensor([1, 2])}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@torch.no_grad()
def enliven(model):
    """Make a random detector detect: norms know their statistics, proposals differ, scores are spread."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.backbone(torch.randn(2, 3, 96, 128))
    for norm, value in zip(norms, momentum):
        norm.momentum = value
    model.eval()
    model.rpn.head.cls_logits.weight.normal_(std=0.1)
    roi, seen = model.roi_heads, []
    hook = roi.box_head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(IMAGES)
    hook.remove()
    for layer in (roi.box_predictor.cls_score, roi.box_predictor.bbox_pred):
        layer.weight.normal_(std=2 / seen[0].norm(dim=1).mean())
    return model


def detect(model):
    with torch.no_grad():
        return model.eval()(IMAGES)


def assert_same_detections(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert len(a["boxes"]) == len(b["boxes"]) > 10
        same = (a["labels"][:, None] == b["labels"]) & ((a["scores"][:, None] - b["scores"]).abs() < 1e-3)
        close = (a["boxes"][:, None] - b["boxes"]).abs().amax(dim=2) < 2e-2
        # One partner each, in whatever order: two equal scores may change places.
        assert ((same & close).sum(dim=0) == 1).all() and ((same & close).sum(dim=1) == 1).all()


def assert_equal_detections(ours, theirs):
    assert all(torch.equal(a[k], b[k]) for a, b in zip(ours, theirs, strict=True) for k in b)


@pytest.mark.parametrize(
    ("builder", "heads"),
    [
        ("fasterrcnn_resnet50_fpn", ("sibling",)),
        pytest.param(  # its box head has convolutions
            "fasterrcnn_resnet50_fpn_v2", ("d_head", "tsd", "sibling"), marks=pytest.mark.slow
        ),
        (MOBILENET, ("d_head", "tsd", "sibling")),
        (MOBILENET.replace("fpn", "320_fpn"), ("sibling",)),
    ],
)
def test_every_published_detector_goes_on_as_it_was_and_is_made_again(builder, heads):
    size = {**SMALL, "min_size": 320, "max_size": 320} if "320" in builder else SMALL
    theirs = enliven(get_model(builder, weights=None, weights_backbone=None, num_classes=1 + CLASSES, **size))
    before = {k: v.clone() for k, v in theirs.state_dict().items()}
    expected = detect(theirs)
    for head in heads:
        ours = from_torchvision(theirs, head)
        assert_same_detections(detect(ours), expected)
        assert (ours.config.head, ours.config.backbone.name) == (head, f"torchvision:{builder}")
    assert all(torch.equal(before[k], v) for k, v in theirs.state_dict().items())
    assert not theirs.rpn.head._forward_hooks and not theirs.backbone._forward_hooks

    again = build_detector(config_from_dict(config_to_dict(ours.config)))
    again.load_state_dict(ours.state_dict())
    assert again.config == ours.config
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in ours.parameters()]
    assert_equal_detections(detect(again), detect(ours))


@pytest.mark.parametrize("stages", [0, 4])
def test_frozen_norms_and_stages_are_remembered(stages):
    theirs = published_model(MOBILENET, CLASSES, BackboneConfig(norm="frozen", trainable_stages=stages))
    ours = from_torchvision(theirs, "sibling")
    assert (ours.config.backbone.norm, ours.config.backbone.trainable_stages) == ("frozen", stages)
    asked = [p.requires_grad for p in theirs.backbone.parameters()]
    assert [p.requires_grad for p in ours.backbone.parameters()] == asked
    assert [p.requires_grad for p in build_detector(ours.config).backbone.parameters()] == asked


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_another_epsilon_of_frozen_norms_is_in_the_tensors(epsilon, tmp_path):
    theirs = published_model(MOBILENET, CLASSES, BackboneConfig()).eval()
    overwrite_eps(theirs, epsilon)
    norm = theirs.backbone.body["0"][1]
    norm.running_var.copy_(torch.logspace(-12, 1, 16))  # from where ε is everything to where it is nothing
    ours = from_torchvision(theirs, "sibling")
    own = ours.backbone.body["0"][1]
    assert own.eps == 1e-5 and (own.running_var > 0).all() and norm.eps == epsilon
    features = torch.rand(1, 16, 4, 4)
    torch.testing.assert_close(own(features), norm(features), rtol=1e-5, atol=1e-6)
    save_weights(tmp_path / "w.safetensors", ours, CATEGORIES, half=False)
    back = load_detector(tmp_path / "w.safetensors")
    assert back.config == ours.config and back.categories == CATEGORIES
    assert torch.equal(back.backbone.body["0"][1](features), own(features))


def test_all_of_a_taken_over_detector_learns():
    theirs = get_model(MOBILENET, weights=None, weights_backbone=None, num_classes=1 + CLASSES, **SMALL)
    model = from_torchvision(theirs, "tsd", num_classes=2)
    assert model.training and model.config.num_classes == 2
    assert model.roi_heads.head.classification.out.out_features == 3
    assert torch.equal(model.roi_heads.head.sibling.box_head.fc6.weight, theirs.roi_heads.box_head.fc6.weight)
    sum(model(IMAGES, [OBJECTS, OBJECTS]).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad is None for p in theirs.parameters())


# Models of one's own


class Pyramid(nn.Module):
    """A convolution of 8 channels for every stride; a single one gives a single map, without a name."""

    out_channels = 8

    def __init__(self, *strides):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, stride, stride) for stride in strides)

    def forward(self, images):
        maps = {str(i): conv(images).relu() for i, conv in enumerate(self.convs)}
        return maps if len(maps) > 1 else maps["0"]


def own_model(*strides, kind=FasterRCNN, **options):
    options = {
        "box_roi_pool": MultiScaleRoIAlign([str(i) for i in range(len(strides))], 7, 2),
        "box_head": TwoMLPHead(8 * 49, 16),
        "box_predictor": FastRCNNPredictor(16, 1 + CLASSES),
        **options,
    }
    anchors = AnchorGenerator(((16, 32),) * len(strides), ((0.5, 1.0),) * len(strides))
    return enliven(kind(Pyramid(*strides), rpn_anchor_generator=anchors, **SMALL, **options))


@pytest.mark.parametrize("head", ["sibling", "d_head", "iou", "tsd"])
@pytest.mark.parametrize("strides", [(4, 8, 16), (16,), (8, 16, 16)])
def test_a_model_of_ones_own_goes_on_as_it_was(strides, head):
    theirs = own_model(*strides, box_score_thresh=0.1)
    ours = from_torchvision(theirs, head)
    if head == "iou":  # its class and box branch: an untrained IoU branch would rank by chance
        ours.roi_heads.head.config = replace(ours.config.iou, guided_nms=False, refinement_steps=0)
    assert_same_detections(detect(ours), detect(theirs))
    assert ours.config.backbone.name == "torchvision:own" and ours.config.roi.score_thresh == 0.1
    assert ours.config.rpn.anchor_sizes == (16, 32) and ours.config.rpn.aspect_ratios == (0.5, 1.0)
    assert trace(ours, IMAGES[0]).levels.max() < len(set(strides))


@torch.no_grad()
def test_a_model_of_another_type_goes_on_in_it():
    model = own_model(4, 8).double()
    images = [image.double() for image in IMAGES]
    ours = from_torchvision(model, "tsd")
    for found, expected in zip(ours(images), model(images)):
        assert len(found["scores"]) == len(expected["scores"]) > 0


def test_a_model_of_ones_own_is_made_again_to_load_its_weights(tmp_path):
    ours = from_torchvision(own_model(8, 16), "d_head")
    save_weights(tmp_path / "w.safetensors", ours, CATEGORIES, half=False)
    with pytest.raises(
        ValueError, match=r"'torchvision:own' is not a torchvision builder .*from_torchvision\(model, 'd_head', 5\)"
    ):
        load_detector(tmp_path / "w.safetensors")
    torch.manual_seed(1)
    again = from_torchvision(own_model(8, 16), "d_head", CLASSES)
    load_tensors(again, tmp_path / "w.safetensors")
    assert_equal_detections(detect(again), detect(ours))


def test_the_level_of_a_region_may_be_counted_otherwise():
    pool = MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=96, canonical_level=5)
    theirs = own_model(4, 8, 16, box_roi_pool=pool)
    ours = from_torchvision(theirs, "sibling")
    assert ours.config.roi.canonical_size == 48
    assert_same_detections(detect(ours), detect(theirs))


def test_of_a_mask_rcnn_the_boxes_are_taken():
    theirs = own_model(4, 8, kind=MaskRCNN, mask_predictor=nn.Identity(), mask_head=nn.Identity())
    theirs.roi_heads.mask_head = None
    ours = from_torchvision(theirs)
    assert not any("mask" in name for name in ours.state_dict())
    assert_same_detections(detect(ours), detect(theirs))


def test_boxes_of_any_rpn_stay_in_full_precision_under_autocast():
    ours = copy.deepcopy(from_torchvision(own_model(4, 8), "tsd")).train()
    seen = []
    ours.roi_heads.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    with torch.autocast("cpu", torch.bfloat16):
        losses = ours(IMAGES, [OBJECTS, OBJECTS])
    (rois,) = seen
    assert rois.dtype == torch.float32 and (rois != rois.bfloat16()).any()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


# What is refused


class OwnPredictor(FastRCNNPredictor):
    """May compute anything."""


@pytest.mark.parametrize(
    ("strides", "options", "message"),
    [
        ((4, 16), {}, r"strides of the pooled maps must double, finest first; the model has \{'0': 4, '1': 16\}"),
        ((16, 8), {}, "must double, finest first"),
        ((4, 8), {"box_roi_pool": MultiScaleRoIAlign(["1"], 7, 2)}, r'named "0", "1", … .* has \[\'1\'\]'),
        (
            (4, 8),
            {"box_predictor": OwnPredictor(16, 6)},
            "box_predictor must be a FastRCNNPredictor, got a OwnPredictor",
        ),
        ((4, 8), {"bbox_reg_weights": (1.0, 1.0, 1.0, 1.0)}, r"bbox_reg_weights must be \(10\.0.*has \(1\.0"),
        ((4, 8), {"box_bg_iou_thresh": 0.3}, r"box_fg_iou_thresh and .* must be equal; .* has \(0\.5, 0\.3\)"),
        (
            (4, 8),
            {"box_roi_pool": MultiScaleRoIAlign(["0", "1"], (7, 14), 2), "box_head": TwoMLPHead(8 * 98, 16)},
            r"must be square; .* has \(7, 14\)",
        ),
        ((4, 8), {"box_roi_pool": MultiScaleRoIAlign(["0", "1"], 7, 0)}, "sampling_ratio must be at least 1; .* has 0"),
        (
            (4, 8),
            {"box_roi_pool": MultiScaleRoIAlign(["0", "1"], 7, 2, canonical_scale=225, canonical_level=5)},
            r"canonical size of box_roi_pool at stride 16 must be a whole number of pixels; .* has 112\.5",
        ),
        (
            (4, 8),
            {"box_head": nn.Sequential(nn.Conv2d(8, 16, 7))},
            r"box_head must give \[K, 16\].* gives \['K', 16, 1, 1\]",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_named(strides, options, message):
    with pytest.raises(ValueError, match=message):
        from_torchvision(own_model(*strides, **options))


def test_other_detectors_are_refused():
    with pytest.raises(ValueError, match="must be a torchvision Faster R-CNN, got a Linear"):
        from_torchvision(nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"must be torchvision's RoIHeads, got that of tsdlab\.models\.roi_heads"):
        from_torchvision(from_torchvision(own_model(4, 8)))
    theirs = own_model(4, 8)
    theirs.roi_heads.box_roi_pool = nn.Identity()
    with pytest.raises(ValueError, match="box_roi_pool must be a MultiScaleRoIAlign, got a Identity"):
        from_torchvision(theirs)
    theirs = own_model(4, 8)
    theirs.roi_heads.box_predictor.bbox_pred = nn.Linear(16, 4)  # one box for all classes, as some detectors have it
    with pytest.raises(ValueError, match=rf"four deltas for every class; the model has \({1 + CLASSES}, 4\)"):
        from_torchvision(theirs)


def published_config(**backbone):
    return Config(head="sibling", num_classes=2, backbone=BackboneConfig(name=f"torchvision:{MOBILENET}", **backbone))


def test_a_config_must_say_what_the_builder_makes():
    assert build_detector(published_config(stages=(4,))).config.rpn.anchor_sizes == (32, 64, 128, 256, 512)
    with pytest.raises(ValueError, match=r"has backbone\.stages \(4,\), but the config has \(1, 2, 3, 4\)"):
        build_detector(published_config())
    with pytest.raises(ValueError, match=r"has backbone\.norm batch, but the config has sync"):
        build_detector(published_config(stages=(4,), norm="sync"))
    with pytest.raises(ValueError, match=r"trainable_stages of fasterrcnn_resnet50_fpn must be 0…5, got 6"):
        published_model("fasterrcnn_resnet50_fpn", 2, BackboneConfig(trainable_stages=6, name="torchvision:own"))
    config = published_config(stages=(4,))
    with pytest.raises(ValueError, match=r"has rpn\.anchor_sizes \(32, .*, but the config has \(16, 32\)"):
        build_detector(replace(config, rpn=replace(config.rpn, anchor_sizes=(16, 32))))
