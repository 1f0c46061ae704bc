"""The second stage that a page computes, against Python: scores to 1e-3, boxes and points to 0.05 px."""

import base64
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tsdlab
import tsdlab.widgets.second_stage
from tsdlab.analysis.proposal import GroundTruth, ask_levels
from tsdlab.config import TSDConfig
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe
from tsdlab.presets import PRESETS
from tsdlab.randomness import drawing_from
from tsdlab.widgets.page import compose_script
from tsdlab.widgets.second_stage.packing import Packed, TooLarge, pack_head, pack_pyramid

lab = pytest.importorskip("lab", reason="needs playwright: pip install -e '.[lab,test]'")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="needs a chromium"),
]

FOLDER = Path(tsdlab.widgets.second_stage.__file__).parent

ANSWER = """async ({script, head, pyramid, proposals, objects, level}) => {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { SecondStage, nearestOf, unpackLayers, unpackPyramid } = (await import(url)).default;
  const view = (text) => new DataView(Uint8Array.from(atob(text), (each) => each.charCodeAt(0)).buffer);
  const stage = new SecondStage(head.about, unpackLayers(head.about, view(head.values)));
  const image = unpackPyramid(pyramid.about, view(pyramid.values));
  return proposals.map((proposal) => {
    const nearest = nearestOf(proposal, objects);
    return { nearest, ...stage.answer(image, proposal, nearest, nearest && objects[nearest.index].box, level) };
  });
}"""


@pytest.fixture(scope="module")
def page(browser):
    return browser.new_page()


def computed(page, detector, probe, proposals, truth, level=None):
    """What the page answers about proposals [K, 4]."""
    parts = [compose_script(FOLDER / name) for name in ("answer.js", "unpack.js")]
    script = "\n".join([*parts, "export default { SecondStage, nearestOf, unpackLayers, unpackPyramid };"])
    packed = {"head": pack_head(detector), "pyramid": pack_pyramid(probe)}
    assert all(isinstance(each, Packed) for each in packed.values())
    sent = {
        name: {"about": each.about, "values": base64.b64encode(each.values).decode()} for name, each in packed.items()
    }
    objects = [
        {"box": box, "label": label, "name": str(label)}
        for box, label in zip(truth.boxes.tolist(), truth.labels.tolist())
    ]
    given = {"script": script, "proposals": proposals.tolist(), "objects": objects, "level": level, **sent}
    return page.evaluate(ANSWER, given)


def agree(page, detector, image, proposals, truth, level=None):
    """Compare everything that both say, for every level and branch."""
    probe = Probe(detector, image)
    for box, found in zip(proposals, computed(page, detector, probe, proposals, truth, level), strict=True):
        expected = ask_levels(probe, tuple(box.tolist()), truth, level)
        assert (found["level"], found["assigned"]) == (expected.level, expected.assigned)
        assert list(found["levels"]) == list(expected.levels)
        for name, at_level in expected.levels.items():
            branches = found["levels"][name]["branches"]
            assert list(branches) == list(at_level.branches)
            for branch, answer in at_level.branches.items():
                close(branches[branch]["scores"], answer.scores, 1e-3)
                close(branches[branch]["box"], answer.boxes[branches[branch]["label"]], 0.05)
                if answer.iou is not None:
                    assert branches[branch]["label"] == answer.label
                    close(branches[branch]["iou"], torch.tensor(answer.iou), 2e-3)
            compare_regions(found["levels"][name]["regions"], at_level.regions, box)
        for term, one in zip(
            found["constraint"], (expected.classification_constraint, expected.localization_constraint)
        ):
            assert (term is None) == (one is None)
            if one is not None:
                close(term["value"], torch.tensor(one.value), 3e-3)


def compare_regions(found, expected, box):
    assert set(found) == set(expected)
    size = max(1.0, (box[2:] - box[:2]).max().item(), box.abs().max().item())
    for task, region in expected.items():
        close(found[task]["box"], region.boxes, 0.05 + 1e-5 * size)
        assert (found[task]["points"] is not None) == region.deformed
        if region.deformed:
            close(found[task]["points"], region.points.flatten(0, 1), 0.05 + 1e-5 * size)
        if (box[2:] - box[:2]).min() > 1e-4 * size:  # in fractions of a thinner box, rounding of float32 is seen
            close(found[task]["moved"], region.moved, 2e-3)


def close(found, expected, tolerance):
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected.double(), atol=tolerance, rtol=0)


def random_boxes(count, width, height, seed=0):
    """Boxes over the image and its surroundings."""
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed))
    corners = (corners * 1.4 - 0.2) * torch.tensor([width, height])
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


@pytest.mark.parametrize("name", ["badges-sibling", "badges-d_head", "badges-tsd"])
def test_shipped_models_on_random_proposals(page, name):
    image, target = tsdlab.data.CocoDataset(tsdlab.data.SAMPLE, "val")[0]
    agree(page, tsdlab.load_detector(name), image, random_boxes(60, 128, 128), GroundTruth.of(target))


