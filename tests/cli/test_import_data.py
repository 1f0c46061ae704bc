"""`tsdlab data import`: a folder that trains, and what `data check` says about it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import run
from PIL import Image


@pytest.fixture
def export(tiny_data: Path, tmp_path: Path) -> Path:
    """Roboflow's export of a COCO data set, with an object that has no box."""
    for split, called in (("train", "train"), ("val", "valid")):
        shutil.copytree(tiny_data / split, tmp_path / "export" / called)
        shutil.copy(
            tiny_data / f"annotations/instances_{split}.json", tmp_path / f"export/{called}/_annotations.coco.json"
        )
    return tmp_path / "export"


def test_an_import_ends_with_what_the_check_says(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("data", "import", export, tmp_path / "mine")
    shown = capsys.readouterr().out
    assert shown.startswith(f"read as coco: 13 images\nwrote {tmp_path / 'mine'}\n")
    assert "train: 8 images" in shown and "val: 5 images" in shown and "no problems" in shown
    run("data", "import", export, tmp_path / "mine", exits=1)
    assert "exists and is not empty" in capsys.readouterr().err
    labels = export / "train/_annotations.coco.json"
    labels.write_text(labels.read_text().replace('"bbox": [', '"bbox": ["a", ', 1))
    run("data", "import", export, tmp_path / "other", exits=1)
    shown = capsys.readouterr()
    assert "PROBLEM" in shown.out and "problem(s)" in shown.err


def test_wrong_arguments_are_one_line(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    for arguments, message in (
        ([tmp_path / "no", tmp_path / "out"], "there is no folder"),
        ([tmp_path / "photo.png", tmp_path / "out"], "is a file; give the folder"),
        ([export, export / "out"], "is inside"),
        ([export, tmp_path / "out", "--val", "1"], "--val must be"),
        ([export, tmp_path / "out", "--format", "voc"], "has no image with an object, read as voc"),
    ):
        run("data", "import", *arguments, exits=1)
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "photo.png"]
