"""The explorer without a browser: state in, answers out. `tests/browser` looks at the page."""

import base64
import gc
import io
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_heads import OwnHead, both_deformed
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn

import tsdlab
from tsdlab.analysis.proposal import GroundTruth, ask_levels, find_conflict
from tsdlab.figures.style import PALETTE
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe
from tsdlab.widgets.explorer import widget as widget_module
from tsdlab.widgets.explorer.messages import maps_message
from tsdlab.widgets.explorer.state import ExplorerState


def test_answers_are_those_of_a_trace(explorer, models, dataset):
    explorer.proposal = (10, 20, 60, 90)
    traced = tsdlab.trace(models["tsd"], dataset[0][0], torch.tensor([[10.0, 20.0, 60.0, 90.0]]))
    answer = explorer.answer
    torch.testing.assert_close(answer.tsd.scores, traced.branches["tsd"].scores[0])
    torch.testing.assert_close(answer.sibling.boxes, traced.branches["sibling"].boxes[0])
    for task, region in traced.regions.items():
        torch.testing.assert_close(answer.regions[task].points, region.points[0])
        torch.testing.assert_close(answer.regions[task].boxes, region.boxes[0])
        torch.testing.assert_close(answer.regions[task].moved, region.moved[0])
    assert answer.level == answer.assigned == list(answer.levels)[traced.levels[0]]
    with pytest.raises(AttributeError, match="no branch 'double'"):
        _ = answer.double


def test_every_level_answers_and_one_is_in_use(explorer, models, dataset):
    assigned = explorer.answer.assigned
    other = next(level for level in explorer.answer.levels if level != assigned)
    before = explorer.answer.levels[other]
    explorer.level = other
    assert explorer.answer.level == other and explorer.answer.assigned == assigned
    torch.testing.assert_close(explorer.answer.tsd.scores, before.branches["tsd"].scores)
    expected = Probe(models["tsd"], dataset[0][0]).ask(torch.tensor([explorer.proposal]), other)
    torch.testing.assert_close(
        explorer.answer.regions["classification"].points, expected.regions["classification"].points[0]
    )


def test_constraint_needs_both_branches_a_margin_and_an_object(explorer, models, dataset):
    term = explorer.answer.classification_constraint
    assert term.sibling == explorer.answer.sibling.score and term.own == explorer.answer.tsd.score
    assert explorer.answer.localization_constraint.own == explorer.answer.tsd.iou
    assert tsdlab.explore(models["sibling"], dataset).answer.classification_constraint is None
    explorer.proposal = (500, 500, 510, 510)
    assert explorer.answer.classification_constraint is None


def test_no_margin_no_term(models, dataset):
    model = build_detector(
        replace(models["tsd"].config, tsd=replace(models["tsd"].config.tsd, classification_margin=None))
    )
    model.load_state_dict(models["tsd"].state_dict())
    answer = tsdlab.explore(model, dataset).answer
    assert answer.classification_constraint is None and answer.localization_constraint is not None


def test_conflict_is_the_iou_lost_by_letting_the_score_choose(models, dataset):
    image, target = dataset[4]
    truth = GroundTruth(target["boxes"], target["labels"])
    probe = Probe(models["tsd"], image)
    conflict = find_conflict(probe, truth)
    assert truth.labels[conflict.object] == conflict.label
    answers = [ask_levels(probe, each.proposal, truth) for each in (conflict.by_score, conflict.by_iou)]
    for answer, each in zip(answers, (conflict.by_score, conflict.by_iou)):
        assert answer.nearest.index == conflict.object
        assert (answer.tsd.score, answer.tsd.iou) == pytest.approx((each.score, each.iou), abs=1e-4)
        torch.testing.assert_close(answer.tsd.box, torch.tensor(each.box), atol=1e-2, rtol=0)
    assert conflict.gap == conflict.by_iou.iou - conflict.by_score.iou >= 0
    assert conflict.by_score.score >= conflict.by_iou.score
    assert find_conflict(probe, GroundTruth()) is None


