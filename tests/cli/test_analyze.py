"""`tsdlab analyze` from the command to the report: what it says meanwhile and at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

from tsdlab import progress


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
    stages = [said.err.index(f"{stage}:") for stage in ("analyze", "objects", "examples", "pictures")]
    assert stages == sorted(stages)
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["verdict"] and said.out.splitlines() == [
        f"wrote {tmp_path / 'report' / 'report.html'}",
        *facts["verdict"],
    ]
    (example,) = facts["examples"]  # one of an image, and the other image is empty
    assert example == facts["typical"] and (tiny_data / "val" / example["file"]).is_file()
    assert "2 images are few" in said.err
