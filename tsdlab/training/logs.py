"""What a run tells while it trains: two CSV files, tensorboard if it is asked for, and a progress line."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from tqdm import tqdm

from tsdlab.errors import CheckpointError, InputError
from tsdlab.evaluation import NUMBERS
from tsdlab.files import atomic_write, naming
from tsdlab.progress import PROGRESS_INTERVAL, Bar

Losses = dict[str, float]  # by name, "total" included

LOSSES, METRICS = "log.csv", "metrics.csv"
_START = "step,"  # of every log


class CsvLog:
    """A CSV file with one row for each logged step; the first row written sets the columns, "step" first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Add a row, after a header if the file is new."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        writer.writeheader()
        header = text.getvalue()
        if os.path.lexists(self.path):
            self._require_file()
            with self.path.open("rb") as existing:
                same = existing.readline() == header.encode()
            if not same:
                self._refuse(f"its columns are not {header.strip()}")
            text.seek(0)
            text.truncate()
        writer.writerow(row)
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def flush(self) -> None:
        """Wait until the rows are on the disk."""
        if self.path.exists():
            with naming(self.path), self.path.open("rb") as file:
                os.fsync(file.fileno())

    def check(self, last: int, begin: str, end: str) -> None:
        """Check the file of a run of `last` steps, whose columns begin and end like this.

        Raises:
            CheckpointError: it is not the log of such a run; it stays as it is.
        """
        lines = self._lines()
        columns = lines[0].count(",") if lines else 0
        for number, line in enumerate(lines[1:], start=2):
            step = line.split(",")[0]
            if line.count(",") != columns or not step.isdecimal() or not step.isascii() or len(step) > 18:
                self._refuse(f"line {number} is not a row of it")
            if int(step) > last:
                self._refuse(f"line {number} is of step {step}, and the run has {last} steps")
        header, newline, _ = self._text().partition("\n")
        if newline:
            same = header.startswith(begin) and header.endswith(end)
        else:  # the process died while writing it
            same = header.startswith(begin) or begin.startswith(header)
        if not same:
            self._refuse(f"its columns are not {begin if begin == end else f'{begin}…{end}'}")

    def steps(self) -> list[int]:
        """The step of every row."""
        return [int(row.split(",")[0]) for row in self._rows()]

    def truncate(self, step: int) -> None:
        """Remove the rows after `step`, and a row that is incomplete because the process died while writing it."""
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
        """The complete lines, header included."""
        return [f"{line}\n" for line in self._text().split("\n")[:-1]]

    def _text(self) -> str:
        if not os.path.lexists(self.path):
            return ""
        self._require_file()
        try:
            text = self.path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            self._refuse("it is not text")
        if not text.startswith(_START) and not _START.startswith(text):
            self._refuse("it does not start with a column step")
        return text

    def _require_file(self) -> None:
        """A pipe would make us wait for ever, and a device may never end."""
        if not self.path.is_file():
            self._refuse("it is not a file")

    def _refuse(self, reason: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path} is not the log of this run: {reason}. Restore it from a copy, or move it away to go on "
            "without its rows"
        )


class RunLogs:
    """`log.csv` with the losses and `metrics.csv` with the evaluations of the run in `out`.

    Args:
        out: folder of the run.
        writes: False in all processes but the first: their log calls do nothing.
        tensorboard: write the same numbers to `out/tensorboard`; see `require_tensorboard`.
    """

    def __init__(self, out: Path, writes: bool, tensorboard: bool) -> None:
        self._losses, self._metrics = CsvLog(out / LOSSES), CsvLog(out / METRICS)
        self._writes = writes
        self._board = _open_tensorboard(out / "tensorboard") if tensorboard and writes else None

    def add_losses(self, step: int, lr: float, losses: Losses, images_per_s: float) -> None:
        """Log the mean losses of the steps since the last row."""
        if self._writes:
            self._losses.append({"step": step, "lr": lr, **losses, "images_per_s": round(images_per_s, 2)})
            self._add_scalars("train", {"lr": lr, **losses}, step)

    def add_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Log an evaluation, and wait until it is on the disk: a resumed run then does not evaluate again."""
        if self._writes:
            self._metrics.append({"step": step, **metrics})
            self._metrics.flush()
            self._add_scalars("val", metrics, step)

    def evaluated_steps(self) -> list[int]:
        """The step of every evaluation in the log."""
        return self._metrics.steps()

    def check(self, last: int) -> None:
        """Check both files of a run of `last` steps; see `CsvLog.check`."""
        self._losses.check(last, "step,lr,", ",total,images_per_s")
        metrics = ",".join(["step", *NUMBERS])
        self._metrics.check(last, metrics, metrics)

    def truncate(self, step: int) -> None:
        """Remove everything that was logged after `step`."""
        if self._writes:
            self._losses.truncate(step)
            self._metrics.truncate(step)

    def flush(self) -> None:
        """Wait until the rows of both CSV files are on the disk."""
        if self._writes:
            self._losses.flush()
            self._metrics.flush()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _add_scalars(self, group: str, values: dict[str, float], step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)


class ProgressLine:
    """The progress bar of a run, with its latest losses; measures the speed between two log rows.

    Args:
        total: steps of the run.
        done: steps that are completed already.
        batch_size: images per step, over all processes.
        shown: False prints nothing, and still measures.
    """

    def __init__(self, total: int, done: int, batch_size: int, shown: bool) -> None:
        self._bar = Bar(desc="train", total=total, initial=done, disable=not shown, mininterval=PROGRESS_INTERVAL)
        self._batch_size = batch_size
        self.restart_clock()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count one more completed step."""
        self._bar.update()
        self._steps += 1

    def show(self, losses: Losses) -> None:
        """Show these losses beside the bar."""
        shown = {name.removeprefix("loss_"): f"{value:.3g}" for name, value in losses.items()}
        self._bar.set_postfix(shown, refresh=False)

    def restart_clock(self) -> None:
        """Measure the speed from now on, so that an evaluation does not count as slow training."""
        self._since, self._steps = time.perf_counter(), 0

    def images_per_s(self) -> float:
        """The speed since the clock was restarted."""
        return self._steps * self._batch_size / (time.perf_counter() - self._since)


def print_above_bar(text: str) -> None:
    """Print a line without breaking a progress bar; the run goes on if nobody can read it."""
    with suppress(OSError):
        tqdm.write(text)


def require_tensorboard() -> None:
    """Raises InputError if the tensorboard package is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("tensorboard is not installed; pip install 'tsdlab[tensorboard]'")


def _open_tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)
