"""`tsdlab analyze` from the command to the report: what it says meanwhile and at the end."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run

from tsdlab import progress
from tsdlab.config import Config
from tsdlab.models.build import build_detector
from tsdlab.models.weights import save_weights
from tsdlab.structures import Category


def test_every_stage_shows_its_progress_and_the_findings_are_said(
    tiny_data: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
    run("analyze", tiny_weights, "--data", tiny_data, "--images", 2, "--out", tmp_path / "report", "--device", "cpu")
    said = capsys.readouterr()
    stages = [said.err.index(f"{stage}:") for stage in ("analyze", "evaluate", "objects", "examples", "pictures")]
    assert stages == sorted(stages)
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["verdict"] and said.out.splitlines() == [
        f"wrote {tmp_path / 'report' / 'report.html'}",
        *facts["verdict"],
        *facts["errors"]["verdict"],
    ]
    assert facts["errors"]["metrics"]["images"] == 2
    (example,) = facts["examples"]  # one of an image, and the other image is empty
    assert example == facts["typical"] and (tiny_data / "val" / example["file"]).is_file()
    assert "2 images are few" in said.err


@pytest.mark.slow
def test_a_report_can_hold_the_explorer(
    tiny_data: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsdlab.cli.analyze._EXPLORED", 2)
    run("analyze", tiny_weights, "--data", tiny_data, "--images", 3, "--out", tmp_path, "--interactive", "--overwrite")
    report = (tmp_path / "report.html").read_text()
    (page,) = re.findall(r'<iframe [^>]*srcdoc="([^"]*)"', report)
    (stored,) = re.findall(r'id="stored">(.*?)</script>', html.unescape(page))
    assert [image["message"]["index"] for image in json.loads(stored)["images"]] == [0, 1]
    assert "<iframe" not in report.replace(page, "", 1).replace("<iframe class=", "", 1)


def test_an_explorer_that_no_page_can_compute_is_refused_before_the_measuring(
    tiny_data: Path,
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = tmp_path / "double.safetensors"
    model = build_detector(replace(tiny_config, head="double"))
    save_weights(weights, model, (Category(3, "red"), Category(7, "blue")))
    monkeypatch.setattr("tsdlab.analysis.analyze.analyze", lambda *_: pytest.fail("measured"))
    run("analyze", weights, "--data", tiny_data, "--out", tmp_path / "report", "--interactive", exits=1)
    run("page", weights, "--data", tiny_data, "--out", tmp_path / "page.html", exits=1)
    why = "the head 'double' runs in Python only; leave it out of the page"
    line = f"tsdlab: double cannot answer without Python: {why}\n"
    assert capsys.readouterr().err == 2 * line
    assert [path.name for path in tmp_path.iterdir()] == ["double.safetensors"]
