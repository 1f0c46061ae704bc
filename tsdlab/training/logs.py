"""Logs as CSV: appended row by row, and cut back to a checkpoint when a run resumes."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from tsdlab.files import atomic_write


class CsvLog:
    """Rows by step, appended; the columns are those of the first row."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; a first row brings the header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if not self.path.exists():
            writer.writeheader()
        writer.writerow(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def flush(self) -> None:
        """Make sure that what was written is on the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def last_step(self) -> int | None:
        """The step of the last row."""
        rows = self._rows()
        return int(rows[-1].split(",")[0]) if rows else None

    def truncate(self, step: int) -> None:
        """Forget the rows after `step`, and a row that was torn when the process died."""
        if not self.path.exists():
            return
        header, rows = self._lines()[:1], [row for row in self._rows() if int(row.split(",")[0]) <= step]
        if not rows:
            self.path.unlink()
            return
        with atomic_write(self.path) as file:
            file.write("".join(header + rows).encode())

    def _rows(self) -> list[str]:
        return self._lines()[1:]

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        return [line for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
