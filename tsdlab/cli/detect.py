"""`tsdlab detect`: find objects in image files, list them as COCO results, and draw them."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from tsdlab.device import Device
from tsdlab.errors import DataError, InputError, shown
from tsdlab.ranges import BatchSize, Fraction

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from tsdlab.models.detector import Detector

_NAMED = 20  # images: so many get a line each, more get a progress bar
_BATCH = "(default: 8 on a GPU, 1 on a CPU)"
_LONGEST_NAME = 200  # bytes; file systems allow 255, and a name may get a number and a mark of an unfinished file


@dataclass(frozen=True)
class Detect:
    """Detect objects in images: list them as COCO results, and draw them.

    detections.json holds the results, images.json what their ids mean. An image that cannot be read is named, the
    others are done, and the exit status is 1.
    """

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS", help="A shipped name, or a file.")]
    images: Annotated[
        Positional[tuple[str, ...]],
        arg(
            metavar="IMAGES",
            help='Image files, folders (with their subfolders), patterns in quotes ("photos/*.jpg"), or text files '
            "with one image a line.",
            help_behavior_hint="(at least one)",
        ),
    ]
    out: Path
    """Folder for detections.json, images.json and the drawings."""
    score_thresh: Fraction = 0.5
    """Drop detections below this score."""
    draw: Literal["detections", "proposals", "nothing"] = "detections"
    """What is drawn: every detection over the image; for the best detections of an image the proposal and where TSD
    moves it; or nothing."""
    batch_size: Annotated[BatchSize | None, arg(metavar="INT", help_behavior_hint=_BATCH)] = None
    """Images that are detected together, if they have the same size."""
    overwrite: bool = False
    """Replace the files of an older run in OUT."""
    device: Device = "auto"

    def run(self, line: str) -> None:
        from tsdlab.data.image_files import find_images
        from tsdlab.files import claim_outputs, only_writer
        from tsdlab.models.weights import find_weights
        from tsdlab.results import COMPANION, RESULTS

        if not self.images:
            raise InputError("give at least one image")
        images = find_images(self.images, leave_out=self.out)
        names = _drawing_names(images, self.draw) if self.draw != "nothing" else [None] * len(images)
        outputs = [self.out / name for name in (RESULTS, COMPANION, *names) if name is not None]
        with only_writer(self.out):
            claim_outputs(outputs, [find_weights(self.weights), *images], self.overwrite)
            self._write(images, names, line)

    def _write(self, images: Sequence[Path], names: Sequence[str | None], line: str) -> None:
        """Detect, and write everything; `names` are those of the drawings."""
        from tsdlab.device import resolve_device
        from tsdlab.models.weights import load_detector
        from tsdlab.progress import progress_bar
        from tsdlab.provenance import versions
        from tsdlab.results import RESULTS, ResultFiles

        device = resolve_device(self.device)
        model = load_detector(self.weights, device, self.score_thresh)
        batch_size = self.batch_size or (8 if device == "cuda" else 1)
        info = {"command": line, "weights": self.weights, "versions": versions()}
        failed = 0
        with ResultFiles.open(self.out, model.categories, info) as results:
            bar = progress_bar(range(len(images)), "detect", shown=len(images) > _NAMED)
            try:
                for batch in _batches(images, bar, batch_size):
                    failed += sum(image is None for _, image in batch)
                    seen = [(index, image) for index, image in batch if image is not None]
                    try:
                        detections = _detect(model, [image for _, image in seen])
                    except InputError as error:  # the images of a batch have one size, which the detector refuses
                        failed += len(seen)
                        for index, _ in seen:
                            bar.write(f"tsdlab: {shown(images[index])}: {error}", file=sys.stderr)
                        continue
                    for (index, image), found in zip(seen, detections):
                        drawn = names[index]
                        if drawn is not None:
                            _save(self._picture(model, image, found), self.out / drawn)
                        size = (image.shape[2], image.shape[1])
                        more = {} if drawn is None else {"drawn": drawn}
                        results.add(index + 1, str(images[index]), found, size, **more)
                        if len(images) <= _NAMED:
                            where = "" if drawn is None else f" → {shown(self.out / drawn)}"
                            bar.write(f"{shown(images[index])}: {len(found['scores'])} detections{where}")
            except KeyboardInterrupt:  # what is done is written
                print(f"tsdlab: stopped after {results.num_images} of {len(images)} images", file=sys.stderr)
                failed = -1
            finally:
                bar.close()
        print(f"{results.num_detections} detections in {results.num_images} images → {shown(self.out / RESULTS)}")
        if failed < 0:
            raise KeyboardInterrupt
        if failed:
            raise DataError(f"{failed} of {len(images)} images cannot be used and are named above; the others are done")

    def _picture(self, model: Detector, image: Tensor, found: dict[str, Tensor]) -> Figure:
        from tsdlab.figures.drawings import detections_picture, proposals_picture
        from tsdlab.models.probe import trace

        names = [category.name for category in model.categories]
        if self.draw == "detections":
            return detections_picture(image, found, names)
        return proposals_picture(image, trace(model, image), names)


def _batches(
    paths: Sequence[Path], indices: Iterator[int], batch_size: int
) -> Iterator[list[tuple[int, Tensor | None]]]:
    """Images of equal size together, with their indices; None for an image that cannot be read, after naming it.

    Few images are held at a time: where sizes differ too much, batches are smaller.
    """
    from tqdm import tqdm

    from tsdlab.data.images import read_image

    waiting: dict[tuple[int, ...], list[tuple[int, Tensor | None]]] = {}
    for index in indices:
        try:
            image = read_image(paths[index])
        except DataError as error:
            tqdm.write(f"tsdlab: {error}", file=sys.stderr)
            yield [(index, None)]
            continue
        group = waiting.setdefault(tuple(image.shape), [])
        group.append((index, image))
        if len(group) == batch_size or sum(map(len, waiting.values())) >= 2 * batch_size:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


def _detect(model: Detector, images: list[Tensor]) -> list[dict[str, Tensor]]:
    """Detections on the CPU."""
    import torch

    if not images:
        return []
    device = next(model.parameters()).device
    with torch.inference_mode():
        found = model.detect([image.to(device) for image in images])
    return [{name: value.cpu() for name, value in of_image.items()} for of_image in found]


def _drawing_names(paths: Sequence[Path], draw: str) -> list[str | None]:
    """A file name for each drawing that no other has, on any file system; images with the same name get numbers.

    Photographs stay JPEG; everything else becomes PNG, which loses nothing.
    """
    names: list[str | None] = []
    taken: dict[str, int] = {}
    for path in paths:
        is_photo = draw == "detections" and path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")
        suffix, stem = ".jpg" if is_photo else ".png", path.stem
        while len(os.fsencode(stem)) > _LONGEST_NAME:
            stem = stem[:-1]
        name = stem + suffix
        while _same(name) in taken:
            taken[_same(stem + suffix)] += 1
            name = f"{stem}-{taken[_same(stem + suffix)]}{suffix}"
        taken[_same(name)] = 1
        names.append(name)
    return names


def _same(name: str) -> str:
    """Names that some file system takes for the same have the same key."""
    return unicodedata.normalize("NFC", name).casefold()


def _save(figure: Figure, path: Path) -> None:
    from tsdlab.files import atomic_write

    quality = {"quality": 92} if path.suffix == ".jpg" else {"compress_level": 3}
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix[1:], pil_kwargs=quality)
    figure.clear()  # its parts refer to each other; without this they wait for the garbage collector
