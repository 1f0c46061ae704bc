"""Files are complete or keep their old content; a folder has one writer."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import filelock
import pytest
import torch

from tsdlab import files
from tsdlab.errors import BusyFolderError, ExistingFileError
from tsdlab.files import atomic_write, claim_outputs, naming, new_folder, only_writer, write_json


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


# What the operating system refuses


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes inside the block: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(bytes(100_000)),
        lambda file: [file.write(bytes(10)) for _ in range(10_000)],
        lambda file: torch.save({"a": torch.zeros(100_000)}, file),  # hides it behind a RuntimeError
        lambda file: torch.save({str(i): torch.zeros(100) for i in range(1000)}, file),
    ],
)
def test_a_disk_that_is_full_names_the_file_and_leaves_the_old_one(
    write: Callable[[IO[bytes]], object], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError) as caught, files_up_to(50_000), atomic_write(path) as file:
        write(file)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "no/file", tmp_path / "folder", tmp_path / "file/file", Path("/proc/foo")):
        with pytest.raises(OSError) as caught:
            write_json(path, {})
        assert caught.value.filename == str(path) and caught.value.filename2 is None


def test_errors_of_another_file_keep_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path / "written"):
        (tmp_path / "read").read_bytes()
    assert caught.value.filename == str(tmp_path / "read")
    for error in (RuntimeError("a bug"), OSError("not of the system"), BusyFolderError("busy")):
        with pytest.raises(type(error), match=str(error)), naming(tmp_path / "written"):
            raise error


def test_a_name_that_is_not_utf8_is_written_as_json_says(tmp_path: Path) -> None:
    name = os.fsdecode(b"ph\xf6to \xc3\xa9.png")
    write_json(tmp_path / "values.json", [name])
    assert json.loads((tmp_path / "values.json").read_text(encoding="utf-8")) == [name]


# One writer

HOLD = """
import sys, time
from pathlib import Path
from tsdlab.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_is_inside_and_a_kill_lets_it_in(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"inside\n"
        said = rf"run is being written by process {process.pid} on .*; wait"
        with pytest.raises(BusyFolderError, match=said), only_writer(folder):
            raise AssertionError
        process.send_signal(signal.SIGKILL)
    assert (folder / files.LOCK).exists()
    with only_writer(folder), pytest.raises(BusyFolderError, match=str(os.getpid())), only_writer(folder):
        raise AssertionError
    assert list(folder.iterdir()) == []


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
def test_a_forked_process_that_outlives_the_writer_does_not_keep_others_out(tmp_path: Path) -> None:
    program = HOLD.replace('print("inside"', "import os\n    os.fork() or print(os.getpid()")
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        with only_writer(tmp_path):
            os.kill(child, 0)  # it is still there
        os.kill(child, signal.SIGKILL)


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(WriteError), only_writer(tmp_path / "new"):
        raise WriteError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with only_writer(tmp_path / name):
            if name == "new":
                (tmp_path / name / "result").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "old", "result"]


@pytest.mark.parametrize("obstacle", ["file", "folder as lock", "link as lock"])
def test_a_folder_that_cannot_be_locked_is_named(obstacle: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if obstacle == "file":
        folder.touch()
    else:
        folder.mkdir()
        lock = folder / files.LOCK
        lock.mkdir() if obstacle == "folder as lock" else lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=f"{folder}") as caught, only_writer(folder):
        raise AssertionError
    assert isinstance(caught.value, ExistingFileError) == (obstacle == "file")


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)  # no such file system can be mounted here
    said = "has no locks .*No locks available.*nothing else writes"
    with pytest.warns(UserWarning, match=said), only_writer(tmp_path):
        (tmp_path / "result").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


# Nothing of a user's is replaced


def _spellings(folder: Path) -> dict[str, Path]:
    """Names of one file `folder/mine.png`."""
    file = folder / "mine.png"
    file.write_bytes(b"mine")
    (folder / "inside").mkdir()
    (folder / "link.png").symlink_to(file)
    (folder / "other").symlink_to(folder, target_is_directory=True)
    os.link(file, folder / "hard.png")
    found = {
        "itself": file,
        "dots": folder / "inside" / ".." / "." / "mine.png",
        "relative": Path(os.path.relpath(file)),
        "link": folder / "link.png",
        "folder link": folder / "other" / "mine.png",
        "hard link": folder / "hard.png",
    }
    if (folder / "MINE.PNG").exists():  # the file system does not tell upper from lower case
        found["case"] = folder / "MINE.PNG"
    return found


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_an_output_whatever_it_is_called(overwrite: bool, tmp_path: Path) -> None:
    names = _spellings(tmp_path).values()
    for output in names:
        for source in names:
            with pytest.raises(ExistingFileError, match="is read by this command and never replaced"):
                claim_outputs([tmp_path / "new", output], [tmp_path / "no", source], overwrite)


def test_what_exists_is_replaced_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "leads nowhere").symlink_to(tmp_path / "gone")
    taken = [tmp_path / name for name in "abcde"]
    for path in taken:
        path.touch()
    for outputs in ([taken[0]], taken, [tmp_path / "leads nowhere"]):
        with pytest.raises(ExistingFileError, match="--overwrite") as caught:
            claim_outputs([tmp_path / "new", *outputs])
        assert str(outputs[0]) in str(caught.value) and str(taken[3]) not in str(caught.value)
        claim_outputs(outputs, [tmp_path / "new"], overwrite=True)
    with pytest.raises(ExistingFileError, match="c and 2 more would be replaced"):
        claim_outputs(taken)
    claim_outputs([tmp_path / "new", tmp_path / "no/new"], taken)


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(ExistingFileError, match="is a folder"):
        claim_outputs([tmp_path], overwrite=True)


def test_a_new_folder_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty", target_is_directory=True)
    for name in ("link", "new", "deep/er", "n" * 250):
        with new_folder(tmp_path / name) as partial:
            (partial / "file").write_text(name)
        assert (tmp_path / name / "file").read_text() == name
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WriteError), new_folder(tmp_path / "failed") as partial:
        (partial / "file").touch()
        raise WriteError
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    for taken in (tmp_path / "new", tmp_path / "new/file", tmp_path / "nowhere", Path()):
        with pytest.raises(ExistingFileError), new_folder(taken):
            raise AssertionError(taken)
    (tmp_path / "nowhere").unlink()
    (tmp_path / "current").rmdir()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_somebody_fills_meanwhile_keeps_its_files(tmp_path: Path) -> None:
    with pytest.raises(OSError), new_folder(tmp_path / "new") as partial:
        (partial / "file").touch()
        (tmp_path / "new").mkdir()
        (tmp_path / "new/theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "theirs"]


def test_errors_of_a_new_folder_name_it_and_not_the_one_beside_it(tmp_path: Path) -> None:
    for root in (Path("/proc/foo"), tmp_path / "new"):
        with pytest.raises(OSError) as caught, files.new_folder(root) as partial:
            (partial / "train/1.png").touch()  # there is no such folder
        named = root if root.parent == Path("/proc") else root / "train/1.png"
        assert caught.value.filename == str(named)
