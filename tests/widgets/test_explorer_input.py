"""Whatever a mouse, a hand or a program sets in the explorer is answered, or refused in one line."""

import contextlib

import pytest
import torch

import tsdlab
from tsdlab.errors import InputError


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
def test_nonsense_is_refused_and_changes_nothing(explorer, tell, nonsense):
    before = explorer.proposal, explorer.answer
    with pytest.raises(ValueError, match="a proposal"):
        explorer.proposal = nonsense
    assert "a proposal" in tell(set={"proposal": nonsense})
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


def test_a_mistyped_field_is_refused_with_those_that_exist(explorer, tell):
    with pytest.raises(InputError, match=r"Explorer has no 'box'; what can be set is focus, .*, proposal"):
        explorer.box = (0, 0, 10, 10)
    assert "no 'box'" in tell(set={"box": [0, 0, 10, 10]})


def test_a_fault_of_the_program_is_told_to_the_page_and_raised(explorer, monkeypatch):
    monkeypatch.setattr(explorer._session.image, "hold", lambda *_: 1 / 0)
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
    assert explorer._image == image and explorer._answer == answer
    assert explorer.answer.proposal.tolist() == [5, 6, 70, 80]
    explorer._receive(explorer, {"serial": 1, "set": refused}, [])
    assert before == {name: getattr(explorer, name) for name in explorer.fields()}


@pytest.fixture
def unreadable(dataset):
    """The first six images of the sample, and a dict: an index whose image cannot be read, with the error."""
    errors = {}

    class Images(list):
        def __getitem__(self, index):
            if index in errors:
                raise errors[index]
            return super().__getitem__(index)

    return Images(dataset[i] for i in range(6)), errors


@pytest.mark.parametrize("error", [OSError("torn"), InputError("torn"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    "go",
    [
        lambda explorer: setattr(explorer, "image_index", 3),
        lambda explorer: explorer.next(),
        lambda explorer: explorer.assign({"image_index": 3, "opacity": 0.1}),
        lambda explorer: explorer._receive(explorer, {"serial": 1, "go": 1}, []),
    ],
    ids=["set", "next", "assign", "page"],
)
def test_an_image_that_cannot_be_read_leaves_the_last_one_open(models, unreadable, error, go):
    images, errors = unreadable
    explorer = tsdlab.explore(models["tsd"], images, image_index=2, proposal=(5, 6, 70, 80), level="1")
    before = {name: getattr(explorer, name) for name in explorer.fields()}
    told = explorer._image, explorer._answer
    errors[3] = error
    with contextlib.suppress(type(error)):
        go(explorer)
    assert before == {name: getattr(explorer, name) for name in explorer.fields()} | {"opacity": 0.6}
    assert (explorer._image, explorer._answer) == told and explorer.answer.proposal.tolist() == [5, 6, 70, 80]
    del errors[3]
    explorer.next()
    assert explorer.image_index == explorer._image["index"] == explorer._answer["image"] == 3


def test_what_stopped_the_opening_is_told_and_the_image_is_opened_when_it_is_asked_for_again(
    models, unreadable, monkeypatch
):
    images, errors = unreadable
    explorer = tsdlab.explore(models["tsd"], images, image_index=2, level="1")
    sent = []
    monkeypatch.setattr(explorer, "send", sent.append)
    for errors[2] in (KeyboardInterrupt(), OSError("torn")):
        with pytest.raises(type(errors[2])):
            explorer._receive(explorer, {"need": "answer"}, [])
    assert sent == [{"failed": "KeyboardInterrupt"}, {"failed": "torn"}]
    errors.clear()
    assert explorer.proposal == tsdlab.explore(models["tsd"], images, image_index=2).proposal
    assert explorer.level == "1" and explorer._fixed and explorer._answer["image"] == explorer.image_index == 2


def test_a_huge_value_is_shortened_in_the_message(explorer):
    for field in ("proposal", "level", "layers", "opacity", "image_index"):
        for huge in ("x" * 10**6, list(range(10**5)), 10**6000):
            with pytest.raises(InputError) as raised:
                setattr(explorer, field, huge)
            assert len(str(raised.value)) < 600 and str(raised.value).isprintable()


def test_a_name_that_cannot_be_sent_is_refused(models, dataset):
    with pytest.raises(InputError, match="names must be a list of the names of the 6 classes"):
        tsdlab.explore(models["tsd"], dataset, names=["\ud800", *"bcdef"])
