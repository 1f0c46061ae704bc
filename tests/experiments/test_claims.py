"""The verdicts of docs/claims.md follow from the results, seed by seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module, which reads results from an empty folder."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import claims

    claims.read.cache_clear()
    monkeypatch.setattr(claims, "RESULTS", tmp_path)
    yield claims
    claims.read.cache_clear()


def write_runs(folder: Path, systems: dict[str, list[float]]) -> None:
    """A results file with an AP for each seed of each system; AP50 is 10 more, AP at IoU 0.90 half."""
    runs = [
        {"system": system, "misalignment": 1.0, "seed": seed, "AP": ap, "per_iou": {"0.50": ap + 10, "0.90": ap / 2}}
        for system, aps in systems.items()
        for seed, ap in enumerate(aps)
    ]
    (folder / "runs.json").write_text(json.dumps({"runs": runs}))


@pytest.mark.parametrize(
    ("tsd", "verdict"),
    [
        ([21, 30, 25], "holds"),
        ([19, 10, 15], "fails"),
        ([21, 30, 19], "open"),  # the seeds differ
        ([90, 90], "open"),  # two seeds
        ([20, 20, 20], "fails"),  # no gain at all
    ],
)
def test_a_comparison_holds_in_every_seed_or_not_at_all(claims, tmp_path, tsd, verdict):
    write_runs(tmp_path, {"tsd": tsd, "d_head": [20, 20, 20]})
    assert claims.compare("runs", "tsd", "d_head").verdict == verdict


def test_a_gain_that_shrinks_with_the_threshold_does_not_grow(claims, tmp_path):
    write_runs(tmp_path, {"tsd": [40, 50, 60], "d_head": [20, 20, 20]})
    found = claims.grows("runs", "tsd", "d_head", "0.50", "0.90")
    assert (found.verdict, found.text) == ("fails", "tsd − d_head: +30.0 AP at IoU 0.50, +15.0 AP at IoU 0.90")


def test_what_was_not_measured_is_no_evidence(claims, tmp_path):
    assert claims.compare("runs", "tsd", "d_head") is None
    write_runs(tmp_path, {"tsd": [40, 50, 60]})
    claims.read.cache_clear()
    assert claims.compare("runs", "tsd", "d_head") is None


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [(["open"], "open"), (["holds", "open"], "holds"), (["fails", "fails"], "fails"), (["holds", "fails"], "depends")],
)
def test_the_open_results_do_not_decide_a_claim(claims, verdicts, whole):
    tests = tuple(lambda verdict=verdict: claims.Evidence("…", verdict, "runs") for verdict in verdicts)
    _, (_, _, found) = claims.table((claims.Claim("a claim", tests),))
    assert found == f"**{whole}**"
