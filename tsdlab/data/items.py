"""Images with their objects in whatever form people have them: data sets of any library, lists, one image."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import CocoDetection
from torchvision.datasets.vision import StandardTransform
from torchvision.tv_tensors import BoundingBoxes
from torchvision.tv_tensors._dataset_wrapper import VisionDatasetTVTensorWrapper

from tsdlab.data import values
from tsdlab.data.annotations import Annotations
from tsdlab.data.arrays import as_image
from tsdlab.data.categories import categories_of, checked_categories, model_labels
from tsdlab.data.coco import CocoDataset, Target
from tsdlab.data.coco_detection import annotations_of, area_of, check_annotations, labels_of, target_of
from tsdlab.data.targets import as_target, check_labels, check_pixels
from tsdlab.errors import InputError, shown
from tsdlab.structures import Category


class Items(Sequence):
    """Images with their objects: `items[i]` is (pixels [3, H, W] in 0…1, target), the target as that of `CocoDataset`.

    Args:
        dataset: one of

            - a `CocoDataset`;
            - torchvision's `CocoDetection`, also through `wrap_dataset_for_transforms_v2`;
            - a `Subset` or `ConcatDataset` of these;
            - anything else with a length whose items are `(image, target)`, images, or mappings with "image" and the
              target's fields;
            - one such pair, or one image.

            An image is what `as_image` takes. A target is a mapping with "boxes" [N, 4] xyxy in pixels and "labels" [N]
            in 1…C, as tensors, arrays or lists; or empty.

    Attributes:
        categories: what the labels of the data set mean, label i is categories[i − 1]; () if it does not say so.
        names: names of the classes 1…C: of the data set, or of the model after `for_model`; () if unknown.
        image_ids: the id of every image in its annotation file; its index if it has none, or if ids are not unique.
        is_one_image: whether `dataset` is one image, with or without its target.
        name: what messages call the data set.

    Raises:
        InputError: it is none of these or has no image; when an item is read, if that cannot be used.
    """

    def __init__(self, dataset: Any) -> None:
        self.is_one_image = _is_image(dataset) or (_is_pair(dataset) and _is_image(dataset[0]))
        if hasattr(dataset, "iloc"):  # their [i] is a label or a column
            raise InputError(f"dataset must not be a pandas {type(dataset).__name__}; give a list of (image, target)")
        if self.is_one_image:
            dataset = [dataset]
        elif not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")) or isinstance(dataset, Mapping):
            raise InputError(
                "dataset must be a data set whose items are (image, target), a list of images, an image "
                f"([3, H, W] in 0…1, a PIL image or a path) or a pair (image, target), got {type(dataset).__name__}"
            )
        self._places = list(_places(dataset))  # (source, index in it) of every item
        if not self._places:
            raise InputError("dataset has no image")
        sources = list({id(source): source for source, _ in self._places}.values())
        self.categories = categories_of(sources[0])
        for source in sources[1:]:
            if categories_of(source) != self.categories:
                raise InputError("the parts of dataset have different categories; labels would mean different classes")
        self.names = tuple(category.name for category in self.categories)
        self.name = shown(str(getattr(sources[0], "annotation_file", "the data set")))
        ids = getattr(sources[0], "image_ids", getattr(sources[0], "ids", None))
        own = [] if ids is None or len(sources) > 1 else [ids[place] for _, place in self._places]
        self.image_ids: list[Any] = own if len(own) == len(set(own)) > 0 else list(range(len(self._places)))
        self._to_model: Tensor | None = None
        self._read: Mapping[int, Target] = {}
        self._grouped: dict[int, dict[int, list[int]]] = {}

    def for_model(self, model: Any, names: Sequence[str] | None = None) -> Items:
        """The same items with the labels that `model` has for their classes; see `model_labels`."""
        items = copy.copy(self)
        items._to_model = model_labels(model, self, names)
        own = names or [category.name for category in checked_categories(model, "the model")] or self.names
        items.names = tuple(own or (str(label) for label in range(1, 1 + model.config.num_classes)))
        return items

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:  # type: ignore[override]
        source, place = self._places[index]
        image, target = _split(source[place])
        try:
            pixels = as_image(image)
            _check_size(pixels, source, place, target)
            found = self._target(source, place, target, index)
            check_pixels(found["boxes"], pixels)
            return pixels, found
        except InputError as error:
            raise error if self.is_one_image else type(error)(f"item {index} of dataset: {error}") from error

    def file_name(self, index: int) -> str | None:
        """The file of an image, as the annotation file names it; None if the data set names no files."""
        source, place = self._places[index]
        if isinstance(source, CocoDataset):
            return source.content.images.names[place]
        coco = getattr(source, "coco", None)  # of CocoDetection, and of torchvision's wrapper around it
        return None if coco is None else str(coco.loadImgs(source.ids[place])[0]["file_name"])

    def target(self, index: int) -> Target:
        """The target of `items[index]`, without its image where the data set keeps both apart."""
        source, place = self._places[index]
        if _transforms_targets(source):
            return self[index][1]
        if isinstance(source, CocoDataset):
            return self._target(source, place, source.target(place), index)
        if isinstance(source, CocoDetection):
            return self._target(source, place, annotations_of(source, place), index)
        return self[index][1]

    @property
    def image_sizes(self) -> list[tuple[int, int] | None]:
        """(width, height) of every image in pixels; None where that is not known without reading it."""
        is_known = {id(s): isinstance(s, CocoDataset) and not _transforms_targets(s) for s, _ in self._places}
        return [s.image_sizes[place] if is_known[id(s)] else None for s, place in self._places]

    def named_by(self, model: Any) -> Items:
        """The same items with categories: if the data set has none, those of the labels of `model`."""
        if self.categories:
            return self
        items = copy.copy(self)
        items.names = self.for_model(model).names
        items.categories = tuple(Category(label, name) for label, name in enumerate(items.names, 1))
        return items

    def first(self, count: int) -> Items:
        """The first items alone, at most `count`."""
        items = copy.copy(self)
        items._places, items.image_ids = self._places[:count], self.image_ids[:count]
        return items

    def with_targets(self, targets: Mapping[int, Target]) -> Items:
        """The same items, whose `annotations` come from `targets`: those that were read together with the images.

        A data set with random transforms gives other targets each time it is read. Where the annotations of an image
        are known without reading it, they are used.
        """
        items = copy.copy(self)
        items._read = targets
        return items

    @property
    def annotations(self) -> Annotations:
        """What COCO's evaluation counts; crowds and boxes without an area are among it if the data set has them."""
        rows = [(index, *row) for index in range(len(self)) for row in self._rows(index)]
        images, labels, boxes, areas, crowds = zip(*rows) if rows else ((), (), (), (), ())
        return Annotations(
            ids=list(range(1, 1 + len(rows))),
            images=np.array(images, dtype=np.int64),
            labels=np.array(labels, dtype=np.int64),
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            area=np.array(areas, dtype=np.float64),
            crowd=np.array(crowds, dtype=bool),
            salient_boxes=None,
        )

    def _rows(self, index: int) -> Iterator[tuple[int, list[float], float, bool]]:
        """Label, box (x, y, width, height), area and whether it is a crowd, of every annotation of an image."""
        source, place = self._places[index]
        is_raw = not _transforms_targets(source)
        if isinstance(source, CocoDataset) and is_raw:
            content = source.content.annotations
            for row in self._rows_of(source).get(place, ()):
                yield int(content.labels[row]), content.boxes[row], content.area[row], content.crowd[row]
        elif isinstance(source, CocoDetection) and not isinstance(source, VisionDatasetTVTensorWrapper) and is_raw:
            labels = {category.id: label for label, category in enumerate(self.categories, 1)}
            annotations = annotations_of(source, place)
            check_annotations(annotations, self.categories)
            for a in annotations:
                yield labels[a["category_id"]], a["bbox"], area_of(a), bool(values.flag(a.get("iscrowd")))
        else:
            target = self._read[index] if index in self._read else self[index][1]
            for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist()):
                yield label, [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1), False

    def _rows_of(self, source: CocoDataset) -> dict[int, list[int]]:
        """The annotations of every image of a data set, by its index there."""
        if id(source) not in self._grouped:
            grouped: dict[int, list[int]] = {}
            for row, image in enumerate(source.content.annotations.images.tolist()):
                grouped.setdefault(image, []).append(row)
            self._grouped[id(source)] = grouped
        return self._grouped[id(source)]

    def _target(self, source: Any, place: int, target: Any, index: int) -> Target:
        coco = getattr(source, "coco", None)  # of CocoDetection, and of torchvision's wrapper around it
        if coco is not None and isinstance(target, list):
            check_annotations(target, self.categories)
            target = target_of(target)
        elif coco is not None and "boxes" in target and "iscrowd" not in target:  # the wrapper leaves it out
            annotations = annotations_of(source, place)
            if len(annotations) == len(target["boxes"]):
                target = {**target, "iscrowd": [int(bool(values.flag(a.get("iscrowd")))) for a in annotations]}
        found = dict(target) if isinstance(source, CocoDataset) else as_target(target)
        if coco is not None:
            found["labels"] = labels_of(found["labels"], self.categories)
        classes = len(self.categories) or (0 if self._to_model is None else len(self._to_model) - 1)
        check_labels(found["labels"], classes)
        if self._to_model is not None:
            found["labels"] = self._to_model[found["labels"]]
        return found


