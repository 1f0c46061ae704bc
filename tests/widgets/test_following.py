"""Several checkpoints of a run in one explorer: the step is chosen, and the proposal stays where it is."""

import pytest
import torch
from kept_steps import keep_steps

import tsdlab
from tsdlab.analysis.proposal import GroundTruth, ask_levels
from tsdlab.errors import InputError
from tsdlab.models.probe import Probe
from tsdlab.models.steps import TrainingSteps


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    return keep_steps(tmp_path_factory.mktemp("run"))


def test_the_step_is_chosen_and_the_proposal_stays(steps, dataset):
    explorer = tsdlab.explore(steps, dataset, image_index=2)
    assert explorer.step == 1000 and explorer._fixed["steps"] == [0, 500, 1000] and explorer._fixed["models"] == ["tsd"]
    box, moved = explorer.proposal, {}
    image, target = dataset[2]
    for step in (1000, 0, 500):
        explorer.step = step
        expected = ask_levels(Probe(steps.load(step), image), box, GroundTruth.of(target))
        assert explorer.proposal == box and explorer.image_index == 2
        torch.testing.assert_close(explorer.answer.tsd.scores, expected.tsd.scores)
        assert explorer._answer["models"]["tsd"]["branches"]["tsd"]["scores"] == pytest.approx(
            expected.tsd.scores.tolist(), abs=1e-4
        )
        regions = explorer._answer["models"]["tsd"]["levels"][explorer.answer.level]["regions"]
        moved[step] = regions.get("classification", {"moved": 0.0})["moved"]
    assert moved[0] == pytest.approx(0, abs=1e-6) and 0.05 < moved[500] < moved[1000]


def test_the_line_of_python_has_the_step(steps, dataset):
    explorer = tsdlab.explore(steps, dataset, step=500)
    assert "step=500" in explorer.python
    again = eval(explorer.python, {"tsdlab": tsdlab, "model": steps, "dataset": dataset})
    assert again.step == 500
    explorer.step = 1000
    assert "step" not in explorer.python


def test_a_followed_model_beside_one_that_is_not(steps, models, dataset):
    explorer = tsdlab.explore({"shipped": models["tsd"], "run": steps}, dataset)
    before = explorer.answers["shipped"].tsd.scores
    explorer.step = 0
    torch.testing.assert_close(explorer.answers["shipped"].tsd.scores, before)
    assert not torch.allclose(explorer.answers["run"].tsd.scores, before, atol=1e-3)


def test_runs_with_other_steps_have_the_weights_kept_before(steps, dataset, tmp_path):
    other = keep_steps(tmp_path, (0, 700))
    explorer = tsdlab.explore({"a": steps, "b": other}, dataset)
    assert explorer.step == 1000 and explorer._fixed["steps"] == [0, 500, 700, 1000]
    explorer.step = 500
    loaded = tsdlab.explore({"a": steps.load(500), "b": other.load(0)}, dataset, proposal=explorer.proposal)
    assert loaded.proposal == explorer.proposal and loaded._answer["models"]["b"] == explorer._answer["models"]["b"]


@pytest.mark.parametrize("wrong", [1, 250, None, True, "500", 1e9])
def test_a_step_that_was_not_kept_is_refused(steps, dataset, wrong):
    explorer = tsdlab.explore(steps, dataset)
    with pytest.raises(InputError, match="step must be one of the steps 0, 500, 1000; got"):
        explorer.step = wrong
    assert explorer.step == 1000


def test_weights_that_cannot_be_read_leave_the_step_as_it_was(steps, dataset, tmp_path):
    files = {step: tmp_path / path.name for step, path in steps.files.items()}
    for step, path in files.items():
        path.write_bytes(steps.files[step].read_bytes())
    explorer = tsdlab.explore(TrainingSteps(files), dataset, image_index=1)
    assert explorer.step == 1000
    before = explorer._answer
    files[500].write_bytes(b"torn")
    for choose in (lambda: setattr(explorer, "step", 500), lambda: explorer.assign({"step": 500})):
        with pytest.raises(InputError):
            choose()
        assert explorer.step == explorer._session.step == 1000 and explorer._answer == before
    explorer.step = 0
    assert explorer.step == explorer._session.step == 0 and explorer._answer != before


def test_without_a_training_there_is_no_step(models, dataset):
    explorer = tsdlab.explore(models["tsd"], dataset)
    assert explorer.step is None and explorer._fixed["steps"] == []
    with pytest.raises(InputError, match="step must be None, as no training is followed; got 500"):
        explorer.step = 500


def test_what_a_page_needs_is_sent_for_the_step_that_it_asks_about(steps, dataset, monkeypatch):
    explorer = tsdlab.explore(steps, dataset)
    sent = []
    monkeypatch.setattr(explorer, "send", lambda content, buffers=(): sent.append((content, list(buffers))))
    heads = {}
    for step in (1000, 0):
        explorer.step = step
        explorer._receive(explorer, {"need": "heads", "index": None, "step": step}, [])
        content, (values,) = sent[-1]
        assert content["step"] == step and dict(content["about"])["tsd"]["head"] == "tsd"
        heads[step] = values
    assert heads[0] != heads[1000]
    for needed in ({"need": "heads", "index": None, "step": 500}, {"need": "pyramid", "index": 3, "step": 0}):
        explorer._receive(explorer, needed, [])
        assert sent[-1] == (
            {"part": needed["need"], "index": needed["index"], "step": needed["step"], "about": None},
            [],
        )
