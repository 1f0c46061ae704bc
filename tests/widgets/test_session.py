"""What an explorer's models say, without the explorer: an image is opened once, and a question is asked once."""

import pytest
import torch

import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.widgets.explorer import scan as scan_module
from tsdlab.widgets.explorer import session as session_module
from tsdlab.widgets.explorer.session import Session


@pytest.fixture
def session():
    return Session(tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val"), None, scan=4)


def test_images_with_the_largest_disagreement_come_first_and_are_asked_about_once(session, monkeypatch):
    told, listed = [], list(range(12))
    session.scan.go_on("tsd", listed, tell=lambda *progress: told.append(progress))
    first = session.scan.sort("tsd", listed)
    gaps = [session.scan.conflict("tsd", index).gap for index in first[:4]]
    assert sorted(first[:4]) == [0, 1, 2, 3] and gaps == sorted(gaps, reverse=True) and gaps[0] > gaps[-1]
    assert first[4:] == list(range(4, 12))  # beyond `scan` the order of the data is kept
    assert told == [(0, 4)] and session.scan.progress("tsd", listed) == (4, 4)
    monkeypatch.setattr(scan_module, "find_conflict", lambda *_: pytest.fail("asked again"))
    session.scan.go_on("tsd", listed)
    assert session.scan.conflict("tsd", 11) is None


def test_images_that_were_not_asked_about_yet_follow_those_that_were(session):
    listed = [3, 0, 2, 1, 7]
    for done in range(1, 5):
        session.scan.go_on("tsd", listed, seconds=0)
        assert session.scan.progress("tsd", listed) == (done, 4)
        order = session.scan.sort("tsd", listed)
        assert sorted(order[:done]) == sorted(listed[:done]) and order[done:] == listed[done:]


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
    answer = session.image.ask(session.image.first_proposal, None)["tsd"]
    first = session.image.sensitivity_map("tsd", answer, "classification", None, "assigned")
    assert first.branch == "tsd" and first.level == answer.level and first.values.max() > 0
    assert session.image.sensitivity_map("tsd", answer, "classification", "tsd", "assigned") is first
    assert session.image.sensitivity_map("tsd", answer, "localization", None, "assigned") is not first
