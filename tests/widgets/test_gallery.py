from types import SimpleNamespace

import pytest
import torch

from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.structures import Category
from tsdlab.widgets.explorer.gallery import SIZES, Gallery


def knows(classes, names=()):
    """What a gallery looks at of a detector."""
    categories = tuple(Category(i, name) for i, name in enumerate(names))
    return SimpleNamespace(config=SimpleNamespace(num_classes=classes), categories=categories)


@pytest.fixture(scope="module")
def gallery():
    return Gallery(CocoDataset(SAMPLE, "val"), knows(6))


def test_thirds_are_of_this_data_set(gallery):
    images, _, areas = gallery._objects
    held = {third: set(gallery.passing(None, third)) for third in SIZES[3:]}
    assert set.union(*held.values()) == set(images)
    assert images[areas.argmin()] in held["smallest third"] and images[areas.argmax()] in held["largest third"]


def test_class_and_size_are_of_one_object(gallery):
    """An image with a small star and a large ring has no large star."""
    for name in gallery.names:
        for size in SIZES:
            both = set(gallery.passing(name, size))
            assert both <= set(gallery.passing(name, None)) & set(gallery.passing(None, size))
    box = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 50.0, 50.0]])
    pair = torch.zeros(3, 64, 64), {"boxes": box, "labels": torch.tensor([1, 2])}
    alone = Gallery(pair, knows(2), ("star", "ring"))
    assert alone.passing("star", "small") == alone.passing("ring", "medium") == [0]
    assert alone.passing("star", "medium") == []


def test_data_without_names_or_objects():
    image = torch.zeros(3, 8, 8)
    gallery = Gallery(image, knows(2))
    assert len(gallery) == 1 and gallery.names == ["1", "2"] and gallery.variable == "image"
    pixels, truth = gallery[0]
    assert pixels is image and len(truth.boxes) == 0
    assert gallery.passing(None, None) == [0] and gallery.passing("1", None) == []
    with pytest.raises(ValueError, match=r"knows 2 classes, but there are 3 names.*: a, b, c"):
        Gallery(image, knows(2), ("a", "b", "c"))
    with pytest.raises(ValueError, match="no image"):
        Gallery([], knows(2))