def test_an_image_without_objects(models, dataset):
    explorer = tsdlab.explore(models["tsd"], dataset[0][0], underlay="classification")
    assert explorer.answer.nearest is None and explorer.answer.tsd.iou is None and explorer._maps == {}
    assert explorer.answer.tsd.label == int(explorer.answer.tsd.scores[1:].argmax()) + 1
    assert "image/png" in explorer._repr_mimebundle_()[0]
    with pytest.raises(ValueError, match="no image has"):
        explorer.category = "star"
    explorer.order = "disagreement"
    assert explorer._image["conflict"] is None


@pytest.mark.parametrize("given", ["tsd", "sibling", "both"])
def test_an_image_is_opened_on_a_shifted_proposal_that_the_branches_read_differently(models, dataset, given):
    explorer = tsdlab.explore(models if given == "both" else models[given], dataset)
    apart = []
    for index in range(1, 6):
        explorer.image_index = index
        assert len(explorer.truth.boxes) == len(dataset[index][1]["boxes"]) == len(explorer._image["objects"])
        assert explorer._answer["image"] == index and explorer._answer["proposal"] == pytest.approx(explorer.proposal)
        assert explorer.answer.nearest.overlap == pytest.approx(0.55, abs=5e-3)
        says = [(b.score, b.iou) for answer in explorer.answers.values() for b in answer.branches.values()]
        scores, ious = zip(*says)
        apart.append(max(scores) - min(scores) + max(ious) - min(ious) if len(says) > 1 else abs(scores[0] - ious[0]))
    assert min(apart) > 0.2 and sum(apart) / len(apart) > 0.5


def test_an_image_without_objects_is_opened_on_the_best_proposal_of_the_rpn(models, dataset):
    explorer = tsdlab.explore(models["tsd"], dataset[4][0])
    assert list(explorer.proposal) == explorer._image["proposals"]["tsd"][0][:4]


def test_next_and_previous_go_round(explorer, tell):
    explorer.previous()
    assert explorer.image_index == 11
    explorer.next()
    assert explorer.image_index == 0
    tell(go=1)
    assert explorer.image_index == 1


def test_filters_leave_images_with_such_an_object(explorer, dataset):
    explorer.category, explorer.size = "moon", "medium"
    moons = [
        index
        for index, (_, target) in enumerate(dataset)
        if any(label == 6 and 32**2 <= area < 96**2 for label, area in zip(target["labels"], target["area"]))
    ]
    assert explorer._listed == moons and explorer.image_index == moons[0]
    assert explorer._image["listed"] == len(moons) and explorer._image["position"] == 1
    explorer.next()
    assert explorer.image_index == moons[1 % len(moons)]
    with pytest.raises(ValueError, match="an object of class moon and size large"):
        explorer.size = "large"
    assert explorer.size == "medium"
    explorer.category = None


def test_sorted_by_disagreement_within_the_bound(models, dataset):
    explorer = tsdlab.explore(models["tsd"], dataset, scan=5, order="disagreement")
    gaps = {index: explorer._session.scan.conflict("tsd", index).gap for index in range(5)}
    assert sorted(explorer._listed[:5]) == list(range(5))
    assert explorer._listed[5:] == list(range(5, 12))
    assert explorer.image_index == explorer._listed[0]
    conflict = explorer._image["conflict"]
    assert conflict["by_iou"]["iou"] - conflict["by_score"]["iou"] == max(gaps.values())
    assert list(explorer.proposal) == pytest.approx(conflict["by_score"]["proposal"], abs=0.01)
    assert explorer.answer.nearest.index == conflict["index"]
    assert explorer.names[explorer.answer.nearest.label - 1] == conflict["name"]
    explorer.order = "file"
    assert explorer._image["conflict"] is None


def messages_of(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer, "send", lambda content, *_: sent.append(content))
    return sent


