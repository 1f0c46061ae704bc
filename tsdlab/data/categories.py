"""What the labels of a data set and of a model mean, and which of them are the same class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tsdlab.data import values
from tsdlab.data.values import id_order
from tsdlab.errors import DataError, InputError, shown
from tsdlab.structures import Category

if TYPE_CHECKING:
    from tsdlab.data.coco import CocoDataset
    from tsdlab.data.items import Items


def categories_of(source: Any) -> tuple[Category, ...]:
    """The categories of a data set; () if it does not say what its labels mean.

    Raises:
        InputError: they are no categories, or one has no name.
    """
    coco = getattr(source, "coco", None)
    if coco is not None:
        for key, entry in coco.cats.items():
            if values.name(entry.get("name")) is None:
                raise DataError(f"category {shown(repr(key))} of the data set must have a name")
        return tuple(Category(key, coco.cats[key]["name"]) for key in sorted(coco.cats, key=id_order))
    return checked_categories(source, "the data set")


def checked_categories(owner: Any, name: str) -> tuple[Category, ...]:
    """The attribute `categories` of a model or data set; () if it has none.

    Raises:
        InputError: it is something else than categories.
    """
    found = getattr(owner, "categories", None)
    found = () if found is None else found
    if not isinstance(found, tuple | list) or not all(isinstance(category, Category) for category in found):
        raise InputError(
            f"categories of {name} must be a tuple with one tsdlab.structures.Category(id, name) per label, got "
            f"{shown(found, 80)}"
        )
    return tuple(found)


def model_labels(model: Any, dataset: Items | CocoDataset, names: Sequence[str] | None = None) -> Tensor:
    """[1 + C] the model's label for each label of the dataset.

    They are matched by the names in `model.categories`; if that is empty by `names` of the model's classes 1…C, unless
    those are as many classes and share no name with the dataset's (a translation); else by position. Labels without a
    name are the model's.

    Raises:
        InputError: the dataset has a category that the model does not know.
    """
    classes: int = model.config.num_classes
    categories = checked_categories(model, "the model")
    own = [category.name for category in categories] or list(names or ())
    theirs = [category.name for category in dataset.categories]
    where = shown(str(getattr(dataset, "annotation_file", getattr(dataset, "name", None))))
    by_name = {name: label for label, name in reversed(list(enumerate(own, 1)))}
    unknown = [name for name in theirs if name not in by_name]
    same_number = not categories and len(theirs) == classes
    if not theirs or own == theirs or (same_number and len(unknown) == len(theirs)):
        return torch.arange(1 + classes)
    if not own:
        raise InputError(
            f"the model has {classes} classes without names, {where} has {len(theirs)}; set model.categories to a "
            "tuple with one tsdlab.structures.Category per label"
        )
    if unknown:
        raise InputError(
            f"the model does not know the categories {shown(', '.join(unknown))} of {where}; it knows "
            f"{shown(', '.join(own))}"
        )
    return torch.tensor([0, *(by_name[name] for name in theirs)])
