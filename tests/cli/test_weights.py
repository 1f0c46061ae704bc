"""`tsdlab weights`: listed, shown, imported and exported."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.error import URLError

import pytest
from command_line import run


def test_weights_are_listed_and_shown(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tsdlab.shipped.WEIGHTS", tmp_path)
    run("weights", "list")
    assert capsys.readouterr().out == "none\n"
    shutil.copy(finished / "weights.safetensors", tmp_path / "mine.safetensors")
    run("weights", "list")
    assert re.match(r"mine +sibling +2 classes +\d\.\d MiB  AP \d", capsys.readouterr().out)
    run("weights", "show", "mine")
    assert json.loads(capsys.readouterr().out)["origin"]["step"] == 3
    run("weights", "show", "yours", exits=1)
    assert "shipped: mine" in capsys.readouterr().err


def test_a_program_replaces_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.pt2").write_text("mine")
    run("weights", "export", "badges-sibling", tmp_path / "w.pt2", exits=1)
    assert "w.pt2 would be replaced" in capsys.readouterr().err
    run("weights", "export", "badges-sibling", tmp_path / "w.pth", exits=1)
    assert "must end in .pt2 or .onnx, got 'w.pth'" in capsys.readouterr().err
    assert (tmp_path / "w.pt2").read_text() == "mine" and len([*tmp_path.iterdir()]) == 1


def test_a_download_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*args: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("tsdlab.models.torchvision_weights.import_torchvision", unreachable)
    run("weights", "import-torchvision", tmp_path / "out.safetensors", exits=1)
    assert "cannot download: no route to host. Without a network give a local file" in capsys.readouterr().err
