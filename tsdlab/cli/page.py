"""`tsdlab page`: the explorer as one file that any browser opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from tsdlab.device import Device
from tsdlab.errors import InputError, shown
from tsdlab.ranges import Count, NonEmptyText

if TYPE_CHECKING:
    from tsdlab.data.coco import CocoDataset
    from tsdlab.models.detector import Detector
    from tsdlab.widgets.explorer.widget import Explorer


@dataclass(frozen=True)
class Page:
    """Write the explorer of a detector, or of several side by side, as one HTML file.

    Any browser opens the file, without Python and without a network: the page computes what the detectors answer.
    """

    weights: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="WEIGHTS", help="Shipped names, or files.", help_behavior_hint="(at least one)"),
    ]
    data: Path
    """Folder in COCO format."""
    out: Path
    """The .html file to write."""
    split: NonEmptyText = "val"
    images: Count = 12
    """How many of the split's images the page holds, from the first on."""
    overwrite: bool = False
    """Replace OUT if it exists."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        from tsdlab.data.coco import CocoDataset
        from tsdlab.device import resolve_device
        from tsdlab.files import claim_outputs, require_place
        from tsdlab.models.weights import find_weights, load_detector

        if not self.weights:
            raise InputError("give at least one weights file")
        require_place(self.out)
        files = [find_weights(name) for name in self.weights]
        names = model_names(self.weights)
        dataset = CocoDataset(self.data, self.split)
        claim_outputs([self.out], [*files, *dataset.inputs], self.overwrite)
        device = resolve_device(self.device)
        models = {name: load_detector(file, device) for name, file in zip(names, self.weights)}
        explorer = open_explorer(models, dataset)
        images = min(self.images, len(dataset))
        source = f"{', '.join(self.weights)} on {images} images of {dataset.root}, {dataset.split}: {line}."
        explorer.save(self.out, images, overwrite=self.overwrite, source=source)
        print(f"wrote {self.out}, {self.out.stat().st_size / 1e6:.1f} MB")


def open_explorer(models: dict[str, Detector], dataset: CocoDataset) -> Explorer:
    """The explorer of detectors by name, if its packages are installed."""
    try:
        from tsdlab.widgets.explorer.widget import explore
    except ModuleNotFoundError as error:
        raise InputError("the explorer needs further packages: pip install tsdlab[lab]") from error
    return explore(models, dataset)


def model_names(weights: Sequence[str]) -> list[str]:
    """What models are called on a page: the names of their files, or more of their paths if these are the same.

    Raises:
        InputError: one is given twice.
    """
    if len(set(weights)) < len(weights):
        twice = next(name for name in weights if weights.count(name) > 1)
        raise InputError(f"{shown(twice)} is given twice")
    stems = [Path(name).stem for name in weights]
    return stems if len(set(stems)) == len(stems) else list(weights)
