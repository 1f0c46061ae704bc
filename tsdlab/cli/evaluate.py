"""`tsdlab eval`: COCO metrics of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from tsdlab.cli.few_images import warn_of_few
from tsdlab.device import Device
from tsdlab.ranges import BatchSize, Fraction, ImageSide, NonEmptyText, Workers

_OF_FILE = "(default: as in the weights file)"


@dataclass(frozen=True)
class Eval:
    """COCO metrics of a detector on one split."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    data: Path
    """Folder in COCO format."""
    split: NonEmptyText = "val"
    score_thresh: Annotated[Fraction | None, arg(metavar="FLOAT", help_behavior_hint=_OF_FILE)] = None
    """Drop detections below this score."""
    nms: Annotated[Literal["hard", "linear", "gaussian"] | None, arg(metavar="RULE", help_behavior_hint=_OF_FILE)] = (
        None
    )
    """How overlapping detections are suppressed: hard, or Soft-NMS (linear or gaussian). It also replaces IoU-guided
    NMS."""
    min_sizes: Annotated[tuple[ImageSide, ...], arg(help_behavior_hint=_OF_FILE)] = ()
    """Shorter sides, in pixels: every image is seen once at each of them."""
    flip: bool = False
    """See every image a second time, mirrored."""
    batch_size: BatchSize = 8
    workers: Workers = 0
    """Processes that load images."""
    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """File for the metrics, this command and the versions it ran with."""
    overwrite: bool = False
    """Replace the file of --json if it exists."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        from tsdlab.data.coco import CocoDataset
        from tsdlab.device import resolve_device
        from tsdlab.evaluation import evaluate
        from tsdlab.files import claim_outputs, require_place, write_json
        from tsdlab.models.augmented import AugmentedDetector
        from tsdlab.models.weights import find_weights, load_detector
        from tsdlab.provenance import versions

        if self.json is not None:
            require_place(self.json)
        detector = load_detector(self.weights, resolve_device(self.device), nms=self.nms)
        model = AugmentedDetector(detector, self.min_sizes, self.flip)
        dataset = CocoDataset(self.data, self.split)
        if self.json is not None:
            claim_outputs([self.json], [find_weights(self.weights), *dataset.inputs], self.overwrite)
        metrics = evaluate(model, dataset, self.batch_size, self.score_thresh, workers=self.workers)
        print(metrics)
        warn_of_few(metrics.images, "these numbers may be far off those of more images")
        if self.json is not None:
            content = {"metrics": metrics.as_dict(), "command": line, "versions": versions()}
            write_json(self.json, content, self.overwrite)
