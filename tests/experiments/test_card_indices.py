"""Where detectors of cards look: the annotated corners, and the measures, which on badges are those of the analysis."""

import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset
from torchvision.ops import box_area

import tsdlab
from tsdlab.analysis.analyze import analyze
from tsdlab.analysis.pattern import Pattern
from tsdlab.analysis.sensitivity import TASKS
from tsdlab.analysis.statistics import Tally
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.data.items import as_items
from tsdlab.errors import DataError
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import RegionTrace

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import card_indices
from card_indices import COMMON, GRID, INDICES, MOVED, OWN, Annotated

IMAGES = 2  # of the sample


@pytest.fixture(scope="module")
def items():
    return as_items(Subset(CocoDataset(SAMPLE, "val"), range(IMAGES)))


@pytest.fixture
def write(items, tmp_path):
    """`write(change)` writes an annotation whose one index is the badge; `change` gets the list of its objects."""

    def write(change=lambda objects: None):
        content = json.loads((SAMPLE / "annotations" / "instances_val.json").read_text())
        files = {image["id"]: image["file_name"] for image in content["images"][:IMAGES]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        objects = [
            {
                "file_name": files[a["image_id"]],
                "bbox": a["bbox"],
                "category": names[a["category_id"]],
                "indices": [a["salient_bbox"]],
            }
            for a in content["annotations"]
            if a["image_id"] in files
        ]
        change(objects)
        (tmp_path / "indices.json").write_text(json.dumps({"split": "val", "objects": objects}))
        return tmp_path / "indices.json"

    return write


def test_every_annotated_index_is_on_its_card():
    content = json.loads(INDICES.read_text())
    assert content["split"] == "test" and len(content["objects"]) >= 40
    places = [(entry["file_name"], entry["bbox"]) for entry in content["objects"]]
    assert all(first < second for first, second in pairwise(places))
    for entry in content["objects"]:
        x, y, width, height = entry["bbox"]
        assert 1 <= len(entry["indices"]) <= 4
        corners = set()
        for left, top, wide, high in entry["indices"]:
            assert left >= x - 3 and top >= y - 3 and left + wide <= x + width + 3 and top + high <= y + height + 3
            assert wide > 0 and high > 0 and wide * high < 0.07 * width * height  # the smallest shows half a card
            corners.add((left + wide / 2 > x + width / 2, top + high / 2 > y + height / 2))
        assert len(corners) == len(entry["indices"]), "each is in a quarter of its own"


def test_on_badges_the_measures_are_those_of_the_analysis(items, write):
    model = tsdlab.load_detector("badges-tsd")
    found = card_indices.look(model, items.for_model(model), Annotated(write()), replicates=10)
    whole = analyze(model, items, replicates=10, progress=False)
    assert found.cards == whole.misalignment.objects and found.proposals > 20
    assert found.on_index[GRID].value == pytest.approx(whole.displacement.mean("grid_on_salient"))
    assert found.on_index[MOVED].value == pytest.approx(whole.displacement.mean("moved_on_salient"))
    assert found.on_index[OWN].value != found.on_index[MOVED].value
    gain = found.gain_on_index[MOVED].value
    assert gain == pytest.approx(found.on_index[MOVED].value - found.on_index[GRID].value) and gain > 0
    for branch, levels in found.peaks.items():
        finest = whole.misalignment.maps["gradients"]["0"][branch]
        assert finest["salient_area"].count == found.cards, "of these objects, some proposal is pooled from level 0"
        for measure, estimate in levels["finest"].items():
            assert estimate.value == pytest.approx(finest[measure].value), measure
        classification, localization = (levels["finest"][f"{task}_peak_on_salient"].value for task in TASKS)
        assert found.difference[branch]["finest"].value == pytest.approx(classification - localization)
    assert set(found.peaks) == {"sibling", "tsd"} and found.difference["tsd"]["finest"].value > 0.3
    for loss in found.loss.values():
        assert loss["indices"].value > max(0.2, 5 * abs(loss["mirrored"].value)), "the badge alone tells the class"
    shares = [
        box_area(target["salient_boxes"]) / box_area(target["boxes"]) for target in (items[i][1] for i in range(IMAGES))
    ]
    assert found.chance_on_card.value == pytest.approx(torch.cat(shares).mean().item())


@pytest.mark.parametrize(
    ("levels", "main", "finest"),
    [([2, 1, 2, 0], "2", "1"), ([1, 2, 1, 0], "1", "1"), ([2, 2, 2, 0], "2", "2"), ([], "own", "own")],
)
def test_levels_of_a_card_are_those_of_the_proposals_on_it(levels, main, finest):
    """The last proposal is beside the card."""
    box = torch.tensor([10.0, 10.0, 50.0, 30.0])
    proposals = torch.stack([box, box, box, box + 60])[: len(levels)].reshape(-1, 4)
    trace = SimpleNamespace(proposals=proposals, levels=torch.tensor(levels, dtype=torch.int64))
    probe = SimpleNamespace(pooled=("0", "1", "2"), level_of=lambda box: "own")
    assert card_indices.levels_of(probe, trace, box) == {"main": main, "finest": finest}


def test_the_common_pattern_is_taken_off_the_bins_by_hand():
    """P is 70 × 140; all bins move by (0.1, 0) of it, the pattern is (0.1, 0.05). Grid: x 5, 15, …, y 10, 30, …"""
    proposals = torch.tensor([[0.0, 0.0, 70.0, 140.0]] * 2)
    offsets = torch.tensor([0.1, 0.0]).expand(2, 7, 7, 2)
    region = RegionTrace(proposals, bin_centres(proposals, offsets), offsets, True)
    followed = SimpleNamespace(objects=torch.tensor([3, 4]), proposals=proposals, regions={"classification": region})
    pattern = Pattern(torch.tensor([0.1, 0.05]).expand(7, 7, 2), 1)
    tally = Tally(2)
    tally.begin(0)
    # The first holds bins at x 5. The others hold (72, 10) and (72, 17), which are outside of P.
    parts = [[4.0, 0.0, 6.0, 140.0], [71.0, 8.0, 73.0, 12.0], [71.0, 16.0, 73.0, 18.0]]
    card_indices.tally_points(tally, followed, pattern, {3: torch.tensor(parts)})
    found = card_indices.looked(tally)
    assert found.proposals == 1
    shares = {name: round(49 * of.value, 3) for name, of in found.on_index.items()}
    assert shares == {GRID: 7, MOVED: 1, OWN: 7, COMMON: 1}  # OWN is P's grid 7 pixels higher
    by_bin = [
        min(math.hypot(max(x1 - x, x - x2, 0) / 70, max(y1 - y, y - y2, 0) / 140) for x1, y1, x2, y2 in parts)
        for x in range(5, 70, 10)
        for y in range(10, 140, 20)
    ]
    assert found.distance[GRID].value == pytest.approx(sum(by_bin) / 49, rel=1e-4)
    assert found.gain_distance[MOVED].value == pytest.approx(found.distance[MOVED].value - found.distance[GRID].value)


def test_patches_have_the_size_of_the_indices_and_are_elsewhere_on_the_card():
    box, parts = torch.tensor([10.0, 20.0, 110.0, 220.0]), torch.tensor([[15.0, 30.0, 25.0, 60.0]])
    found = card_indices.patches(box, parts)
    assert list(found) == list(card_indices.PATCHES) and found["indices"].tolist() == parts.tolist()
    assert found["mirrored"].tolist() == [[95.0, 30.0, 105.0, 60.0]]
    torch.testing.assert_close(found["middle"], torch.tensor([[49.0, 93.75, 59.0, 123.75]]))


@pytest.mark.parametrize(
    "box", [(4.0, 3.0, 8.0, 9.0), (4.3, 3.9, 7.6, 8.1), (-3.0, -1.0, 2.5, 4.0), (17.2, 12.0, 23.0, 19.0)]
)
def test_a_patch_gets_the_colour_around_it(box):
    """A black patch on an image of one colour, which is another from three rows below the patch on."""
    colour = torch.tensor([0.9, 0.5, 0.1])[:, None, None]
    image = colour.expand(3, 15, 20).clone()
    x1, y1, x2, y2 = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0), math.ceil(box[2]), math.ceil(box[3])
    image[:, y1:y2, x1:x2] = 0.0
    image[:, y2 + 3 :] = 0.3
    before = image.clone()
    painted = card_indices.paint_over(image, torch.tensor([box]))
    assert torch.equal(painted[:, y1:y2, x1:x2], colour.expand_as(painted[:, y1:y2, x1:x2]))
    painted[:, y1:y2, x1:x2] = 0.0
    assert torch.equal(painted, before) and torch.equal(image, before)


