"""The command line, `tsdlab data|train|eval|detect|analyze|page|weights`.

A command is a dataclass with a `run`, in a file of its own. `run` gets the command line that it was called by, for
results that record it, and imports what it needs: help has to answer before torch is imported.

This file is what the entry point imports first. It imports nothing, so that Ctrl-C is handled from the beginning.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes most of the time until Ctrl-C is handled
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: exits 0, 1 after an error that the user can mend, 2 on wrong usage, 128 + signal when stopped."""
    try:
        from tsdlab.cli.run import run
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # 128 + SIGINT, whose module is not imported yet
    run(args)