BASE = PRESETS["badges-tiny"]
VARIANTS = {
    "sibling, torchvision's grid": replace(BASE, head="sibling", roi=replace(BASE.roi, aligned=False)),
    "d_head, five bins, three samples": replace(
        BASE, head="d_head", roi=replace(BASE.roi, output_size=5, sampling_ratio=3)
    ),
    "tsd without sibling": replace(
        BASE, head="tsd", tsd=TSDConfig(joint_sibling=False, progressive_constraint=False, gamma=0.3)
    ),
    "tsd, one displacement, own trunk": replace(
        BASE, head="tsd", tsd=TSDConfig(classification_region="proposal", share_first_layer=False, gamma=0.3)
    ),
    "tsd, bins for the box": replace(BASE, head="tsd", tsd=TSDConfig(localization_region="bins", gamma=0.3)),
    "tsd, a single bin for the box": replace(
        BASE,
        head="tsd",
        roi=replace(BASE.roi, output_size=1),
        tsd=TSDConfig(localization_region="bins", gamma=0.3),
    ),
    "sibling, nine bins, one sample, one level of the backbone": replace(
        BASE,
        head="sibling",
        backbone=replace(BASE.backbone, stages=(3,)),
        rpn=replace(BASE.rpn, anchor_sizes=(24, 40)),
        roi=replace(BASE.roi, output_size=9, sampling_ratio=1),
    ),
    "d_head, 200 classes, narrow, small objects": replace(
        BASE, head="d_head", num_classes=200, roi=replace(BASE.roi, hidden=3, canonical_size=56)
    ),
    "tsd, γ = 0": replace(BASE, head="tsd", tsd=TSDConfig(gamma=0)),
    "tsd without margins": replace(
        BASE, head="tsd", tsd=TSDConfig(classification_margin=None, localization_margin=None)
    ),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    """A detector with random weights, also where training starts from zero."""
    generator = torch.Generator().manual_seed(1)
    with drawing_from({"cpu": torch.Generator().manual_seed(0)}):  # the backbone
        detector = build_detector(VARIANTS[request.param]).eval()
    with torch.no_grad():
        for parameter in detector.roi_heads.parameters():
            spread = 1 / math.sqrt(parameter[0].numel()) if parameter.dim() > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return detector


def test_every_variant_of_a_head_on_an_image_that_is_resized(page, variant):
    image = torch.rand(3, 90, 150, generator=torch.Generator().manual_seed(2))
    truth = GroundTruth(torch.tensor([[10.0, 20, 60, 80], [70, 10, 140, 70]]), torch.tensor([1, 3]))
    agree(page, variant, image, random_boxes(15, 150, 90), truth)
    last = str(len(variant.config.backbone.stages) - 1)
    agree(page, variant, image, random_boxes(5, 150, 90, seed=3), truth, level=last)


HOSTILE = [
    [30, 30, 30, 30],  # no area
    [30, 30, 30, 90],  # no width
    [0, 0, 128, 128],
    [-500, -500, 600, 700],
    [500, 500, 600, 600],  # far outside
    [-300, 20, -200, 60],
    [127.999, 127.999, 128, 128],
    [-1e6, -1e6, 1e6, 1e6],
    [1e6 - 1, 5, 1e6, 6],
    [0.1, 64, 0.1000001, 64.0000001],
    [-0.5, -0.5, 111.5, 111.5],  # the size at which levels change
    [10, 10, 66, 66],
]


@pytest.mark.parametrize("name", ["badges-sibling", "badges-tsd"])
def test_hostile_boxes(page, name):
    image, target = tsdlab.data.CocoDataset(tsdlab.data.SAMPLE, "val")[0]
    agree(page, tsdlab.load_detector(name), image, torch.tensor(HOSTILE, dtype=torch.float32), GroundTruth.of(target))


def test_an_image_without_objects(page):
    image = torch.rand(3, 128, 128)
    agree(page, tsdlab.load_detector("badges-tsd"), image, random_boxes(4, 128, 128), GroundTruth())


KEPT = """async (script) => {
  const { Computing } = (await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })))).default;
  const computing = new Computing();
  computing.takeHeads([], []);
  for (let index = 0; index < 12; index++) computing.takePyramids(index, [], []);
  computing.answer({ index: 0, objects: [] }, [0, 0, 1, 1], null);
  return [computing.takePyramids(12, [], []), computing.has(0), computing.has(1)];
}"""


def test_the_image_in_use_is_kept_when_others_arrive(page):
    script = compose_script(FOLDER.parent / "explorer" / "computing.js") + "\nexport default { Computing };"
    assert page.evaluate(KEPT, script) == ["null 1", True, False]


def test_what_a_page_cannot_compute_is_named(monkeypatch):
    double = build_detector(replace(BASE, head="double"))
    assert pack_head(double) == TooLarge("the head 'double' runs in Python only")
    for samples, fits in ((8, True), (64, False)):
        dense = pack_head(build_detector(replace(BASE, head="sibling", roi=replace(BASE.roi, sampling_ratio=samples))))
        assert isinstance(dense, Packed) if fits else "million multiplications" in dense.reason
    tsd = tsdlab.load_detector("badges-tsd")
    monkeypatch.setattr(tsdlab.widgets.second_stage.packing, "MOST_MULTIPLICATIONS", 1e6)
    assert "million multiplications" in pack_head(tsd).reason
    monkeypatch.setattr(tsdlab.widgets.second_stage.packing, "MOST_FEATURES", 1e4)
    assert "million values" in pack_pyramid(Probe(tsd, torch.rand(3, 64, 64))).reason


def test_weights_that_float16_cannot_hold_stay_in_python():
    tsd = tsdlab.load_detector("badges-tsd")
    with torch.no_grad():
        tsd.roi_heads.head.classification.out.weight[0, 0] = 1e6
    assert pack_head(tsd) == TooLarge("weights of the head are larger than float16 can hold")
