"""`tsdlab compare`: which errors of one detector another one repairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tsdlab.cli.few_images import warn_of_few
from tsdlab.device import Device
from tsdlab.ranges import Count, NonEmptyText


@dataclass(frozen=True)
class Compare:
    """Say which errors of one detector another one repairs, by kind and image by image, and draw it."""

    first: Annotated[Positional[str], arg(metavar="FIRST", help="A shipped name, or a file.")]
    second: Annotated[Positional[str], arg(metavar="SECOND", help="A shipped name, or a file.")]
    data: Path
    """Folder in COCO format."""
    out: Path
    """Folder for compare.html, compare.json and the figures."""
    split: NonEmptyText = "val"
    images: Annotated[Count | None, arg(metavar="INT", help_behavior_hint="(default: all)")] = None
    """Use only the first INT images."""
    overwrite: bool = False
    """Replace the files of an older comparison in OUT."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        from tsdlab.analysis.comparison import compare_errors
        from tsdlab.cli.page import model_names
        from tsdlab.data.coco import CocoDataset
        from tsdlab.device import resolve_device
        from tsdlab.files import claim_outputs, only_writer
        from tsdlab.models.weights import find_weights, load_detector
        from tsdlab.report.comparison import Compared, comparison_files, comparison_verdict, write_comparison
        from tsdlab.report.verdict import plain

        weights = (self.first, self.second)
        first, second = model_names(weights)
        files = [find_weights(name) for name in weights]
        dataset = CocoDataset(self.data, self.split)
        with only_writer(self.out):
            claim_outputs(comparison_files(self.out), [*files, *dataset.inputs], self.overwrite)
            device = resolve_device(self.device)
            before, after = (load_detector(file, device) for file in files)
            comparison = compare_errors(before, after, dataset, self.images)
            source = Compared((first, second), str(dataset.root), dataset.split, line)
            print(f"wrote {write_comparison(comparison, source, self.out, self.overwrite)}")
        for sentence in comparison_verdict(comparison, source.names):
            print(plain(sentence))
        warn_of_few(comparison.first.metrics.images, "the intervals may be far too narrow")
