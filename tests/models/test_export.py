"""A detector as a program: it detects the same, in a process that has never heard of tsdlab."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tsdlab
from tsdlab.config import HEADS, Config
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import ExistingFileError, InputError
from tsdlab.models.build import build_detector
from tsdlab.models.detector import Detector
from tsdlab.models.export import OneImage, export_detector
from tsdlab.shipped import SAMPLE
from tsdlab.structures import Category

ELSEWHERE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch, torchvision
extra = {"categories.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra).module()
images = torch.load(sys.argv[2])
found = [program(image) for image in images]
torch.save({"found": found, "categories": json.loads(extra["categories.json"])}, sys.argv[3])
assert "tsdlab" not in sys.modules
"""


def lively(config: Config, head: str, **roi: object) -> Detector:
    """A random detector that finds many boxes of all classes."""
    torch.manual_seed(0)
    config = replace(config, head=head, num_classes=3, roi=replace(config.roi, **{"score_thresh": 0.02, **roi}))
    model = build_detector(config).eval()
    with torch.no_grad():
        for name, parameter in model.roi_heads.head.named_parameters():
            if name.endswith("out.weight") or "box_predictor" in name:
                parameter.normal_(std=0.2)
    return model


def assert_same(found: tuple[Tensor, Tensor, Tensor], expected: dict[str, Tensor]) -> None:
    boxes, labels, scores = found
    assert torch.equal(labels, expected["labels"])
    torch.testing.assert_close(boxes, expected["boxes"], rtol=0, atol=1e-3)
    torch.testing.assert_close(scores, expected["scores"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", [(64, 64), (50, 91)])
def test_fixed_numbers_of_boxes_detect_the_same(head: str, size: tuple[int, int], tiny_config: Config) -> None:
    model = lively(tiny_config, head, detections_per_image=7)
    if head == "iou":
        model.roi_heads.head.config = replace(model.config.iou, guided_nms=False, refinement_steps=0)
    program = OneImage(model, *size, plain=True)
    with torch.no_grad():
        for seed in range(3):
            image = torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))
            (expected,) = model([image])
            assert len(expected["scores"]) == 7
            assert_same(program(image), expected)


@pytest.mark.parametrize("nms", ["hard", "linear", "gaussian"])
def test_every_rule_of_suppression(nms: str, tiny_config: Config) -> None:
    model = lively(tiny_config, "sibling", nms=nms, pre_nms_top_n=30, score_thresh=0.262)
    with torch.no_grad():
        image = torch.rand(3, 64, 64)
        (expected,) = model([image])
        assert 0 < len(expected["scores"]) < 30
        assert_same(OneImage(model, 64, 64)(image), expected)


@pytest.mark.slow
def test_a_program_runs_where_tsdlab_is_not(tmp_path: Path) -> None:
    model, val = tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val")
    images = [val[i][0] for i in range(3)] + [torch.zeros_like(val[0][0])]
    export_detector(model, tmp_path / "tsd.pt2", *images[0].shape[1:])
    torch.save(images, tmp_path / "images.pt")
    arguments = [tmp_path / name for name in ("tsd.pt2", "images.pt", "found.pt")]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, arguments)], check=True, cwd=tmp_path, timeout=120)
    answer = torch.load(tmp_path / "found.pt")
    with torch.no_grad():
        for image, found in zip(images, answer["found"]):
            assert_same(found, model([image])[0])
    assert sum(len(found[2]) for found in answer["found"]) > 3 and len(answer["found"][3][2]) == 0
    assert answer["categories"] == [{"id": c.id, "name": c.name} for c in model.categories]


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_a_program(head: str, tiny_config: Config, tmp_path: Path) -> None:
    model = lively(tiny_config, head)
    model.categories = tuple(Category(i, str(i)) for i in range(3))
    export_detector(model, tmp_path / "w.pt2", 64, 80, plain=True)
    if head == "iou":
        model.roi_heads.head.config = replace(model.config.iou, guided_nms=False, refinement_steps=0)
    program, image = torch.export.load(tmp_path / "w.pt2").module(), torch.rand(3, 64, 80)
    found = program(image)
    assert not any(each.requires_grad for each in found) and all(p.requires_grad for p in model.roi_heads.parameters())
    with torch.no_grad():
        assert_same(found, model([image])[0])
    assert not any("tsdlab" in str(node.target) for node in program.graph.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_an_onnx_model(head: str, tiny_config: Config, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs tsdlab[onnx]")
    runtime = pytest.importorskip("onnxruntime", reason="needs tsdlab[onnx]")
    model = lively(tiny_config, head)
    model.categories = tuple(Category(i, str(i)) for i in range(3))
    export_detector(model, tmp_path / "w.onnx", 64, 80, plain=True)
    if head == "iou":
        model.roi_heads.head.config = replace(model.config.iou, guided_nms=False, refinement_steps=0)
    session = runtime.InferenceSession(tmp_path / "w.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["categories"])[2] == {"id": 2, "name": "2"}
    image = torch.rand(3, 64, 80)
    found = session.run(["boxes", "labels", "scores"], {"image": image.numpy()})
    with torch.no_grad():
        assert_same(tuple(torch.from_numpy(value) for value in found), model([image])[0])


def test_what_cannot_be_exported_is_named(tiny_config: Config, tmp_path: Path) -> None:
    model = lively(tiny_config, "iou")
    with pytest.raises(InputError, match=r"the iou head ranks boxes by a predicted IoU or refines them.* --plain"):
        export_detector(model, tmp_path / "w.pt2", 64, 64)
    with pytest.raises(InputError, match=r"must end in \.pt2 or \.onnx, got 'w\.pth'"):
        export_detector(model, tmp_path / "w.pth", 64, 64, plain=True)
    with pytest.raises(InputError, match="height must be a whole number from 1"):
        export_detector(model, tmp_path / "w.pt2", 0, 64, plain=True)
    (tmp_path / "w.pt2").touch()
    with pytest.raises(ExistingFileError, match="--overwrite"):
        export_detector(model, tmp_path / "w.pt2", 64, 64, plain=True)
    assert (tmp_path / "w.pt2").read_bytes() == b""
