"""Files are complete or keep their old content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tsdlab import files
from tsdlab.files import atomic_write, write_json


class WriteError(Exception):
    pass


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(WriteError), atomic_write(path) as file:
        file.write(b"ne")
        raise WriteError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_the_disk_before_the_file_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, order = tmp_path / "file", []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor: int) -> None:
        order.append("fsync")
        fsync(descriptor)

    def watched_replace(self: Path, target: Path) -> Path:
        order.append("replace")
        assert self.read_bytes() == b"new" and not path.exists()
        return replace(self, target)

    monkeypatch.setattr(files.os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    with atomic_write(path) as file:
        file.write(b"new")
    assert order == ["fsync", "replace", "fsync"]


def test_a_temporary_file_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".values.json.tmp").write_text("half a")
    write_json(tmp_path / "values.json", {"name": "ü"})
    assert (tmp_path / "values.json").read_text() == '{\n  "name": "ü"\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["values.json"]
