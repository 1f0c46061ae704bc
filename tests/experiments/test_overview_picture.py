"""The project's picture shows what its titles say: both regions move, and only TSD reads the class."""

import sys
from pathlib import Path

import pytest

import tsdlab

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import overview_picture


@pytest.mark.slow
def test_both_regions_of_the_chosen_proposal_move_visibly():
    sibling, tsd = (tsdlab.load_detector(f"badges-{head}") for head in ("sibling", "tsd"))
    chosen = overview_picture.choose(sibling, tsd)
    _, image = overview_picture.scene(chosen.image)
    answer = tsdlab.trace(tsd, image, chosen.proposal[None])
    assert answer.regions["localization"].moved > 0.1  # of the proposal's size
    assert answer.regions["classification"].moved > 0.1
    assert chosen.moved_overlap - chosen.overlap > 0.2
    assert chosen.first.label != chosen.label == chosen.second.label
