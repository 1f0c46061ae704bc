"""A dataset from any folder in COCO's format: `annotations/instances_<split>.json`, and the images in `<split>/`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsdlab.data.annotations import Split, annotation_file, read_split, summary
from tsdlab.data.images import read_pixels
from tsdlab.data.stored import Change, StoredImage, in_unit_range
from tsdlab.data.values import Id
from tsdlab.errors import DataError, listed, shown
from tsdlab.randomness import drawing_from
from tsdlab.structures import Category

NOT_ANNOTATED = (
    'has no list "annotations": a test split, which `tsdlab detect` can draw detections for; training, evaluation and '
    "analysis need one"
)
Target = dict[str, Any]
Transforms = Callable[[Tensor, Target], tuple[Tensor, Target]]


class DrawingTransforms(ABC):
    """Transforms that know what to do with an image before they see its pixels."""

    @abstractmethod
    def draw(self, height: int, width: int, target: Target) -> tuple[Change, Target]:
        """Draw the change of an image of this size. Returns it and the target of the changed image."""

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        height, width = image.shape[-2:]
        change, target = self.draw(height, width, target)
        return change(image), target


class CocoDataset(Dataset):
    """One split of a COCO-format folder.

    `dataset[i]` is `(image, target)`. The image is float32 `[3, H, W]`, RGB in 0…1; the target is a dict of

    - "boxes" float32 `[N, 4]`, xyxy in pixels of the image, clipped to it; `(0, 4)` if there is no object;
    - "labels" int64 `[N]` in 1…C: label i is `categories[i - 1]`, whatever ids the file uses;
    - "image_id", the id in the file (int or str);
    - "iscrowd" int64 `[N]` (all 0) and "area" float32 `[N]`, in pixels² (the file's; the area of the box if the file
      has none);
    - "salient_boxes" float32 `[N, 4]`, xyxy, if every annotation of the file has a "salient_bbox".

    `dataset[i, seed]` is the same, but `transforms` draw from a random stream of their own: the result depends on
    (i, seed) alone, so that training can resume exactly. The global random state does not change.

    Crowds are left out: their boxes mark regions, not objects. Evaluation knows them. Boxes with a side below one pixel
    inside the image are left out too, and counted in one warning.

    Args:
        root: the folder.
        split: names `annotations/instances_<split>.json` and the image folder.
        transforms: `(image, target) → (image, target)`, such as `train_transforms(...)`.

    Attributes:
        categories: the classes, in the order of their labels: by id, texts after numbers.
        image_ids: the file's id of every image.
        image_sizes: (width, height) of every image in pixels, as the file says.
        num_dropped: how many boxes were left out.

    Raises:
        DataError: at construction, if the annotation file is missing or wrong, or an image that it names does not
            exist; when an image is read, if it cannot be decoded or has another size than the file says.
    """

    def __init__(self, root: str | Path, split: str, transforms: Transforms | None = None) -> None:
        self.root, self.split, self.transforms = Path(root), split, transforms
        self.annotation_file = annotation_file(self.root, split)
        self._split = read_split(self.root, split)
        if not self._split.is_annotated:
            self._split.problems.add("no annotations", "", NOT_ANNOTATED)
        if self._split.problems:
            raise DataError(summary(self.root, split, self._split.problems))
        self.categories: tuple[Category, ...] = self._split.categories
        self.image_ids: list[Id] = list(self._split.images.ids)
        self.image_sizes: list[tuple[int, int]] = [*map(tuple, self._split.images.sizes.tolist())]
        dropped = self._split.dropped
        self.num_dropped: int = len(dropped)
        if self.num_dropped:
            ids = listed([shown(repr(id)) for id in dropped])
            warnings.warn(
                f"{shown(self.annotation_file)}: left out {self.num_dropped} box(es) with a side below one pixel "
                f"inside their image (annotation {ids})",
                stacklevel=2,
            )

    @property
    def content(self) -> Split:
        """The annotation file, read and judged."""
        return self._split

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def files(self) -> list[Path]:
        """Every file that the split is read from: the annotation file, and the images in the order of `image_ids`."""
        return [self.annotation_file, *(image.path for image in self._split.images)]

    @property
    def inputs(self) -> list[Path]:
        """`files`, and the annotation files of the other splits: what no command may replace."""
        return [*self.files, *sorted(self.annotation_file.parent.glob("*.json"))]

    def target(self, index: int) -> Target:
        """The target of `dataset[index]` before `transforms`, without reading the image."""
        objects = self._split.objects(index)
        target = {
            "image_id": self.image_ids[index],
            "boxes": torch.from_numpy(objects.boxes),
            "labels": torch.from_numpy(objects.labels),
            "area": torch.from_numpy(objects.area),
            "iscrowd": torch.zeros(len(objects.labels), dtype=torch.int64),
        }
        if objects.salient_boxes is not None:
            target["salient_boxes"] = torch.from_numpy(objects.salient_boxes)
        return target

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Target]:
        stored, target = self.stored(key)
        return stored.image(), target

    def stored(self, key: int | tuple[int, int]) -> tuple[StoredImage, Target]:
        """The same as `dataset[key]`, with the image as it is stored.

        Its pixels are uint8, and what `train_transforms` do to them is still to be done. Other transforms need the
        pixels: they are applied, and the image holds floating-point numbers.
        """
        index, seed = key if isinstance(key, tuple) else (key, None)
        entry = self._split.images[index]
        pixels, target = read_pixels(entry.path, entry.size), self.target(index)
        if self.transforms is None:
            return StoredImage(pixels), target
        if seed is None:
            return self._transformed(self.transforms, pixels, target)
        with drawing_from({"cpu": torch.Generator().manual_seed(seed)}):
            return self._transformed(self.transforms, pixels, target)

    @staticmethod
    def _transformed(transforms: Transforms, pixels: Tensor, target: Target) -> tuple[StoredImage, Target]:
        if isinstance(transforms, DrawingTransforms):
            height, width = pixels.shape[-2:]
            change, target = transforms.draw(height, width, target)
            return StoredImage(pixels, change), target
        image, target = transforms(in_unit_range(pixels), target)
        return StoredImage(image), target
