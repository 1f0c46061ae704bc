"""`tsdlab analyze`: measure the conflict between the two tasks of a detector."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from tsdlab.cli.few_images import warn_of_few
from tsdlab.device import Device
from tsdlab.ranges import Count, NonEmptyText

if TYPE_CHECKING:
    from tsdlab.data.coco import CocoDataset
    from tsdlab.models.detector import Detector

_EXPLORED = 12  # images of the explorer


@dataclass(frozen=True)
class Analyze:
    """Measure where a detector loses AP, and how far apart it classifies and localizes best, and draw it."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    data: Path
    """Folder in COCO format."""
    out: Path
    """Folder for report.html, report.json and the figures."""
    split: NonEmptyText = "val"
    images: Annotated[Count | None, arg(metavar="INT", help_behavior_hint="(default: all)")] = None
    """Use only the first INT images."""
    interactive: bool = False
    """Put the explorer of the first 12 images into report.html; it is megabytes larger then."""
    overwrite: bool = False
    """Replace the files of an older report in OUT."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        from tsdlab.analysis.analyze import analyze
        from tsdlab.analysis.examples import CANDIDATES, choose_shown
        from tsdlab.analysis.find_errors import find_errors
        from tsdlab.data.coco import CocoDataset
        from tsdlab.device import joined_processes, resolve_device
        from tsdlab.files import claim_outputs, only_writer
        from tsdlab.models.weights import find_weights, load_detector
        from tsdlab.report.errors import errors_verdict
        from tsdlab.report.levels import hidden_levels, without
        from tsdlab.report.page import Source
        from tsdlab.report.verdict import plain, verdict
        from tsdlab.report.write import report_files, write_report

        dataset = CocoDataset(self.data, self.split)
        writes = os.environ.get("RANK", "0") == "0"  # one of the processes of torchrun
        with only_writer(self.out) if writes else nullcontext():  # now, because measuring can take hours
            claim_outputs(report_files(self.out), [find_weights(self.weights), *dataset.inputs], self.overwrite)
            with joined_processes() as is_rank_zero:
                model = load_detector(self.weights, resolve_device(self.device))
                # Before the measuring, because a head that no page can compute is refused.
                explorer = self._explorer(model, dataset) if self.interactive and is_rank_zero else None
                analysis = analyze(model, dataset, self.images)
            if is_rank_zero:
                errors = find_errors(model, dataset, self.images)
                images = analysis.misalignment.images
                shown = choose_shown(model, dataset, min(CANDIDATES, images))
                source = Source(self.weights, model.config.head, str(dataset.root), dataset.split, line)
                path = write_report(analysis, shown, source, self.out, self.overwrite, explorer=explorer, errors=errors)
                print(f"wrote {path}")
                for sentence in (
                    *verdict(without(analysis, hidden_levels(analysis))),
                    *errors_verdict(errors.costs),
                ):
                    print(plain(sentence))
                warn_of_few(images, "the intervals may be far too narrow")

    def _explorer(self, model: Detector, dataset: CocoDataset) -> str:
        """A saved page of the explorer, in HTML."""
        from tsdlab.cli.page import open_explorer

        images = min(_EXPLORED, self.images or len(dataset), len(dataset))
        return open_explorer({Path(self.weights).stem: model}, dataset).page(images)