def as_items(dataset: Any) -> Items:
    """`Items` of whatever data set it is; the same if it is `Items` already."""
    return dataset if isinstance(dataset, Items) else Items(dataset)


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | Image.Image | str | Path)


def _is_pair(value: Any) -> bool:
    """Whether it is an image and its target, not two images."""
    return isinstance(value, tuple | list) and len(value) == 2 and (value[1] is None or not _is_image(value[1]))


def _split(item: Any) -> tuple[Any, Any]:
    """Image and target of an item: a pair, a mapping with "image" and the target's fields, or an image alone."""
    if isinstance(item, Mapping) and "image" in item:
        return item["image"], {name: value for name, value in item.items() if name != "image"}
    return (item[0], item[1]) if _is_pair(item) else (item, None)


def _places(dataset: Any) -> Iterator[tuple[Any, int]]:
    """Where every item comes from: through subsets and concatenations to the data set that holds it."""
    if isinstance(dataset, Subset):
        inner = list(_places(dataset.dataset))
        yield from (inner[int(index)] for index in dataset.indices)
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _places(part)
    else:
        yield from ((dataset, index) for index in range(len(dataset)))


def _transforms_targets(source: Any) -> bool:
    """Whether the items of a data set have other targets than its annotation file: only they fit the images."""
    transforms = getattr(source, "transforms", None)
    return (transforms.target_transform if isinstance(transforms, StandardTransform) else transforms) is not None


def _check_size(image: Tensor, source: Any, place: int, target: Any) -> None:
    """Raise InputError if an image has another size than the one that its boxes are for."""
    boxes = target.get("boxes") if isinstance(target, Mapping) else None
    if isinstance(boxes, BoundingBoxes):
        expected = tuple(boxes.canvas_size)
    elif isinstance(source, CocoDetection) and not _transforms_targets(source):
        entry = source.coco.imgs[source.ids[place]]
        expected = (values.pixels(entry.get("height")), values.pixels(entry.get("width")))
    else:
        return
    height, width = image.shape[1:]
    if None not in expected and expected != (height, width):
        raise InputError(
            f"image is {width}×{height} pixels, but its boxes are for {expected[1]}×{expected[0]}; resize both: give "
            "the data set `transforms` that take image and target, not a `transform` of the image"
        )
