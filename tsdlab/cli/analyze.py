"""`tsdlab analyze`: measure the conflict between the two tasks of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tsdlab.device import Device
from tsdlab.errors import ExistingFileError
from tsdlab.ranges import Count, NonEmptyText


@dataclass(frozen=True)
class Analyze:
    """Measure, on every object of a split, how far apart a detector classifies and localizes best, and draw it."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    data: Path
    """Folder in COCO format."""
    out: Path
    """Folder for report.html, report.json and the figures."""
    split: NonEmptyText = "val"
    images: Annotated[Count | None, arg(metavar="INT")] = None
    """Use only the first INT images. Default: all."""
    overwrite: bool = False
    """Replace the files of an older report in OUT."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        from tsdlab.analysis.analyze import analyze
        from tsdlab.analysis.examples import CANDIDATES, choose_examples
        from tsdlab.data.coco import CocoDataset
        from tsdlab.device import joined_processes, resolve_device
        from tsdlab.files import claim_outputs
        from tsdlab.models.weights import find_weights, load_detector
        from tsdlab.report.page import Source
        from tsdlab.report.write import report_files, write_report

        if self.out.exists() and not self.out.is_dir():
            raise ExistingFileError(f"{self.out} is a file; --out names a folder")
        dataset = CocoDataset(self.data, self.split)
        claim_outputs(report_files(self.out), [find_weights(self.weights), *dataset.files], self.overwrite)
        with joined_processes() as is_rank_zero:
            model = load_detector(self.weights, resolve_device(self.device))
            if is_rank_zero:
                self.out.mkdir(parents=True, exist_ok=True)  # now, because measuring can take hours
            analysis = analyze(model, dataset, self.images)
        if is_rank_zero:
            examples = choose_examples(model, dataset, min(CANDIDATES, analysis.misalignment.images))
            source = Source(self.weights, model.config.head, str(dataset.root), dataset.split, line)
            print(f"wrote {write_report(analysis, examples, source, self.out, self.overwrite)}")
