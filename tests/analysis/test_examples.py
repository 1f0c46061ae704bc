"""Examples are the objects whose tasks disagree most."""

from dataclasses import replace

import torch

from tsdlab.analysis.examples import choose_examples
from tsdlab.data import CocoDataset
from tsdlab.models.build import build_detector


def test_examples_are_the_farthest_apart_one_of_an_image(tiny_data, tiny_config):
    dataset = CocoDataset(tiny_data, "val")
    torch.manual_seed(0)
    # With this threshold it finds nothing, so that only distance counts.
    roi = replace(tiny_config.roi, score_thresh=1.0)
    model = build_detector(replace(tiny_config, head="sibling", roi=roi)).eval()
    many = choose_examples(model, dataset, images=5, count=9)
    assert len({example.image for example in many}) == len(many) == 4  # of five images one is empty
    distances = [example.peak_distance for example in many]
    assert distances == sorted(distances, reverse=True)
    fewer = choose_examples(model, dataset, images=5, count=2)
    assert [example.as_dict() for example in fewer] == [example.as_dict() for example in many[:2]]
    assert choose_examples(model, dataset, images=1) == []


def test_an_example_holds_its_object_and_the_maps_of_it(tiny_data, tiny_config):
    dataset = CocoDataset(tiny_data, "val")
    torch.manual_seed(0)
    (example,) = choose_examples(build_detector(tiny_config), dataset, images=5, count=1)
    image, target = dataset[example.image]
    assert torch.equal(example.pixels, image) and example.image_id == dataset.image_ids[example.image]
    assert torch.equal(example.box, target["boxes"][example.object]) and example.salient is None
    assert example.category == dataset.categories[int(target["labels"][example.object]) - 1].name
    for maps in example.maps.values():
        assert torch.equal(maps.box, example.box) and maps.label == example.label
        assert example.level in maps.levels and maps.levels.keys() <= example.strides.keys()
