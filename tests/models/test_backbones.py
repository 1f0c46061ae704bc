"""Deformable stages and synchronised norms; what every backbone promises is in test_detector.py."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from timm.models.senet import SEBottleneck, SENet
from torch import Tensor, nn

from tsdlab.config import BackboneConfig
from tsdlab.errors import InputError
from tsdlab.models.backbones import build_backbone
from tsdlab.models.build import build_detector
from tsdlab.models.deformable import DeformableConv2d, make_deformable
from tsdlab.presets import PRESETS

TINY = PRESETS["badges-tiny"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def backbone_config(name: str, **changes: object) -> BackboneConfig:
    return replace(BackboneConfig(name=name, fpn_channels=16, norm="batch", trainable_stages=5), **changes)


def deformable(module: nn.Module) -> list[str]:
    return [name for name, child in module.named_modules() if isinstance(child, DeformableConv2d)]


# One network of each kind of block: basic, grouped bottleneck, and timm's with and without a stride in the middle.
NETWORKS = ["resnet10", "resnext50_32x4d", "timm:legacy_seresnet18", "timm:legacy_seresnext26_32x4d", "timm:resnet10t"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_fresh_deformable_network_computes_what_the_plain_one_does(name: str, norm: str) -> None:
    plain = build_backbone(backbone_config(name, norm=norm)).eval()
    model = build_backbone(backbone_config(name, norm=norm, deformable_stages=(2, 3, 4))).eval()
    new, unknown = model.load_state_dict(plain.state_dict(), strict=False)
    names = deformable(model.body)
    assert {n.split(".")[0] for n in names} == {"layer2", "layer3", "layer4"}
    assert sorted(new) == sorted(f"body.{n}.offset.{kind}" for n in names for kind in ("weight", "bias"))
    assert unknown == []
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = plain(images)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            levels = model.to(memory_format=memory_format)(images.contiguous(memory_format=memory_format))
            for level, value in expected.items():
                torch.testing.assert_close(levels[level], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["0.conv1", "0.conv2", "1.conv1", "1.conv2"]),
        ("resnet50", ["0.conv2", "1.conv2", "2.conv2", "3.conv2"]),
        ("timm:legacy_seresnext26_32x4d", ["0.conv2", "1.conv2"]),
    ],
)
def test_every_3x3_convolution_of_a_stages_blocks_is_deformable(name: str, expected: list[str]) -> None:
    model = build_backbone(backbone_config(name, deformable_stages=(2,)))
    assert deformable(model.body) == [f"layer2.{block}" for block in expected]


def test_a_3x3_shortcut_stays_plain() -> None:
    """SENet154 has them; this one has its blocks, and one per stage."""
    body = SENet(
        SEBottleneck,
        (1, 1, 1, 1),
        groups=64,
        reduction=16,
        inplanes=128,
        input_3x3=True,
        downsample_kernel_size=3,
        downsample_padding=1,
    )
    assert body.layer2[0].downsample[0].kernel_size == (3, 3)
    x = torch.rand(1, 256, 9, 7)
    before = body.layer2.eval()(x)
    names = [name for name, _ in body.named_modules() if name.startswith(("layer2.", "layer3."))]
    assert make_deformable(body, names) == 2
    assert deformable(body) == ["layer2.0.conv2", "layer3.0.conv2"] and body.layer2[0].conv2.groups == 64
    torch.testing.assert_close(body.layer2(x), before, rtol=1e-4, atol=1e-5)


def shifting_convolution(dy: float, dx: float) -> DeformableConv2d:
    """Passes one channel on, every tap moved by (dy, dx) cells."""
    plain = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        plain.weight.zero_()[0, 0, 1, 1] = 1
        conv = DeformableConv2d(plain)
        conv.offset.bias.copy_(torch.tensor([dy, dx]).repeat(9))
    return conv


def test_offsets_move_the_taps() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    right = shifting_convolution(0, 1)(x)
    assert right[0, 0].tolist() == [[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]
    between = shifting_convolution(0.5, 0)(x)
    assert between[0, 0, :2].tolist() == [[2, 3, 4, 5], [6, 7, 8, 9]]


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_autocast_gives_the_type_and_nearly_the_values_of_a_plain_convolution(given: torch.dtype) -> None:
    plain = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4, bias=False)
    conv = DeformableConv2d(plain)
    x = torch.randn(2, 8, 9, 11)
    with torch.autocast("cpu", torch.bfloat16):
        low, answer = plain(x.to(given)), conv(x.to(given))
    exact = plain(x)
    assert answer.dtype == low.dtype == torch.bfloat16
    assert (answer - exact).abs().max() <= 2 * (low - exact).abs().max()
    answer.float().square().sum().backward()
    for parameter in conv.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32 and parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("precise", [True, False], ids=["float32", "autocast"])
def test_a_deformable_detector_trains_all_its_offsets(precise: bool) -> None:
    config = replace(TINY, backbone=replace(TINY.backbone, deformable_stages=(2, 3)))
    model = build_detector(config).train()
    target = {"boxes": torch.tensor([[10.0, 10, 60, 60]]), "labels": torch.tensor([1])}
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        losses = model([torch.rand(3, 128, 128)] * 2, [target, target])
    sum(losses.values()).backward()
    offsets = {name: p for name, p in model.named_parameters() if ".offset." in name and "body" in name}
    assert len(offsets) == 2 * 2 * 2  # stages, convolutions of their one block, weight and bias
    assert [name for name, p in offsets.items() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", ["mobilenetv2_035", "mobilenetv3_small_050", "resnet10t", "convnext_atto"])
@pytest.mark.parametrize("stages", [(1, 2, 3, 4), (2, 3)])
def test_every_trained_parameter_of_a_timm_network_has_a_gradient(name: str, stages: tuple[int, ...]) -> None:
    """timm leaves modules behind the last feature map; distributed training would wait for their gradients."""
    model = build_backbone(backbone_config(f"timm:{name}", stages=stages)).train()
    levels = model(torch.rand(2, 3, 64, 96))
    sum(level.square().sum() for level in levels.values()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None] == []
    frozen = {n.split(".")[2] for n, p in model.named_parameters() if not p.requires_grad}
    behind = {"mobilenetv2_035": {"5", "6"}, "mobilenetv3_small_050": {"4", "5"}} if stages == (2, 3) else {}
    assert frozen == behind.get(name, set())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", r"96 × 160 pixels: Input height \(96\) doesn't match model"),
        ("coatnet_nano_rw_224", "96 × 160 pixels: The size of tensor"),
        ("dla34", "96 × 160 pixels: maps are .*, not"),
        ("inception_v4", "96 × 160 pixels: maps are .*, not"),
    ],
)
def test_a_timm_network_for_other_images_is_refused_when_it_is_built(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"timm model '{name}' cannot be used for images of {reason}.* of any size"):
        build_backbone(backbone_config(f"timm:{name}", stages=(3,)))


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "https://example.org/x", "", "resnet9"]
)
def test_only_timms_own_models_are_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", None)
    with pytest.raises(InputError, match=r"backbone\.name: timm makes no feature backbone .* no such model"):
        build_backbone(backbone_config(f"timm:{name}"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("mobilenetv2_035", "No pretrained weights exist for mobilenetv2_035"), ("resnet10t", "no network here")],
)
def test_weights_that_cannot_be_downloaded_are_an_error_in_one_line(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise LookupError("no network\nhere")  # the hubs raise errors of many kinds

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fails)
    with pytest.raises(
        InputError, match=rf"'{name}' cannot be downloaded: {reason}.*Give a local file: --imagenet FILE$"
    ):
        build_backbone(backbone_config(f"timm:{name}"), "DEFAULT")


def test_the_stem_of_a_timm_network_can_be_frozen_alone() -> None:
    """Its last module is an activation, without a parameter to recognise it by."""
    model = build_backbone(backbone_config("timm:resnet10t", trainable_stages=4))
    assert {n.split(".")[1] for n, p in model.body.named_parameters(prefix="body") if not p.requires_grad} == {
        "conv1",
        "bn1",
    }


def test_offsets_of_a_frozen_stage_are_frozen() -> None:
    for name in ("resnet10", "timm:legacy_seresnet18"):
        model = build_backbone(backbone_config(name, trainable_stages=1, deformable_stages=(3, 4)))
        trains = {n.split(".")[1]: p.requires_grad for n, p in model.named_parameters() if ".offset." in n}
        assert trains == {"layer3": False, "layer4": True}


def test_a_stage_without_a_3x3_convolution_cannot_be_deformable() -> None:
    with pytest.raises(ValueError, match=r"'timm:convnext_atto' has no 3×3 convolution.* in stage 4"):
        build_backbone(backbone_config("timm:convnext_atto", deformable_stages=(4,)))


def pretend_processes(monkeypatch: pytest.MonkeyPatch, backend: str, count: int = 2) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: count)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)


def synchronised(module: nn.Module) -> bool:
    kinds = {
        isinstance(m, nn.SyncBatchNorm) for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    }
    assert len(kinds) == 1, "all or none"
    return kinds.pop()


def answers(model: nn.Module, images: Tensor) -> list[Tensor]:
    return list(model(images).values())


@pytest.mark.parametrize("name", ["resnet10", "timm:legacy_seresnet18", "timm:mobilenetv2_035"])
def test_sync_norms_are_batch_norms_to_one_process_and_to_the_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = build_backbone(backbone_config(name))
    with monkeypatch.context() as patch:
        pretend_processes(patch, "nccl")
        sync = build_backbone(backbone_config(name, norm="sync"))
    assert synchronised(sync.body) and not synchronised(batch.body)
    assert list(sync.state_dict()) == list(batch.state_dict())
    sync.load_state_dict(batch.state_dict())
    images = torch.rand(2, 3, 64, 64)
    for model_mode in (True, False):  # in training, they have no other process to ask here
        torch.testing.assert_close(answers(sync.train(model_mode), images), answers(batch.train(model_mode), images))


def test_sync_norms_stay_plain_where_nothing_can_be_synchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    config = backbone_config("resnet10", norm="sync")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not synchronised(build_backbone(config))
        pretend_processes(monkeypatch, "nccl", count=1)
        assert not synchronised(build_backbone(config))
    pretend_processes(monkeypatch, "gloo")
    with pytest.warns(UserWarning, match=r'backbone.norm "sync" needs CUDA devices'):
        assert not synchronised(build_backbone(config))