def test_the_page_sees_the_order_by_disagreement_grow(models, dataset, monkeypatch):
    monkeypatch.setattr(widget_module, "_SCAN", 0)  # seconds for each request: one image
    explorer = tsdlab.explore(models["tsd"], dataset, scan=5, image_index=7)
    sent = messages_of(explorer, monkeypatch)
    explorer._receive(explorer, {"serial": 1, "set": {"order": "disagreement"}}, [])
    assert sent[-1] == {"progress": [1, 5], "go_on": True}
    assert explorer.image_index == 0 and explorer._image["conflict"]  # the best one so far
    for done in range(2, 6):
        explorer._receive(explorer, {"need": "scan"}, [])
        assert sent[-1] == {"progress": [done, 5], "go_on": done < 5}
    whole = tsdlab.explore(models["tsd"], dataset, scan=5, order="disagreement")
    assert explorer.image_index == whole.image_index == whole._listed[0] and explorer._listed == whole._listed
    assert explorer._image == whole._image and explorer.proposal == whole.proposal
    sent.clear()
    explorer.order = "file"
    explorer._receive(explorer, {"need": "scan"}, [])  # on its way when the order was changed
    assert not sent and explorer._image["conflict"] is None


@pytest.mark.parametrize("request_", [{"go": 1}, {"set": {"proposal": [1, 2, 30, 40]}, "quiet": True}])
def test_what_somebody_looks_at_is_not_taken_away_when_the_order_is_known(models, dataset, monkeypatch, request_):
    monkeypatch.setattr(widget_module, "_SCAN", 0)
    explorer = tsdlab.explore(models["tsd"], dataset, scan=6)
    explorer._receive(explorer, {"serial": 1, "set": {"order": "disagreement"}}, [])
    explorer._receive(explorer, {"serial": 2, **request_}, [])
    before = explorer.image_index, explorer.proposal
    for _ in range(6):
        explorer._receive(explorer, {"need": "scan"}, [])
    assert (explorer.image_index, explorer.proposal) == before
    assert explorer._image["position"] == explorer._listed.index(explorer.image_index) + 1


def test_images_that_were_seen_leave_nothing_behind(explorer):
    def held():
        gc.collect()
        things = gc.get_objects()
        return sum(type(t) is Probe for t in things), sum(t.numel() for t in things if type(t) is torch.Tensor)

    explorer.image_index = 11
    before = held()
    for _ in range(24):  # twice all of them
        explorer.next()
    assert explorer.image_index == 11 and held() == before


def test_models_side_by_side_answer_about_one_proposal(models, dataset):
    explorer = tsdlab.explore(models, dataset, proposal=(20, 20, 70, 80))
    assert list(explorer.answers) == ["sibling", "tsd"] and explorer.focus == "tsd"
    assert explorer.answers["sibling"].regions == {}
    assert [series["label"] for series in explorer._fixed["series"]] == ["sibling", "sibling in tsd", "tsd"]
    assert [series["line"] for series in explorer._fixed["series"]] == ["dotted", "dashed", "solid"]
    explorer.focus = "sibling"
    assert explorer.answer is explorer.answers["sibling"]


def level_messages(model, dataset, head):
    """What the page of an explorer is told of each level, and the answers; `model` with another head."""
    other = build_detector(replace(model.config, head="double"))
    other.load_state_dict(model.state_dict(), strict=False)
    if head is not None:
        other.roi_heads.head = OwnHead(other.config, head)
    explorer = tsdlab.explore({"own": other.eval()}, dataset, proposal=(20, 20, 70, 90))
    json.dumps(explorer._answer, allow_nan=False)
    assert base64.b64decode(explorer._repr_mimebundle_()[0]["image/png"]).startswith(b"\x89PNG")
    return explorer._answer["models"]["own"]["levels"], explorer.answer.levels


def test_the_page_is_told_the_enlarged_region_of_double_head(models, dataset):
    told, answers = level_messages(models["tsd"], dataset, None)
    assert told.keys() == answers.keys() == {"0", "1", "2"}
    for level, message in told.items():
        (region,) = message["regions"].values()
        assert list(message["regions"]) == ["localization"] and region["points"] is None
        assert region["box"] == pytest.approx([12.5, 9.5, 77.5, 100.5], abs=0.01)  # 1.3 times as wide and high
        assert region["moved"] == pytest.approx(0.3 * 0.37893, abs=1e-4)  # see tests/models/test_regions.py
        (branch,) = answers[level].branches.values()
        assert message["branches"] == {"double": {"score": branch.score, "iou": branch.iou}}


