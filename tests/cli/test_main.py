"""Whatever the terminal, the names and the moment: one line, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAYS_MORE = """
from tsdlab.cli import main
from tsdlab.cli.weights import ListWeights
def run(self, line):
    for part in {parts!r}:
        print(part)
    {then}
ListWeights.run = run
main(["weights", "list"])
"""


def called(program: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_can_be_printed_in_any_encoding(encoding: str) -> None:
    name = os.fsdecode(b"ph\xf6to.png")
    program = SAYS_MORE.format(parts=["3 × 4 – …", name], then=f"raise FileNotFoundError(2, 'No such file', {name!r})")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    ended = called(program, env=environment, stdout=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (1, b"tsdlab: ph\\udcf6to.png: No such file\n")
    assert ended.stdout.splitlines()[1] == b"ph\\udcf6to.png"
    expected = {"ascii": b"3 \\xd7 4 \\u2013 \\u2026", "utf-8": "3 × 4 – …".encode()}
    assert ended.stdout.splitlines()[0] == expected.get(encoding, b"3 \xd7 4 \\u2013 \\u2026")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = called(SAYS_MORE.format(parts=["text"], then="pass"), stdout=full)
    assert (ended.returncode, ended.stderr) == (1, b"tsdlab: No space left on device\n")


@pytest.mark.parametrize("count", [1, 100_000])  # written at the end; while the command runs
def test_output_that_nobody_reads_is_quiet(count: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        ended = called(SAYS_MORE.format(parts=["text"], then=f"print('text' * {count})"), stdout=pipe)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize("error", ["ImportError('numpy failed to import')", "SystemError('returned a result with …')"])
def test_ctrl_c_that_a_module_turns_into_another_error_is_quiet(error: str) -> None:
    program = SAYS_MORE.format(
        parts=["text"],
        then=f"""
    import os, signal
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True: pass
    except KeyboardInterrupt:
        raise {error} from None
""",
    )
    ended = called(f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{program}")
    assert (ended.returncode, ended.stderr) == (130, b"")
