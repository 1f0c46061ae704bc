"""Writing files: never incomplete, by one process at a time, and never over what a command did not make.

A reader of a file sees the old content or the new one.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tsdlab.errors import BusyFolderError, ExistingFileError, MissingFileError, listed

LOCK = ".tsdlab.lock"
_PATIENCE = 1.0  # seconds: the system may take a moment to end a process that was killed
# What file systems without locks answer, such as some network and user-space ones.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}

_HOLDER = re.compile(r"process \d+ on [^\n]*\n")  # what the file of a lock says


@contextmanager
def atomic_write(path: Path, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Write a new version of `path`: yields a binary file, which replaces `path` when the block ends.

    The bytes are on the disk (fsync of file and folder) before the file gets its name, so neither a killed process nor
    a power cut leaves an incomplete file. After an exception inside the block, `path` is as it was before. A killed
    process leaves `.NAME.….tmp` in the folder, which may be deleted.

    Args:
        path: the file; its folder must exist.
        overwrite: whether a file that has the name when the block ends may be replaced.

    Raises:
        OSError: `path` cannot be written, such as on a full disk; names `path`.
        ExistingFileError: there is a `path` when the block ends, and `overwrite` is False; it stays as it is.
    """
    temporary = _beside(path, "tmp")
    with naming(path, instead_of=temporary):
        with temporary.open("xb") as file:  # x: a file that is somebody's, or a link, is never opened
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()  # Windows renames no open file
                _name(temporary, path, overwrite)
            except BaseException:
                with suppress(OSError):  # the first error says what is wrong
                    file.close()
                with suppress(OSError):
                    temporary.unlink()
                raise
        _sync_folder(path.parent)


def _beside(path: Path, ending: str) -> Path:
    """A new hidden name in the folder of `path`, not too long for any file system."""
    name = os.fsencode(path.name)[:100].decode(errors="ignore")
    return path.with_name(f".{name}.{secrets.token_hex(4)}.{ending}")


