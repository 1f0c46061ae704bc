"""`tsdlab detect`: draw what a detector finds in image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from tsdlab.device import Device
from tsdlab.errors import InputError, MissingFileError
from tsdlab.ranges import Fraction

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Detect:
    """Detect objects in images: draw them, and list them in detections.json."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...", help="Image files.")]
    out: Path
    """Folder for the drawn images and detections.json."""
    score_thresh: Fraction = 0.5
    """Drop detections below this score."""
    overwrite: bool = False
    """Replace the files of an older run in OUT."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        import torch

        from tsdlab.data.images import read_image
        from tsdlab.device import resolve_device
        from tsdlab.files import claim_outputs, write_json
        from tsdlab.models.weights import find_weights, load_detector

        if not self.images:
            raise InputError("give at least one image")
        missing = [str(path) for path in self.images if not path.is_file()]
        if missing:
            raise MissingFileError(f"no image file at {', '.join(missing)}; give files, not folders")
        drawings = _drawing_names(self.images)
        outputs = [self.out / name for name in ("detections.json", *drawings)]
        claim_outputs(outputs, [find_weights(self.weights), *self.images], self.overwrite)
        device = resolve_device(self.device)
        model = load_detector(self.weights, device, self.score_thresh)
        names = [category.name for category in model.categories]
        names = names or [str(label) for label in range(1, 1 + model.config.num_classes)]
        self.out.mkdir(parents=True, exist_ok=True)
        listed = []
        for path, drawn in zip(self.images, drawings):
            image = read_image(path)
            with torch.inference_mode():
                found = {k: v.cpu() for k, v in model([image.to(device)])[0].items()}
            _draw(self.out / drawn, image, found, names)
            columns = zip(found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist())
            listed.append(
                {
                    "image": str(path),
                    "drawn": drawn,
                    "detections": [
                        {"box": box, "category": names[label - 1], "score": score} for box, label, score in columns
                    ],
                }
            )
            print(f"{path}: {len(found['scores'])} detections → {self.out / drawn}")
        write_json(self.out / "detections.json", {"boxes": "xyxy, pixels", "weights": self.weights, "images": listed})


def _drawing_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each drawing. Images with the same name get numbers."""
    names: list[str] = []
    for path in paths:
        name, count = f"{path.stem}.png", 1
        while name in names:
            count += 1
            name = f"{path.stem}-{count}.png"
        names.append(name)
    return names


def _draw(path: Path, image: Tensor, found: dict[str, Tensor], names: Sequence[str]) -> None:
    from matplotlib.figure import Figure

    from tsdlab.figures import plots
    from tsdlab.files import atomic_write

    height, width = image.shape[1:]
    scale = max(1, round(800 / max(height, width)))  # a label on a small image would hide the object
    figure = Figure(figsize=(width * scale / 100, height * scale / 100), dpi=100)
    plots.detections(image, found, names, figure.add_axes((0, 0, 1, 1)), score_thresh=0.0)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
