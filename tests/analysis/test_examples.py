"""Examples are the objects whose tasks disagree most."""

from dataclasses import replace

import pytest
import torch
from torchvision.ops import box_iou

import tsdlab
from tsdlab.analysis import examples
from tsdlab.analysis.examples import choose_examples, choose_shown
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe


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
    assert list(example.maps) == ["proposals", "gradients"]
    for maps in example.maps.values():
        assert torch.equal(maps.box, example.box) and maps.label == example.label
        assert example.level in maps.levels and maps.levels.keys() <= example.strides.keys()


@pytest.mark.parametrize(("share", "label", "found"), [(0.5, 0, True), (0.49, 0, False), (1.0, 1, False)])
def test_a_detection_of_its_class_from_an_iou_of_a_half_on_finds_an_object(
    share, label, found, tiny_data, tiny_config, monkeypatch
):
    dataset = CocoDataset(tiny_data, "val")
    target = dataset[1][1]
    box = target["boxes"][:1].clone()
    box[:, 2] = box[:, 0] + share * (box[:, 2] - box[:, 0])
    labels = torch.where(target["labels"][:1] == 1, 1 + label, 2 - label)

    class Detecting(Probe):
        def trace(self, proposals=None):
            detections = {"boxes": box, "labels": labels, "scores": torch.ones(1)}
            return replace(super().trace(proposals), detections=detections)

    monkeypatch.setattr(examples, "Probe", Detecting)
    assert next(examples._candidates(build_detector(tiny_config), dataset, 1)).found is found


def test_an_object_that_is_found_comes_before_one_that_is_not():
    model, sample = tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val")
    (farthest,) = choose_examples(model, sample, images=1, count=1)
    with torch.no_grad():  # no detection is of its class any more; the gradients of its log-odds stay as they are
        model.roi_heads.head.classification.out.bias[farthest.label] -= 50
    (found,) = choose_examples(model, sample, images=1, count=1)
    assert found.label != farthest.label and found.peak_distance < farthest.peak_distance


def test_an_example_of_badges_holds_the_salient_part():
    sample = CocoDataset(SAMPLE, "val")
    (example,) = choose_examples(tsdlab.load_detector("badges-tsd"), sample, images=1, count=1)
    assert torch.equal(example.salient, sample[0][1]["salient_boxes"][example.object])


def test_a_typical_object_is_at_the_median_of_those_that_are_found(tiny_data, tiny_config, monkeypatch):
    dataset = CocoDataset(tiny_data, "val")

    def known(model, items, index):
        distances = [(True, 0.9), (True, 0.3), (True, 0.4), (True, 0.2), (False, 0.9)]
        found, far = distances[index]
        if index:  # the first image is empty
            yield examples._Candidate(found, far, far, index, 0, 1, "0")

    monkeypatch.setattr(examples, "_candidates", known)
    model = build_detector(tiny_config)
    chosen = choose_shown(model, dataset, images=5, count=2, progress=False)
    assert chosen.typical.image == 1 and [example.image for example in chosen.farthest] == [2, 1]
    assert [example.image for example in chosen.all] == [1, 2, 1]
    nothing = choose_shown(model, dataset, images=1, progress=False)
    assert nothing.typical is None and nothing.all == []


def test_an_example_has_the_proposal_that_is_moved_by_the_median(tiny_data, tiny_config):
    sample = CocoDataset(SAMPLE, "val")
    model = tsdlab.load_detector("badges-tsd")
    (example,) = choose_examples(model, sample, images=1, count=1, progress=False)
    trace = tsdlab.trace(model, example.pixels)
    near = box_iou(trace.proposals, example.box[None])[:, 0] >= 0.5
    lengths = sum(region.moved for region in trace.regions.values())[near]
    own = sum(region.moved for region in example.moved.regions.values()).item()
    assert int((lengths < own - 1e-5).sum()) <= len(lengths) // 2 >= int((lengths > own + 1e-5).sum())
    assert len(example.moved.proposals) == 1
    assert box_iou(example.moved.proposals, example.box[None]).item() >= 0.5
    (plain,) = choose_examples(build_detector(replace(tiny_config, num_classes=6, head="sibling")), sample, 1, 1)
    assert plain.moved is None


def test_an_example_names_its_file(tiny_data, tiny_config):
    dataset = CocoDataset(tiny_data, "val")
    (example,) = choose_examples(build_detector(tiny_config), dataset, images=5, count=1, progress=False)
    assert example.as_dict()["file"] == dataset.content.images.names[example.image]
    assert example.as_dict()["image_id"] == example.image_id
