"""The command line as tests call it."""

from __future__ import annotations

import pytest

from tsdlab.cli import main


def run(*args: object, exits: int | None = None) -> None:
    """`tsdlab ARGS…` in this process; `exits` is the status that it has to end with, None for success."""
    arguments = [str(a) for a in args]
    if exits is None:
        main(arguments)
        return
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == exits
