"""The explorer without a browser: state in, answers out. `tests/browser` looks at the page."""

import base64
import gc
import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn

import tsdlab
from tsdlab.analysis.proposal import GroundTruth, Shortfall, ask_levels, find_conflict, find_nearest, valid_box
from tsdlab.config import HEADS
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import InputError
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe
from tsdlab.widgets.explorer.state import ExplorerState


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SAMPLE, "val")


@pytest.fixture(scope="module")
def models():
    return {name: tsdlab.load_detector(f"badges-{name}") for name in ("sibling", "tsd")}


@pytest.fixture
def explorer(models, dataset):
    return tsdlab.explore(models["tsd"], dataset)


def tell(explorer, **message):
    """What the page sends, and what it gets for it: one message, whatever follows from it."""
    sent = []
    explorer.comm.send = lambda data, **_: sent.append(data)
    explorer._receive(explorer, {"serial": 7, **message}, [])
    (update,) = [data["state"] for data in sent if data["method"] == "update"]
    assert update["_request"]["done"] == 7
    return update["_request"]["refused"]


# What it knows of a proposal ------------------------------------------------------------------------------------------


def test_answers_are_those_of_a_trace(explorer, models, dataset):
    explorer.proposal = (10, 20, 60, 90)
    traced = tsdlab.trace(models["tsd"], dataset[0][0], torch.tensor([[10.0, 20.0, 60.0, 90.0]]))
    answer = explorer.answer
    torch.testing.assert_close(answer.tsd.scores, traced.branches["tsd"].scores[0])
    torch.testing.assert_close(answer.sibling.boxes, traced.branches["sibling"].boxes[0])
    torch.testing.assert_close(answer.displacement.points, traced.classification_points[0])
    torch.testing.assert_close(answer.displacement.region, traced.localization_proposals[0])
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
    torch.testing.assert_close(explorer.answer.displacement.points, expected.classification_points[0])


@pytest.mark.parametrize("head", HEADS)
def test_all_levels_in_one_pass_are_those_asked_one_by_one(tiny_config, head):
    torch.manual_seed(0)
    probe = Probe(build_detector(replace(tiny_config, head=head)), torch.rand(3, 64, 64))
    answer = ask_levels(probe, (8.0, 4.0, 50.0, 60.0), GroundTruth())
    boxes = answer.proposal[None]
    assert answer.assigned == probe.pooled[probe.ask(boxes).levels[0]]
    for level, at_level in answer.levels.items():
        for name, branch in probe.ask(boxes, level).branches.items():
            torch.testing.assert_close(at_level.branches[name].scores, branch.scores[0])
            torch.testing.assert_close(at_level.branches[name].boxes, branch.boxes[0], atol=1e-3, rtol=1e-4)


def test_the_nearest_object_is_the_one_overlapped_most_else_the_closest():
    truth = GroundTruth(torch.tensor([[0.0, 0, 10, 10], [20, 0, 60, 40]]), torch.tensor([3, 5]))
    nearest = find_nearest(torch.tensor([20.0, 0, 60, 20]), truth)
    assert (nearest.index, nearest.label, nearest.overlap) == (1, 5, 0.5)
    away = find_nearest(torch.tensor([0.0, 50, 5, 55]), truth)
    assert (away.index, away.overlap) == (0, 0.0) or (away.index, away.overlap) == (1, 0.0)
    assert find_nearest(torch.tensor([0.0, 0, 5, 5]), GroundTruth()) is None


def test_the_constraint_asks_for_the_margin_or_what_is_left_of_it():
    assert Shortfall(sibling=0.5, own=0.6, margin=0.2).value == pytest.approx(0.1)
    assert Shortfall(sibling=0.9, own=0.9, margin=0.2).value == pytest.approx(0.1)
    assert Shortfall(sibling=0.2, own=0.9, margin=0.2).value == 0


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
    answers = [ask_levels(probe, box, truth) for box in (conflict.by_score, conflict.by_iou)]
    assert [a.tsd.iou for a in answers] == pytest.approx([conflict.score_iou, conflict.best_iou], abs=1e-4)
    assert answers[0].tsd.score >= answers[1].tsd.score and conflict.gap >= 0
    assert find_conflict(probe, GroundTruth()) is None