def test_the_page_is_told_the_regions_of_a_head_of_one_s_own(models, dataset):
    told, answers = level_messages(models["tsd"], dataset, both_deformed)
    for level, message in told.items():
        assert list(message["regions"]) == ["classification", "localization"]
        for task, region in message["regions"].items():
            expected = answers[level].regions[task]
            np.testing.assert_allclose(region["points"], expected.points.flatten(0, 1), atol=0.01)
            assert region["moved"] == pytest.approx(expected.moved.item()) != 0
    told, _ = level_messages(models["tsd"], dataset, lambda rois: {})
    assert all(message["regions"] == {} for message in told.values())


def test_both_branches_of_every_level_are_told(explorer):
    for level, at_level in explorer.answer.levels.items():
        message = explorer._answer["models"]["tsd"]["levels"][level]
        assert message["branches"] == {
            name: {"score": branch.score, "iou": branch.iou} for name, branch in at_level.branches.items()
        }
        assert list(message["branches"]) == ["sibling", "tsd"]


def test_maps_are_told_anew_only_for_another_object_way_of_pooling_or_branch(explorer):
    explorer.underlay = "classification"
    first = explorer._maps
    x1, y1, x2, y2 = explorer.proposal
    explorer.proposal = (x1 + 1, y1, x2, y2)
    explorer.underlay = "localization"
    assert explorer._maps is first and first["tsd"]["object"] == explorer.answer.nearest.index
    assert list(first["tsd"]["levels"]) == list(explorer.answer.levels)
    explorer.level = "2"
    assert explorer._maps["tsd"]["levels"]["2"] != first["tsd"]["levels"]["2"]
    explorer.underlay_branch = "sibling"
    assert explorer._maps["tsd"]["branch"] == "sibling"
    explorer.underlay = None
    assert explorer._maps == {}


@pytest.mark.parametrize("task", ["classification", "localization"])
def test_a_map_is_clear_where_it_is_low_and_opaque_at_its_peak(explorer, task):
    explorer.underlay = task
    maps = explorer._session.image.sensitivity_maps("tsd", explorer.answer, None, "assigned").maps
    told = explorer._maps["tsd"]["levels"]
    for level, by_branch in maps.levels.items():
        values = getattr(by_branch["tsd"], task)
        found = told[level][task]
        stored = base64.b64decode(found["url"].removeprefix("data:image/png;base64,"))
        picture = np.asarray(Image.open(io.BytesIO(stored)).convert("RGBA"))
        assert "#{:02x}{:02x}{:02x}".format(*picture[0, 0, :3]).upper() == PALETTE[task]
        np.testing.assert_allclose(picture[..., 3] / 255 * found["top"], values, atol=0.003 * found["top"])
        row, column = np.unravel_index(values.numpy().argmax(), values.shape)
        height, width = explorer._session.image.pixels.shape[1:]
        place = (column + 0.5) * width / values.shape[1], (row + 0.5) * height / values.shape[0]
        assert found["peak"] == pytest.approx(place, abs=0.1) and picture[row, column, 3] == 255
        x, y = np.subtract(told[level]["classification"]["peak"], told[level]["localization"]["peak"])
        x1, y1, x2, y2 = explorer.truth.boxes[explorer._maps["tsd"]["object"]].tolist()
        assert told[level]["distance"] == pytest.approx(math.hypot(x / (x2 - x1), y / (y2 - y1)), abs=0.01)


def test_a_flat_map_has_no_peak_and_no_distance(explorer):
    found = explorer._session.image.sensitivity_maps("tsd", explorer.answer, None, "assigned")
    found.maps.levels["0"]["tsd"].localization.zero_()
    told = json.loads(json.dumps(maps_message(found), allow_nan=False))["levels"]
    assert told["0"]["localization"]["peak"] is None and told["0"]["distance"] is None
    assert len(told["0"]["classification"]["peak"]) == 2 and told["1"]["distance"] >= 0


def test_the_common_pattern_is_told_when_it_is_first_asked_for(explorer):
    assert explorer._pattern == {} and explorer.arrows == "summary"
    explorer.arrows = "own"
    told = explorer._pattern
    assert told["images"] == 12 and list(told["models"]["tsd"]) == ["classification"]
    message, pattern = told["models"]["tsd"]["classification"], explorer.pattern["tsd"]["classification"]
    assert message["moved"] == pytest.approx(pattern.moved) and len(message["offsets"]) == 49
    explorer.arrows = "all"
    explorer.arrows = "own"
    assert explorer._pattern is told


