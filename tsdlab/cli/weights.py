"""`tsdlab weights`: the shipped weights, what is in a file, torchvision's as a file, a file as a program."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tsdlab.config import HeadName, PublishedName
from tsdlab.ranges import Fraction, Side


@dataclass(frozen=True)
class ListWeights:
    """List the weights that come with tsdlab."""

    def run(self, line: str) -> None:
        from tsdlab.models.weights import read_header, shipped_weights

        shipped = shipped_weights()
        for name, path in shipped.items():
            header = read_header(path)
            ap = header.origin.get("metrics", {}).get("AP")
            print(
                f"{name:<20} {header.config.head:<8} {len(header.categories):>3} classes"
                f"  {path.stat().st_size / 2**20:5.1f} MiB" + (f"  AP {ap:.1f}" if ap is not None else "")
            )
        if not shipped:
            print("none")


@dataclass(frozen=True)
class ShowWeights:
    """Show what a weights file says about itself, as JSON."""

    weights: Annotated[Positional[str], arg(metavar="NAME", help="A shipped name, or a file.")]

    def run(self, line: str) -> None:
        from tsdlab.models.weights import find_weights, read_header

        print(json.dumps(read_header(find_weights(self.weights)).as_dict(), indent=2, ensure_ascii=False))


@dataclass(frozen=True)
class ImportTorchvision:
    """Turn a Faster R-CNN of torchvision into a weights file."""

    out: Annotated[Positional[Path], arg(metavar="OUT", help="The .safetensors file to write.")]
    source: str = "torchvision"
    """"torchvision" downloads its COCO weights; otherwise a local .pth state dict."""
    head: HeadName = "sibling"
    """Branches like torchvision's start as copies of it, everything else in the head from random."""
    model: PublishedName = "fasterrcnn_resnet50_fpn"
    """Which of torchvision's detectors."""
    overwrite: bool = False
    """Replace OUT if it exists."""

    def run(self, line: str) -> None:
        from tsdlab.files import require_place
        from tsdlab.models.torchvision_weights import import_torchvision

        require_place(self.out)
        import_torchvision(self.out, self.source, self.head, self.model, self.overwrite)
        print(f"wrote {self.out}")


@dataclass(frozen=True)
class ExportWeights:
    """Write a detector as a program that runs without tsdlab: torch.export or ONNX."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    out: Annotated[Positional[Path], arg(metavar="OUT", help="The .pt2 (torch.export) or .onnx file to write.")]
    height: Side | None = None
    """Of the images, in pixels; the program takes images of one size. Without it, the side that the detector resizes
    images to."""
    width: Side | None = None
    score_thresh: Fraction | None = None
    """Drop detections below this score. Without it, the threshold of the weights."""
    plain: bool = False
    """Leave out what no program can do: that the iou head ranks and refines boxes by a predicted IoU."""
    overwrite: bool = False
    """Replace OUT if it exists."""

    def run(self, line: str) -> None:
        from tsdlab.files import claim_outputs
        from tsdlab.models.export import export_detector
        from tsdlab.models.weights import find_weights, load_detector

        claim_outputs([self.out], [find_weights(self.weights)], self.overwrite)
        model = load_detector(self.weights, score_thresh=self.score_thresh)
        side = model.config.image.min_size
        height, width = self.height or side, self.width or side
        export_detector(model, self.out, height, width, self.plain, self.overwrite)
        print(f"wrote {self.out}, for images {width} pixels wide and {height} high")
