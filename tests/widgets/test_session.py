"""What an explorer's models say, without the explorer: an image is opened once, and a question is asked once."""

import pytest
import torch

import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.models.probe import Probe
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


def test_sensitivity_maps_are_computed_once_for_an_object_and_a_way_of_pooling(session, monkeypatch):
    session.open(0)
    answer = session.image.ask(session.image.first_proposal, None)["tsd"]
    first = session.image.sensitivity_maps("tsd", answer, None, "assigned")
    assert first.branch == "tsd" and list(first.maps.levels) == list(answer.levels)
    assert session.image.sensitivity_maps("tsd", answer, None, "level").maps is not first.maps
    monkeypatch.setattr(session_module, "build_maps", lambda *_: pytest.fail("computed again"))
    assert session.image.sensitivity_maps("tsd", answer, "tsd", "assigned") is first
    other = session.image.sensitivity_maps("tsd", answer, "sibling", "assigned")
    assert other.branch == "sibling" and other.maps is first.maps


def test_the_pattern_is_what_the_displacements_of_all_proposals_have_in_common(session):
    told = []
    pattern = session.pattern(lambda *progress: told.append(progress))["tsd"]["classification"]
    assert told == [(done, 12) for done in range(12)] and pattern.images == 12
    offsets = []
    for index in range(12):
        trace = Probe(session.detectors["tsd"], session.gallery[index][0]).trace()
        offsets.append(trace.regions["classification"].offsets)
    torch.testing.assert_close(pattern.offsets, torch.cat(offsets).mean(dim=0), atol=1e-4, rtol=0)
    lengths = torch.cat(offsets).norm(dim=-1)
    assert 0.3 * lengths.mean() < pattern.moved < 0.8 * lengths.mean()
    assert session.pattern(lambda *_: pytest.fail("measured again"))["tsd"]["classification"] is pattern