def test_a_head_that_moves_nothing_has_no_pattern(models, dataset):
    explorer = tsdlab.explore(models["sibling"], dataset, arrows="own")
    assert explorer.arrows == "own" and explorer._pattern == {"images": 0, "models": {"sibling": {}}}


def test_the_copied_line_shows_the_same_again(models, dataset):
    first = tsdlab.explore(models, dataset, scan=3)
    for trait, value in {
        "focus": "sibling", "category": "star", "size": "small", "image_index": 4, "level": "1",
        "proposal": (1.25, 2, 60, 90.5), "underlay": "localization", "underlay_branch": "sibling", "opacity": 0.3,
        "magnify": 5, "arrows": "all", "layers": ("truth",), "list_by": "iou",
    }.items():  # fmt: skip
        setattr(first, trait, value)
    again = eval(first.python, {"tsdlab": tsdlab, "models": models, "dataset": dataset})
    assert {name: getattr(again, name) for name in ExplorerState.fields()} == {
        name: getattr(first, name) for name in ExplorerState.fields()
    }
    assert first._python == first.python == again.python
    torch.testing.assert_close(again.answer.sibling.scores, first.answer.sibling.scores)


def test_torchvision_models_can_be_explored():
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64)
    explorer = tsdlab.explore(model, torch.rand(3, 64, 64), names=["a", "b"])
    explorer.proposal = (5, 5, 30, 40)
    assert explorer.answer.sibling.scores.shape == (3,) and explorer.level is None


def test_importing_tsdlab_imports_neither_anywidget_nor_matplotlib():
    program = "import sys, tsdlab; sys.exit(any(m in sys.modules for m in ('anywidget', 'matplotlib', 'ipywidgets')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_large_photograph_is_sent_as_the_screen_can_show_it(models):
    """Twelve megapixels with the noise of a camera: 20 MB as PNG. Coordinates are those of the photograph."""
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(60, 200, (30, 40, 3), dtype=np.uint8)).resize((4000, 3000)))
    photograph = smooth + rng.integers(0, 9, smooth.shape, dtype=np.uint8)
    box = [3000.0, 2000.0, 3800.0, 2900.0]
    explorer = tsdlab.explore(models["tsd"], (photograph, {"boxes": [box], "labels": [2]}))
    assert explorer.truth.boxes.tolist() == [box]
    message = explorer._image
    assert (message["width"], message["height"]) == (4000, 3000) and message["objects"][0]["box"] == box
    kind, content = message["url"].split(",")
    assert kind == "data:image/jpeg;base64" and len(content) < 1_500_000
    shown = Image.open(io.BytesIO(base64.b64decode(content)))
    assert shown.size == (1600, 1200)
    expected = Image.fromarray(photograph).resize(shown.size)
    assert abs(np.asarray(shown).astype(int) - np.asarray(expected)).mean() < 4
    explorer.proposal = box
    assert explorer.answer.nearest.overlap == pytest.approx(1)


def test_a_small_image_is_sent_without_loss(explorer, dataset):
    shown = dataset[explorer.image_index][0]
    kind, content = explorer._image["url"].split(",")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert kind == "data:image/png;base64"
    assert (pixels == (shown.permute(1, 2, 0) * 255).round().byte().numpy()).all()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30) | st.sampled_from(["$x$", "<script>", "a\nb", "猫", ""]), min_size=6, max_size=6))
def test_names_of_any_kind_reach_the_page_and_the_line_of_python(models, dataset, names):
    explorer = tsdlab.explore({"$m_1$": models["sibling"]}, dataset, names=names, image_index=1)
    labels = explorer.truth.labels.tolist()
    sent = json.loads(json.dumps([explorer._fixed, explorer._image, explorer._answer]).encode())
    assert sent[0]["names"] == ["background", *names] and sent[0]["models"] == ["$m_1$"]
    assert [each["name"] for each in sent[1]["objects"]] == [names[label - 1] for label in labels]
    wanted = names[labels[0] - 1]
    explorer.category = wanted
    assert f"category={wanted!r}" in explorer.python
    shown = [names[label - 1] for label in explorer.truth.labels.tolist()]
    assert wanted in shown