# Anything a mouse or a hand may do ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "box", [(-300, -300, -200, -200), (50, 50, 50, 50), (-1e6, -1e6, 1e6, 1e6), (90, 80, 10, 20), (127.9, 0, 128, 0)]
)
def test_any_finite_box_gets_an_answer(explorer, box):
    explorer.proposal = box
    x1, y1, x2, y2 = explorer.proposal
    assert x1 <= x2 and y1 <= y2
    for level in explorer.answer.levels.values():
        for branch in level.branches.values():
            assert branch.scores.isfinite().all() and branch.scores.sum() == pytest.approx(1, abs=1e-4)
            assert branch.boxes.isfinite().all()


@pytest.mark.parametrize(
    "nonsense", ["12", (1, 2, 3), (1, 2, 3, float("nan")), (1, 2, 3, "x"), None, (0, 0, 1e9, 1), 5, ([1], 2, 3, 4)]
)
def test_nonsense_is_refused_and_changes_nothing(explorer, nonsense):
    before = explorer.proposal, explorer.answer
    with pytest.raises(ValueError, match="a proposal"):
        explorer.proposal = nonsense
    assert "a proposal" in tell(explorer, set={"proposal": nonsense})
    assert (explorer.proposal, explorer.answer) == before


@pytest.mark.parametrize(
    ("trait", "value", "says"),
    [
        ("level", "9", "one of '0', '1', '2'; got '9'"), ("image_index", 12, "0…11"), ("image_index", True, "0…11"),
        ("category", "unicorn", "star"), ("size", "huge", "small"), ("order", "random", "file"),
        ("underlay", "x", "classification"), ("underlay_branch", "double", "'sibling', 'tsd'"), ("opacity", 2, "0…1"),
        ("magnify", "10", "number"), ("layers", "truth", "layers"), ("layers", ["masks"], "layers"),
        ("list_by", "area", "iou"), ("focus", "other", "tsd"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_named(explorer, models, dataset, trait, value, says):
    before = getattr(explorer, trait)
    with pytest.raises(ValueError, match=says):
        setattr(explorer, trait, value)
    with pytest.raises(ValueError, match=says):
        tsdlab.explore(models["tsd"], dataset, **{trait: value})
    assert getattr(explorer, trait) == before


def test_a_mistyped_field_is_refused_with_those_that_exist(explorer):
    with pytest.raises(InputError, match=r"Explorer has no 'box'; what can be set is focus, .*, proposal"):
        explorer.box = (0, 0, 10, 10)
    assert "no 'box'" in tell(explorer, set={"box": [0, 0, 10, 10]})


def test_a_fault_of_the_program_is_told_to_the_page_and_raised(explorer, monkeypatch):
    monkeypatch.setattr(explorer._session.image, "ask", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer._receive(explorer, {"serial": 7, "set": {"proposal": [1, 2, 3, 4]}}, [])
    assert explorer._request == {"done": 7, "refused": "ZeroDivisionError: division by zero"}


def test_arguments_that_cannot_be_are_named(models, dataset):
    image = dataset[0][0]
    with pytest.raises(ValueError, match="model must be a detector, got str"):
        tsdlab.explore("badges-tsd", dataset)
    with pytest.raises(ValueError, match="model 'b' must be a detector, got Linear"):
        tsdlab.explore({"a": models["tsd"], "b": torch.nn.Linear(1, 1)}, dataset)
    with pytest.raises(ValueError, match="mapping of names"):
        tsdlab.explore({}, dataset)
    with pytest.raises(ValueError, match=r"dataset must be .* got int"):
        tsdlab.explore(models["tsd"], 3)
    with pytest.raises(InputError, match="badges does not exist"):
        tsdlab.explore(models["tsd"], "badges")
    for wrong in ([1, 2], [(image[:2], None)], [(image * 255, {})]):
        with pytest.raises(InputError, match=r"item 0 of dataset: image must (be|hold) "):
            tsdlab.explore(models["tsd"], wrong)
    for names in (3, "star", [1, 2, 3, 4, 5, 6], []):
        with pytest.raises(InputError, match="names must be a list of the names of the 6 classes, got"):
            tsdlab.explore(models["tsd"], image, names=names)
    with pytest.raises(InputError, match=r'target\["boxes"\] must be .*, got 1'):
        tsdlab.explore(models["tsd"], (image, {"boxes": 1}))
    with pytest.raises(ValueError, match="no image"):
        tsdlab.explore(models["tsd"], [])
    with pytest.raises(ValueError, match="image must be"):
        tsdlab.explore(models["tsd"], image[:2])
    with pytest.raises(ValueError, match="knows 6 classes, but there are 2 names"):
        tsdlab.explore(models["tsd"], image, names=["a", "b"])
    with pytest.raises(ValueError, match="has no 'zoom'; what can be set is focus"):
        tsdlab.explore(models["tsd"], dataset, zoom=2)
    with pytest.raises(ValueError, match="scan"):
        tsdlab.explore(models["tsd"], dataset, scan=0)


def test_an_image_without_objects(models, dataset):
    explorer = tsdlab.explore(models["tsd"], dataset[0][0], underlay="classification")
    assert explorer.answer.nearest is None and explorer.answer.tsd.iou is None and explorer._maps == {}
    assert explorer.answer.tsd.label == int(explorer.answer.tsd.scores[1:].argmax()) + 1
    assert "image/png" in explorer._repr_mimebundle_()[0]
    with pytest.raises(ValueError, match="no image has"):
        explorer.category = "star"
    explorer.order = "disagreement"
    assert explorer._image["conflict"] is None


# Images ---------------------------------------------------------------------------------------------------------------


def test_opening_an_image_asks_about_one_of_its_proposals(explorer, dataset):
    explorer.image_index = 3
    assert len(explorer.truth.boxes) == len(dataset[3][1]["boxes"]) == len(explorer._image["objects"])
    assert list(explorer.proposal) in [row[:4] for row in explorer._image["proposals"]["tsd"]]
    assert explorer.answer.nearest.overlap >= 0.5
    assert explorer._answer["image"] == 3 and explorer._image["width"] == 128


def test_next_and_previous_go_round(explorer):
    explorer.previous()
    assert explorer.image_index == 11
    explorer.next()
    assert explorer.image_index == 0
    tell(explorer, go=1)
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
    gaps = {index: explorer._session.conflict("tsd", index).gap for index in range(5)}
    assert sorted(explorer._listed[:5]) == list(range(5))
    assert explorer._listed[5:] == list(range(5, 12))
    assert explorer.image_index == explorer._listed[0]
    assert explorer._image["conflict"]["best_iou"] - explorer._image["conflict"]["score_iou"] == max(gaps.values())


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


# Several models, underlays, pictures, and the line that says it all ---------------------------------------------------


def test_models_side_by_side_answer_about_one_proposal(models, dataset):
    explorer = tsdlab.explore(models, dataset, proposal=(20, 20, 70, 80))
    assert list(explorer.answers) == ["sibling", "tsd"] and explorer.focus == "tsd"
    assert explorer.answers["sibling"].displacement is None
    assert [series["label"] for series in explorer._fixed["series"]] == ["sibling", "sibling in tsd", "tsd"]
    assert len({series["color"] for series in explorer._fixed["series"]}) == 3
    explorer.focus = "sibling"
    assert explorer.answer is explorer.answers["sibling"]


def test_underlay_is_drawn_anew_only_for_another_object_or_level(explorer):
    explorer.underlay = "classification"
    first = explorer._maps
    x1, y1, x2, y2 = explorer.proposal
    explorer.proposal = (x1 + 1, y1, x2, y2)
    assert explorer._maps["tsd"]["url"] is first["tsd"]["url"] and first["tsd"]["level"] == explorer.answer.assigned
    explorer.level = "2"
    assert explorer._maps["tsd"]["level"] == "2" and explorer._maps["tsd"]["url"] != first["tsd"]["url"]
    explorer.underlay_branch = "sibling"
    assert explorer._maps["tsd"]["branch"] == "sibling"
    explorer.underlay = None
    assert explorer._maps == {}


def test_the_picture_shows_on_a_static_page(models, dataset):
    for model in (models, models["sibling"]):
        data, _ = tsdlab.explore(model, dataset)._repr_mimebundle_()
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert picture.width > 400 and len(data["image/png"]) < 2**18
        assert "application/vnd.jupyter.widget-view+json" in data


def test_the_copied_line_shows_the_same_again(models, dataset):
    first = tsdlab.explore(models, dataset, scan=3)
    for trait, value in {
        "focus": "sibling", "category": "star", "size": "small", "image_index": 4, "level": "1",
        "proposal": (1.25, 2, 60, 90.5), "underlay": "localization", "underlay_branch": "sibling", "opacity": 0.3,
        "magnify": 5, "layers": ("truth",), "list_by": "iou",
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


def test_a_box_is_put_in_order():
    assert valid_box([5, 6, 1, 2]) == (1, 2, 5, 6)
    assert valid_box(torch.tensor([1, 2, 3, 4])) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "refused",
    [
        {"image_index": 3, "level": "9"},
        {"category": "star", "size": "large", "image_index": 2, "opacity": 7},
        {"focus": "tsd", "order": "disagreement", "image_index": 1, "proposal": [1, 2, 3, "x"]},
        {"image_index": 4, "proposal": [1, 2, 30, 40], "layers": ["nothing"]},
        {"category": "moon", "size": "tiny"},
    ],
)
def test_several_fields_are_set_together_or_not_at_all(models, dataset, refused):
    explorer = tsdlab.explore(models["tsd"], dataset, image_index=1, proposal=(5, 6, 70, 80), level="1", scan=2)
    before = {name: getattr(explorer, name) for name in explorer.fields()}
    answer, image = explorer._answer, explorer._image
    with pytest.raises(InputError):
        explorer.assign(refused)
    assert before == {name: getattr(explorer, name) for name in explorer.fields()}
    image["conflict"] = explorer._image["conflict"]  # what was found out meanwhile stays known
    assert explorer._image == image and explorer._answer == answer
    assert explorer.answer.proposal.tolist() == [5, 6, 70, 80]
    explorer._receive(explorer, {"serial": 1, "set": refused}, [])
    assert before == {name: getattr(explorer, name) for name in explorer.fields()}


def test_a_huge_value_is_shortened_in_the_message(explorer):
    for field in ("proposal", "level", "layers", "opacity", "image_index"):
        for huge in ("x" * 10**6, list(range(10**5)), 10**6000):
            with pytest.raises(InputError) as raised:
                setattr(explorer, field, huge)
            assert len(str(raised.value)) < 600 and str(raised.value).isprintable()


def test_a_large_photograph_is_sent_as_the_screen_can_show_it(models):
    """Twelve megapixels with the noise of a camera: 20 MB as PNG. Coordinates are those of the photograph."""
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(60, 200, (30, 40, 3), dtype=np.uint8)).resize((4000, 3000)))
    photograph = smooth + rng.integers(0, 9, smooth.shape, dtype=np.uint8)
    box = [3000.0, 2000.0, 3800.0, 2900.0]
    explorer = tsdlab.explore(models["tsd"], (photograph, {"boxes": [box], "labels": [2]}))
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
    kind, content = explorer._image["url"].split(",")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert kind == "data:image/png;base64"
    assert (pixels == (dataset[explorer.image_index][0].permute(1, 2, 0) * 255).round().byte().numpy()).all()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30) | st.sampled_from(["$x$", "<script>", "a\nb", "猫", ""]), min_size=6, max_size=6))
def test_names_of_any_kind_reach_the_page_and_the_line_of_python(models, dataset, names):
    explorer = tsdlab.explore({"$m_1$": models["sibling"]}, dataset, names=names, image_index=1)
    sent = json.loads(json.dumps([explorer._fixed, explorer._image, explorer._answer]).encode())
    assert sent[0]["names"] == ["background", *names] and sent[0]["models"] == ["$m_1$"]
    labels = explorer.truth.labels.tolist()
    assert [each["name"] for each in sent[1]["objects"]] == [names[label - 1] for label in labels]
    wanted = names[labels[0] - 1]
    explorer.category = wanted
    assert f"category={wanted!r}" in explorer.python
    shown = [names[label - 1] for label in explorer.truth.labels.tolist()]
    assert wanted in shown


def test_a_name_that_cannot_be_sent_is_refused(models, dataset):
    with pytest.raises(InputError, match="names must be a list of the names of the 6 classes"):
        tsdlab.explore(models["tsd"], dataset, names=["\ud800", *"bcdef"])
