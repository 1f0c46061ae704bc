"""`tsdlab compare` from the command to the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import run

from tsdlab.config import Config
from tsdlab.models.build import build_detector
from tsdlab.models.weights import save_weights
from tsdlab.structures import Category


def test_two_weights_are_compared_and_the_findings_are_said(
    tiny_data: Path, tiny_weights: Path, tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_weights(other, build_detector(tiny_config), (Category(3, "red"), Category(7, "blue")))
    run("compare", tiny_weights, other, "--data", tiny_data, "--images", 3, "--out", tmp_path / "page")
    said = capsys.readouterr()
    facts = json.loads((tmp_path / "page" / "compare.json").read_text())
    assert said.out.splitlines() == [f"wrote {tmp_path / 'page' / 'compare.html'}", *facts["verdict"]]
    assert facts["weights"] == ["tiny", "other"] and facts["second"]["metrics"]["images"] == 3
    assert "3 images are few" in said.err


def test_the_same_weights_twice_are_refused(
    tiny_data: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("compare", tiny_weights, tiny_weights, "--data", tiny_data, "--out", tmp_path / "page", exits=1)
    assert capsys.readouterr().err.endswith("is given twice\n")
    assert not (tmp_path / "page").exists()
