"""Errors of every command: one line for what a user can mend, a traceback for a fault of the program."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from command_line import run

from tsdlab.cli import main


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["eval", "badges-tsd", "--data", "no", "--json"], ["weights", "import-torchvision"]):
        run(*command, tmp_path, exits=1)
        assert capsys.readouterr().err == f"tsdlab: {tmp_path} is a folder; give the name of a file\n"
        run(*command, tmp_path / "no/file", exits=1)
        assert capsys.readouterr().err == f"tsdlab: there is no folder {tmp_path / 'no'} to write file to\n"


def test_an_error_of_the_operating_system_names_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    run("data", "make", "badges", tmp_path / "file/folder", exits=1)
    assert capsys.readouterr().err == f"tsdlab: {tmp_path / 'file'}: File exists\n"


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in (ValueError("range() arg 3 must not be zero"), OSError("no errno"), RuntimeError("a bug")):

        def run_command(self: object, line: str, fault: Exception = fault) -> None:
            raise fault

        monkeypatch.setattr("tsdlab.cli.weights.ListWeights.run", run_command)
        with pytest.raises(type(fault), match=re.escape(str(fault))):
            main(["weights", "list"])


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 515 bytes."),
    ],
)
def test_too_little_memory_is_one_line(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_command(self: object, line: str) -> None:
        raise fault

    monkeypatch.setattr("tsdlab.cli.weights.ListWeights.run", run_command)
    run("weights", "list", exits=1)
    said = capsys.readouterr().err
    assert said.startswith("tsdlab: out of memory; smaller batches") and said.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", ["train", "eval", "detect"])
def test_a_missing_cuda_device_is_said_alike_everywhere(
    command: str, finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights_file = finished / "weights.safetensors"
    arguments = {
        "train": ["badges-tiny", "--data", tiny_data, "--out", tmp_path / "run"],
        "eval": [weights_file, "--data", tiny_data],
        "detect": [weights_file, tiny_data / "val/10.png", "--out", tmp_path / "out"],
    }[command]
    run(command, *arguments, "--device", "cuda", exits=1)
    assert capsys.readouterr().err == "tsdlab: device is cuda, but torch sees no CUDA device\n"
    assert list(tmp_path.iterdir()) == []


def test_warnings_are_left_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    run("weights", "list")
    run("weights", "show", "yours", exits=1)
    assert warnings.showwarning is before
