"""No command replaces what is a user's: inputs never, older results on request."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
import torch
from command_line import run

from tsdlab.config import BackboneConfig
from tsdlab.errors import TsdlabError
from tsdlab.models.torchvision_start import published_model

MOBILENET = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture
def mine(tiny_data: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user, with a file under every name that a command may write; it is the current folder."""
    folder = tmp_path / "mine"
    shutil.copytree(tiny_data, folder / "data")
    shutil.copy(tiny_weights, folder / "w.safetensors")
    shutil.copy(tiny_data / "val/11.png", folder / "photo.png")
    (folder / "linked.png").symlink_to("photo.png")
    for name in ("report.html", "compare.html", "example-1.png", "metrics.json", "mine.safetensors"):
        (folder / name).write_text("mine")
    monkeypatch.chdir(folder)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REPLACING = {
    "detect into the folder of the photograph": ("detect w.safetensors photo.png --out .", "photo.png"),
    "detect a link": ("detect w.safetensors linked.png --out .", "linked.png"),
    "detect by another path": ("detect w.safetensors data/../photo.png --out ../mine", "photo.png"),
    "analyze beside an older report": ("analyze w.safetensors --data data --out .", "report.html"),
    "compare beside an older page": ("compare badges-tsd w.safetensors --data data --out .", "compare.html"),
    "eval": ("eval w.safetensors --data data --json metrics.json", "metrics.json"),
    "eval into its weights": ("eval w.safetensors --data data --json w.safetensors", "w.safetensors"),
    "eval into its data": (
        "eval w.safetensors --data data --json data/annotations/instances_val.json",
        "instances_val.json",
    ),
    "eval into another split": (
        "eval w.safetensors --data data --json data/annotations/instances_train.json",
        "instances_train.json",
    ),
    "eval into its images": ("eval w.safetensors --data data --json data/val/11.png", "11.png"),
    "page": ("page w.safetensors --data data --out report.html", "report.html"),
    "page into its weights": ("page w.safetensors --data data --out w.safetensors", "w.safetensors"),
    "page into its images": ("page w.safetensors --data data --out data/val/11.png", "11.png"),
    "import weights": ("weights import-torchvision mine.safetensors", "mine.safetensors"),
    "import weights into their source": ("weights import-torchvision photo.png --source photo.png", "photo.png"),
    "make data": ("data make badges data", "data"),
    "make data in the current folder": ("data make badges .", "."),
}
ON_REQUEST = ("analyze beside an older report", "compare beside an older page", "eval", "page", "import weights")


@pytest.mark.parametrize("case", REPLACING)
def test_a_command_that_would_replace_a_file_is_refused_before_it_starts(
    case: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, named = REPLACING[case]
    before = content(mine)
    run(*shlex.split(line), exits=1)
    said = capsys.readouterr()
    assert named in said.err and said.err.count("\n") == 1 and said.out == ""
    assert content(mine) == before


@pytest.mark.parametrize("case", [c for c in REPLACING if c not in ON_REQUEST and not c.startswith("make")])
def test_inputs_are_not_replaced_on_request_either(case: str, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, named = REPLACING[case]
    before = content(mine)
    run(*shlex.split(line), "--overwrite", exits=1)
    assert f"{named} " in capsys.readouterr().err
    assert content(mine) == before


@pytest.mark.parametrize(
    "command", ["detect", "eval", "page", pytest.param("analyze", marks=pytest.mark.slow), "weights"]
)
def test_older_results_are_replaced_on_request(command: str, mine: Path) -> None:
    """Nothing but these results."""
    lines = {
        "detect w.safetensors photo.png --out drawn": ["drawn/photo.png", "drawn/detections.json"],
        "eval w.safetensors --data data --json metrics.json": ["metrics.json"],
        "page w.safetensors --data data --images 1 --out report.html": ["report.html"],
        "analyze w.safetensors --data data --images 1 --out report": ["report/report.html", "report/report.json"],
        f"weights import-torchvision mine.safetensors --source ../source.pth --model {MOBILENET}": ["mine.safetensors"],
    }
    ((line, results),) = ((line, results) for line, results in lines.items() if line.startswith(command))
    if command == "weights":
        torch.save(published_model(MOBILENET, 2, BackboneConfig()).state_dict(), mine.parent / "source.pth")
    for result in results:
        (mine / result).parent.mkdir(exist_ok=True)
        (mine / result).write_text("older")
    before = content(mine)
    run(*shlex.split(line), exits=1)
    assert content(mine) == before
    run(*shlex.split(line), "--overwrite")
    after = content(mine)
    assert {name for name in before if after[name] != before[name]} == set(results)


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("detect w.safetensors photo.png --out drawn", "drawn/detections.json"),
        ("analyze w.safetensors --data data --images 1 --out report", "report/report.json"),
    ],
)
def test_what_another_process_wrote_before_it_left_the_folder_is_not_replaced(
    line: str, result: str, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acquire = filelock.FileLock.acquire

    def acquired_after_another(self: filelock.FileLock, *args: object, **options: object) -> object:
        (mine / result).write_text("theirs")
        return acquire(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(filelock.FileLock, "acquire", acquired_after_another)
    run(*shlex.split(line), exits=1)
    said = capsys.readouterr()
    assert f"{result} would be replaced" in said.err and said.out == ""
    assert (mine / result).read_text() == "theirs" and len(list((mine / result).parent.iterdir())) == 1


@pytest.mark.parametrize(
    "line",
    [
        "eval w.safetensors --data data --json new",
        "page w.safetensors --data data --images 1 --out new",
        f"weights import-torchvision new --source ../source.pth --model {MOBILENET}",
        pytest.param("weights export w.safetensors new.pt2", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_appears_while_a_command_works_is_not_replaced(
    line: str, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(published_model(MOBILENET, 2, BackboneConfig()).state_dict(), mine.parent / "source.pth")
    result = mine / ("new.pt2" if "new.pt2" in line else "new")
    fsync = os.fsync

    def synced_while_another_writes(descriptor: int) -> None:
        fsync(descriptor)
        result.write_text("theirs")

    monkeypatch.setattr(os, "fsync", synced_while_another_writes)
    before = content(mine)
    run(*shlex.split(line), exits=1)
    assert f"{result.name} would be replaced" in capsys.readouterr().err
    assert content(mine) == {**before, result.name: b"theirs"}


def test_a_report_is_not_replaced_from_python_either(mine: Path) -> None:
    from tsdlab.report.write import report_files, write_report

    assert mine / "report.html" in report_files(mine)
    nothing: Callable = write_report  # the files are looked at before anything else is
    with pytest.raises(TsdlabError, match="overwrite=True"):
        nothing(None, None, None, mine)
    assert (mine / "report.html").read_text() == "mine"
