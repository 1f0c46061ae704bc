"""Whoever waits sees how far it is, and can turn that off."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from tsdlab import progress
from tsdlab.analysis.analyze import analyze
from tsdlab.analysis.displacement import follow_images, measure_displacement
from tsdlab.analysis.find_errors import find_errors
from tsdlab.data.badges.dataset import make_badges
from tsdlab.data.check import check_folder
from tsdlab.evaluation import collect_detections, detect_all, evaluate
from tsdlab.training import train


@pytest.mark.parametrize(
    "function",
    [
        *(train, evaluate, collect_detections, detect_all, analyze, find_errors),
        *(measure_displacement, follow_images, check_folder, make_badges),
    ],
)
def test_progress_is_shown_unless_asked_otherwise(function: Callable[..., object]) -> None:
    assert inspect.signature(function).parameters["progress"].default is True


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_on_standard_error_counts_to_the_total(
    shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
    assert list(progress.progress_bar(iter("abc"), "letters", 3, shown)) == ["a", "b", "c"]
    output = capsys.readouterr()
    assert output.out == "" and ("letters:" in output.err and "2/3" in output.err) is shown
    assert output.err.rsplit("\r", 1)[-1].strip() == "", "it vanishes at the end"
