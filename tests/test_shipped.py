"""The shipped weights do what `data/results/badges.json` says, on data anyone can make again."""

import json
from pathlib import Path

import pytest
import torch

import tsdlab
from tsdlab.data import SAMPLE, BadgesConfig, CocoDataset, make_badges
from tsdlab.models.weights import shipped_weights

HEADS = ("sibling", "d_head", "tsd")


@pytest.fixture(scope="module")
def recorded() -> dict:
    """The run of each head whose weights are shipped: that of seed 0."""
    models = json.loads((Path(__file__).parents[1] / "data" / "results" / "badges.json").read_text())["models"]
    return {head: next(run for run in model["runs"] if run["seed"] == 0) for head, model in models.items()}


def test_every_recorded_model_is_shipped(recorded):
    assert tuple(recorded) == HEADS and set(shipped_weights()) == {f"badges-{head}" for head in HEADS}


@pytest.mark.parametrize("head", HEADS)
def test_shipped_weights_detect_on_the_sample(head, recorded):
    model = tsdlab.load_detector(f"badges-{head}")
    assert model.config.head == head and not model.training
    metrics = tsdlab.evaluate(model, CocoDataset(SAMPLE, "val"), progress=False)
    assert 0.5 * recorded[head]["metrics"]["AP50"] < metrics.AP50


def test_offsets_of_the_shipped_tsd_are_learnt():
    trace = tsdlab.trace(tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val")[0][0])
    assert trace.regions["classification"].offsets.std(dim=0).max() > 1e-3, "offsets differ from proposal to proposal"
    assert torch.isfinite(trace.regions["localization"].offsets).all()


@pytest.mark.slow
def test_evaluation_repeats_the_recorded_results(tmp_path, recorded):
    """The validation set of the reference run, made anew: every number to 0.1."""
    val = CocoDataset(make_badges(tmp_path / "badges", BadgesConfig(train=0), progress=False), "val")
    for head, model in recorded.items():
        metrics = tsdlab.evaluate(tsdlab.load_detector(f"badges-{head}"), val, progress=False)
        for name in ("AP", "AP50", "AP75", "AP_small", "AP_medium"):
            assert getattr(metrics, name) == pytest.approx(model["metrics"][name], abs=0.1), (head, name)
