"""Classes of data set and model are matched by name, or one line says why they do not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ecosystem import dataset_of, knows, write_folder

from tsdlab.data.categories import model_labels
from tsdlab.data.coco import CocoDataset
from tsdlab.data.items import Items
from tsdlab.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


@pytest.mark.parametrize(
    ("model", "names", "labels", "shown"),
    [
        (knows(2), None, [0, 1, 2], ("cat", "dog")),  # by position
        (knows(2, "dog", "cat"), None, [0, 2, 1], ("dog", "cat")),
        (knows(4, "bird", "dog", "cow", "cat"), None, [0, 4, 2], ("bird", "dog", "cow", "cat")),
        (knows(3), ["dog", "N/A", "cat"], [0, 3, 1], ("dog", "N/A", "cat")),  # names= are the model's
        (knows(2), ["Hund", "Katze"], [0, 1, 2], ("Hund", "Katze")),  # only other words
        (knows(2, "dog", "cat"), ["Hund", "Katze"], [0, 2, 1], ("Hund", "Katze")),
    ],
)
def test_classes_are_matched_by_name(folder: Path, model, names, labels, shown) -> None:
    for kind in ("CocoDataset", "CocoDetection wrapped"):
        items = Items(dataset_of(kind, folder)).for_model(model, names)
        assert model_labels(model, Items(dataset_of(kind, folder)), names).tolist() == labels
        assert items.names == shown
        assert items[0][1]["labels"].tolist() == items.target(0)["labels"].tolist() == labels[1:]


@pytest.mark.parametrize(
    ("model", "names", "says"),
    [
        (
            knows(90),
            None,
            r"the model has 90 classes without names, .*instances_train\.json has 2; set model.categories",
        ),
        (knows(2, "dog", "cow"), None, "does not know the categories cat of .*; it knows dog, cow"),
        (knows(3), ["dog", "cow", "bird"], "does not know the categories cat"),
        (knows(2), ["dog", "Cat"], "does not know the categories cat of .*; it knows dog, Cat"),
    ],
)
def test_classes_that_do_not_fit_are_refused(folder: Path, model, names, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Items(CocoDataset(folder, "train")).for_model(model, names)


@pytest.mark.parametrize("categories", [("cat", "dog"), [{"id": 1, "name": "cat"}], 3, "cat"])
def test_categories_of_another_type_are_refused(folder: Path, categories: object) -> None:
    model = SimpleNamespace(config=SimpleNamespace(num_classes=2), categories=categories)
    with pytest.raises(InputError, match="categories of the model must be a tuple"):
        Items(CocoDataset(folder, "train")).for_model(model)


def test_a_model_may_have_no_categories(folder: Path) -> None:
    model = SimpleNamespace(config=SimpleNamespace(num_classes=2), categories=None)
    assert Items(CocoDataset(folder, "train")).for_model(model).names == ("cat", "dog")
