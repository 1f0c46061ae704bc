"""The sweep behind the README's comparison: its commands, its arithmetic, and how it stops."""

import dataclasses
import json
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import compare_heads
from compare_heads import TABLES, Run, spread, summary

from tsdlab import cli
from tsdlab.cli.train import Train
from tsdlab.data.badges import BadgesConfig

RUNS = {run for table in TABLES.values() for run in table.runs()}


def record(system, seed, ap, displacement=None):
    numbers = dict.fromkeys(compare_heads.NUMBERS, ap)
    return {
        **{
            "system": system,
            "misalignment": 1.0,
            "seed": seed,
            "steps": compare_heads.STEPS,
            "room": None,
            "parameters": 7,
        },
        **numbers,
        "per_iou": {"0.50": ap + 1},
        "displacement": displacement,
        "config": {"head": system},
    }


def test_every_run_has_a_folder_of_its_own():
    assert len({run.out for run in RUNS}) == len(RUNS)


@pytest.mark.parametrize("system", compare_heads.SYSTEMS)
def test_every_command_is_one_that_the_command_line_takes(system, monkeypatch):
    seen = []
    monkeypatch.setattr(Train, "run", lambda self, line: seen.append(self))
    cli.main(Run(system, 1.0, 2).command()[1:])
    (asked,) = seen
    assert asked.config.train.seed == 2 and asked.config.train.steps == compare_heads.STEPS and asked.resume
    assert system.startswith(asked.config.head)


def test_mean_and_deviation_by_hand():
    assert spread([1.0, 3.0]) == {"mean": 2.0, "sd": 1.4142}
    assert spread([5.0, None]) == {"mean": 5.0, "sd": 0.0}
    assert spread([None]) is None
    (row,) = summary([record("tsd", 1, 30.0, {"proposals": 4}), record("tsd", 0, 50.0, {"proposals": 6})])
    assert row["seeds"] == [0, 1] and row["AP"] == {"mean": 40.0, "sd": 14.1421}
    assert row["per_iou"]["0.50"]["mean"] == 41.0 and row["displacement"]["proposals"]["mean"] == 5.0


def test_a_learning_curve_is_the_mean_of_its_windows(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("step,loss_classifier\n50,4.0\n100,2.0\n150,1.0\n")
    assert compare_heads.learning_curve(log) == {"step": [100, 200], "loss_classifier": [3.0, 1.0]}


def test_a_table_grows_run_by_run_and_forgets_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tsdlab.shipped.RESULTS", tmp_path)
    for seed, ap in ((0, 10.0), (1, 20.0), (0, 12.0)):
        compare_heads.write_table("heads", record("tsd", seed, ap), threads=1)
    written = json.loads((tmp_path / "heads.json").read_text())
    assert [(r["seed"], r["AP"]) for r in written["runs"]] == [(0, 12.0), (1, 20.0)]
    assert written["summary"][0]["AP"]["mean"] == 16.0 and written["configs"] == {"tsd": {"head": "tsd"}}


def test_a_failed_run_stops_the_sweep(monkeypatch):
    begun, lock = [], threading.Lock()

    def fails(run, threads):
        with lock:
            begun.append(run)
        raise RuntimeError("no room")

    monkeypatch.setattr(compare_heads, "result", fails)
    monkeypatch.setattr(compare_heads, "ensure_world", lambda *args: None)
    monkeypatch.setattr(sys, "argv", ["compare_heads.py", "ablations", "--jobs", "1"])
    with pytest.raises(RuntimeError, match="no room"):
        compare_heads.main()
    assert len(begun) < len(list(TABLES["ablations"].runs()))


def test_a_world_that_was_made_otherwise_is_refused(tmp_path):
    world = BadgesConfig(train=2, val=1, misalignment=1.0)
    compare_heads.ensure_world(tmp_path / "badges", world)
    compare_heads.ensure_world(tmp_path / "badges", world)
    with pytest.raises(ValueError, match=r"was made with .*'room': None.* not with .*'room': 2"):
        compare_heads.ensure_world(tmp_path / "badges", dataclasses.replace(world, room=2.0))