def _name(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give the file `temporary` its name."""
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, it fails if somebody has made the file meanwhile
    except FileExistsError:
        raise _would_replace([path]) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise _would_replace([path]) from None
        temporary.replace(path)
    else:
        temporary.unlink()


@contextmanager
def naming(path: Path, instead_of: Path | None = None) -> Iterator[None]:
    """Inside the block, an OSError that names no file, such as that of a full disk, or `instead_of`, names `path`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch's writer hides the error of the file behind one of its own.
        system = error if isinstance(error, OSError) else error.__context__
        if not isinstance(system, OSError) or system.errno is None:
            raise
        name = system.filename
        if name is not None:
            # A file in `instead_of`, where that is a folder, is named as a file in `path`.
            if instead_of is None or not isinstance(name, str) or not Path(name).is_relative_to(instead_of):
                raise
            path = path / Path(name).relative_to(instead_of)
        raise OSError(system.errno, system.strerror, str(path)) from error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Inside the block no other process can be in such a block for the same folder. Makes the folder if needed.

    The operating system holds the lock, so it ends with the process, however that ends. After the block, a folder that
    was made for it and holds nothing is removed again.

    Args:
        folder: what the caller writes to. The file `.tsdlab.lock` in it says who is inside; it means nothing by itself.

    Raises:
        BusyFolderError: another process, or another thread of this one, is inside.
        ExistingFileError: `folder` is a file, or its `.tsdlab.lock` is somebody's: a link, a pipe or another text.
        OSError: the folder cannot be made or written to.
    """
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise ExistingFileError(f"{folder} is a file; give the name of a folder")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    _require_lock(file)
    # The lock belongs to this process alone: filelock closes it in processes that are forked, such as a loader's.
    lock = FileLock(file, timeout=_PATIENCE, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyFolderError(
            f"{folder} is being written by {_holder(file)}; wait until that has ended, or choose another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise OSError(error.errno, error.strerror, str(file)) from error
        warnings.warn(
            f"the file system of {folder} has no locks ({error}); make sure that nothing else writes to this folder",
            stacklevel=3,
        )
    text = f"process {os.getpid()} on {platform.node()}\n"
    try:
        with suppress(OSError):  # it only informs
            file.write_text(text, encoding="utf-8")
        yield
    finally:
        # Removed while it is locked: a process that opened it meanwhile sees that it is gone, and opens a new one.
        with suppress(OSError):
            if _text_of_lock(file) in ("", text):  # "": on a full disk
                file.unlink()
        lock.release()
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _require_lock(file: Path) -> None:
    """Raises ExistingFileError if something has the name of a lock that is none: locking empties the file."""
    try:
        text = _text_of_lock(file)
    except OSError:  # it does not exist, or Windows lets nobody read what is locked
        return
    if text is None or (text and not _HOLDER.fullmatch(text)):
        raise ExistingFileError(f"{file} is not the lock of a tsdlab process; move it away, or choose another folder")


def _text_of_lock(file: Path) -> str | None:
    """Its content; None if it is a link, a file with other names, a pipe or a folder, or too long for a lock."""
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_size > 1000:
        return None
    return file.read_bytes().decode(errors="replace")


def _holder(lock: Path) -> str:
    """Who is inside, as far as is known."""
    try:
        text = (_text_of_lock(lock) or "").strip()
    except OSError:
        text = ""
    return text[:200] if text and text.isprintable() else "another process"


def require_place(path: Path) -> None:
    """Check that a file can be called `path`, before the work that it will hold is done.

    Raises:
        MissingFileError: its folder does not exist.
        ExistingFileError: it is a folder.
    """
    if path.is_dir():
        raise ExistingFileError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise MissingFileError(f"there is no folder {path.parent} to write {path.name} to")


def claim_outputs(outputs: Iterable[Path], inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Check that files can be written without loss, before the work that they will hold is done.

    Args:
        outputs: the files that will be written; their folders need not exist.
        inputs: the files that are read. None of them is ever replaced, whatever it is called: a link, another
            spelling of its path and a hard link are the same file.
        overwrite: whether other files may be replaced.

    Raises:
        ExistingFileError: an output is an input, a folder, a pipe or a device, or it exists and `overwrite` is False.
    """
    existing = [path for path in outputs if os.path.lexists(path)]  # a link that leads nowhere is somebody's, too
    if not existing:
        return
    for path in existing:
        if path.is_dir():
            raise ExistingFileError(
                f"{path} is a folder, and a file of this name would be written; choose another place"
            )
        if path.exists() and not path.is_file():
            raise ExistingFileError(f"{path} is a pipe or a device, which no file replaces; choose another place")
    read = {_identity(path): path for path in inputs if os.path.exists(path)}  # noqa: PTH110 - also of what is no path
    for path in existing:
        source = read.get(_identity(path)) if path.exists() else None
        if source is not None:
            same = "" if source == path else f" (it is {source})"
            raise ExistingFileError(f"{path}{same} is read by this command and never replaced; choose another place")
    if not overwrite:
        raise _would_replace(existing)


def _would_replace(existing: list[Path]) -> ExistingFileError:
    return ExistingFileError(
        f"{listed(existing, 3)} would be replaced; choose another place, or allow it: "
        "--overwrite (overwrite=True in Python)"
    )


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of one file."""
    status = path.stat()
    return status.st_dev, status.st_ino


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """Make a folder that is there when it is complete: yields one beside it, which gets its name when the block ends.

    After an exception inside the block, or where `root` was meanwhile filled by somebody else, nothing of it is left.
    A killed process leaves `.NAME.….partial` beside it, which may be deleted.

    Args:
        root: the folder; it may exist if it is empty.

    Raises:
        ExistingFileError: it is a file, or not empty, or the current folder.
    """
    if os.path.lexists(root) and (not root.is_dir() or any(root.iterdir())):
        raise ExistingFileError(f"{root} exists and is not empty; choose another folder or remove it first")
    real = root.resolve()
    if real == Path.cwd():
        raise ExistingFileError(f"{root} is the current folder; give the name of a new one")
    real.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(real, "partial")
    with naming(root, instead_of=partial):
        partial.mkdir()
        try:
            yield partial
            if real.exists():
                real.rmdir()
            partial.rename(real)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its renames need no fsync
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, values: Any, overwrite: bool = True) -> None:
    """Write plain values as indented JSON, UTF-8, with `atomic_write`.

    Raises:
        ValueError: a number is not finite; other languages cannot read it.
    """
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, overwrite) as file:
        # A file name that is not UTF-8 has characters of its own in Python; JSON's escapes for them are the same.
        file.write(text.encode(errors="backslashreplace") + b"\n")