BOXES = st.lists(st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(1, 60)] * 2), min_size=1, max_size=3)
PAIRS = [st.tuples(*[st.floats(low, 99)] * 2) for low in (-99, 1)]


@given(BOXES, *PAIRS)
def test_the_nearest_point_of_the_boxes_is_found(boxes, point, size):
    """By the closest of each box's places on a fine grid, of which one is at most half a step away."""
    corners = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in boxes])
    found = card_indices.nearest(torch.tensor(point), corners, torch.tensor(size)).item()
    steps = torch.linspace(0, 1, 101)
    places = torch.cat(
        [torch.cartesian_prod(x1 + steps * (x2 - x1), y1 + steps * (y2 - y1)) for x1, y1, x2, y2 in corners]
    )
    closest = ((places - torch.tensor(point)) / torch.tensor(size)).norm(dim=1).min().item()
    step = max(math.hypot(w / size[0], h / size[1]) for _, _, w, h in boxes) / 200
    assert closest - step - 1e-4 <= found <= closest + 1e-4
    inside = any(x <= point[0] <= x + w and y <= point[1] <= y + h for x, y, w, h in boxes)
    assert not inside or found < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda objects: objects[0].update(file_name="other.png"), r"has no image other\.png, which .*indices\.json"),
        (lambda objects: objects[0].update(bbox=[1, 2, 30, 40]), r"has no \w+ at \[1, 2, 30, 40\] in .*--data"),
        (lambda objects: objects[0].update(category="joker"), r"has no joker at .*--data"),
    ],
)
def test_an_annotation_of_other_data_is_refused(items, write, change, message):
    model = tsdlab.load_detector("badges-sibling")
    with pytest.raises(DataError, match=message):
        card_indices.look(model, items.for_model(model), Annotated(write(change)), replicates=2)


def test_the_script_prints_its_tables_and_writes_its_results(write, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tsdlab.shipped.RESULTS", tmp_path)
    file = write(lambda objects: objects.__delitem__(slice(1, None)))
    options = ["--data", str(SAMPLE), "--indices", str(file), "--out", "looked"]
    monkeypatch.setattr(sys, "argv", ["card_indices.py", "badges-sibling", "badges-tsd", *options])
    card_indices.main()
    printed = capsys.readouterr().out
    assert "badges-sibling: 1 cards" in printed and "tsd, finest level" in printed
    assert printed.count("P̂c without the common pattern") == 1, "the sibling head moves nothing"
    models = json.loads((tmp_path / "looked.json").read_text())["models"]
    assert models["badges-sibling"]["proposals"] == 0 < models["badges-tsd"]["proposals"]
    assert f"{models['badges-tsd']['proposals']} proposals" in printed


def test_weights_are_called_after_their_run():
    assert card_indices.name_of("runs/cards-tsd-0/weights.safetensors") == "cards-tsd-0"
    assert card_indices.name_of("badges-tsd") == "badges-tsd"
