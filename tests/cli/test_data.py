"""`tsdlab data`: the badges are made and checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import run


def test_data_is_made_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "badges"
    run("data", "make", "badges", folder, "--train", 3, "--val", 2, "--size", 96, "--misalignment", 1.5)
    run("data", "check", folder)
    assert re.search(r"train: 3 images.*\n(.*\n)*.*no problems", capsys.readouterr().out)
    (folder / "val" / next((folder / "val").iterdir()).name).write_bytes(b"broken")
    run("data", "check", folder, exits=1)
    shown = capsys.readouterr()
    assert "cannot be decoded" in shown.out and "1 problem(s)" in shown.err
