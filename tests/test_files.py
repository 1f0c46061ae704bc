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


def _obstacle(kind: str, place: Path, mine: Path) -> None:
    """Put something of a user's at `place`."""
    {
        "file": lambda: place.write_text("mine"),
        "hard link": lambda: os.link(mine, place),
        "link": lambda: place.symlink_to(mine),
        "link to nowhere": lambda: place.symlink_to(mine.with_name("gone")),
        "pipe": lambda: os.mkfifo(place),
        "folder": lambda: place.mkdir(),
    }[kind]()


OBSTACLES = ["file", "hard link", "link", "link to nowhere", "pipe", "folder"]


@pytest.mark.parametrize("kind", OBSTACLES)
def test_no_name_of_a_user_is_used_for_an_unfinished_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0")  # so that the name can be known
    for name in (".values.json.tmp", ".values.json.0.tmp"):
        _obstacle(kind, tmp_path / name, tmp_path / "mine")
    before = {path: path.lstat() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "values.json", {})
    monkeypatch.undo()
    write_json(tmp_path / "values.json", {"name": "ü"})
    assert (tmp_path / "values.json").read_text() == '{\n  "name": "ü"\n}\n'
    after = {path: path.lstat() for path in tmp_path.iterdir() if path.name != "values.json"}
    assert after == before and (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_and_a_folder_have_the_permissions_that_others_get(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "file", {})
        with new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("name", ["n" * 255, "名" * 85, os.fsdecode(b"\xf6" * 255)])
def test_a_file_can_have_the_longest_name(name: str, tmp_path: Path) -> None:
    write_json(tmp_path / name, {})
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("links", [True, False])
def test_of_two_writers_the_second_is_refused(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refuse(*args: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(files.os, "link", refuse)  # no file system without hard links can be mounted here
    path = tmp_path / "values.json"
    with (
        pytest.raises(ExistingFileError, match=r"values\.json would be replaced"),
        atomic_write(path, overwrite=False) as second,
    ):
        second.write(b"second")
        with atomic_write(path, overwrite=False) as first:
            first.write(b"first")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


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


def test_a_file_is_no_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ExistingFileError, match="run is a file"), only_writer(tmp_path / "run"):
        raise AssertionError


@pytest.mark.parametrize("mine", ["mine", "process of my work\n", "process 1 on a\nand more\n", "x" * 10_000_000])
@pytest.mark.parametrize("kind", OBSTACLES)
def test_what_is_no_lock_is_never_locked(kind: str, mine: str, tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "mine"
    folder.mkdir()
    file.write_text(mine)
    _obstacle(kind, folder / files.LOCK, file)
    with pytest.raises(ExistingFileError, match=rf"{folder}/{files.LOCK} is not the lock"), only_writer(folder):
        raise AssertionError
    assert file.read_text() == mine and list(folder.iterdir()) == [folder / files.LOCK]


@pytest.mark.parametrize("kind", OBSTACLES)
def test_what_took_the_place_of_the_lock_meanwhile_stays(kind: str, tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "mine"
    file.write_text("mine")
    with only_writer(folder):
        (folder / files.LOCK).unlink()
        _obstacle(kind, folder / files.LOCK, file)
    assert file.read_text() == "mine" and list(folder.iterdir()) == [folder / files.LOCK]


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


def test_pipes_and_devices_are_not_replaced_on_request_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        for overwrite in (False, True):
            with pytest.raises(ExistingFileError, match=f"{path} is a pipe or a device"):
                claim_outputs([path], overwrite=overwrite)


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder"])
def test_an_unfinished_folder_of_somebody_else_stays(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0")  # so that the name can be known
    for name in (f".new.partial-{os.getpid()}", ".new.0.partial"):
        _obstacle(kind, tmp_path / name, tmp_path / "mine")
    before = {path: path.lstat() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError), new_folder(tmp_path / "new"):
        raise AssertionError
    monkeypatch.undo()
    with new_folder(tmp_path / "new"):
        pass
    assert {path: path.lstat() for path in tmp_path.iterdir() if path.name != "new"} == before


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
