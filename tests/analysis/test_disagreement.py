"""Two detectors read the same proposals; what is said of one proposal is what a trace of it alone says."""

import pytest
import torch
from torchvision.ops import box_iou

import tsdlab
from tsdlab.analysis.disagreement import read_proposals
from tsdlab.data import SAMPLE, CocoDataset


@pytest.fixture(scope="module")
def detectors():
    return tsdlab.load_detector("badges-sibling"), tsdlab.load_detector("badges-tsd")


@pytest.fixture(scope="module")
def images():
    dataset = CocoDataset(SAMPLE, "val")
    return [dataset[index] for index in (8, 0)]


def test_readings_are_those_of_the_proposal_alone(detectors, images):
    read = list(read_proposals(*detectors, images))
    assert {found.image for found in read} == {0, 1}
    for found in read[:: len(read) // 5]:
        image, target = images[found.image]
        box = target["boxes"][found.object]
        assert found.label == target["labels"][found.object]
        assert found.overlap >= 0.5
        assert found.overlap == pytest.approx(box_iou(found.proposal[None], target["boxes"]).max().item(), abs=1e-5)
        for model, reading in zip(detectors, (found.first, found.second)):
            answer = tsdlab.trace(model, image, found.proposal[None])
            assert reading.score == pytest.approx(answer.detection.scores[0, found.label].item(), abs=1e-4)
            assert reading.label == answer.detection.scores[0].argmax()
            decoded = answer.detection.boxes[0, found.label]
            assert reading.iou == pytest.approx(box_iou(decoded[None], box[None]).item(), abs=1e-4)
        moved = box_iou(answer.regions["localization"].boxes, box[None]).item()
        assert found.moved_overlap == pytest.approx(moved, abs=1e-4)


def test_a_head_that_moves_nothing_keeps_its_overlap(detectors, images):
    sibling, _ = detectors
    assert all(found.moved_overlap == found.overlap for found in read_proposals(sibling, sibling, images[:1]))


def test_images_without_objects_have_no_proposals(detectors, images):
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert {found.image for found in read_proposals(*detectors, [(torch.rand(3, 96, 96), empty), images[1]])} == {1}
