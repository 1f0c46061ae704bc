"""What an explorer's models say, without the explorer: an image is opened once, and a question is asked once."""

import pytest
import torch

import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.widgets.explorer import session as session_module
from tsdlab.widgets.explorer.session import Session


@pytest.fixture
def session():
    return Session(tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val"), None, scan=4)


def test_images_with_the_largest_disagreement_come_first_and_are_asked_about_once(session, monkeypatch):
    told = []
    first = session.list_images(None, None, "tsd", lambda *progress: told.append(progress))
    gaps = [session.conflict("tsd", index).gap for index in first[:4]]
    assert sorted(first[:4]) == [0, 1, 2, 3] and gaps == sorted(gaps, reverse=True) and gaps[0] > gaps[-1]
    assert first[4:] == list(range(4, 12))  # beyond `scan` the order of the data is kept
    assert told == [(0, 4)]
    monkeypatch.setattr(session_module, "find_conflict", lambda *_: pytest.fail("asked again"))
    assert session.list_images(None, None, "tsd", lambda *_: None) == first
    assert session.conflict("tsd", 11) is None


def test_the_same_question_gets_the_same_answer_object(session, monkeypatch):
    session.open(0)
    first = session.image.ask((10.0, 20.0, 60.0, 90.0), None)
    assert session.image.ask((10.0, 20.0, 60.0, 90.0), "1") is not first
    again = session.image.ask((10.0, 20.0, 60.0, 90.0), None)
    torch.testing.assert_close(again["tsd"].tsd.scores, first["tsd"].tsd.scores)
    monkeypatch.setattr(session_module, "ask_levels", lambda *_: pytest.fail("asked again"))
    assert session.image.ask((10.0, 20.0, 60.0, 90.0), None) is again


def test_a_sensitivity_map_is_computed_once_for_an_object_a_level_and_a_branch(session):
    session.open(0)
    answer = session.image.ask(session.image.first_proposal("tsd"), None)["tsd"]
    first = session.image.sensitivity_map("tsd", answer, "classification", None, "assigned")
    assert first.branch == "tsd" and first.level == answer.level and first.values.max() > 0
    assert session.image.sensitivity_map("tsd", answer, "classification", "tsd", "assigned") is first
    assert session.image.sensitivity_map("tsd", answer, "localization", None, "assigned") is not first
