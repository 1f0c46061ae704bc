"""A trace says what the model did, in the pixels of the image it was given."""

from dataclasses import replace

import pytest
import torch

from tsdlab.config import PRESETS
from tsdlab.models.detector import build_detector
from tsdlab.models.heads import HEADS
from tsdlab.models.trace import trace

TINY = PRESETS["badges-tiny"]


def make_model(head="tsd"):
    torch.manual_seed(0)
    model = build_detector(replace(TINY, head=head, roi=replace(TINY.roi, score_thresh=0.1)))
    for name, parameter in model.named_parameters():
        if "offset" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.mark.parametrize("head", HEADS)
def test_trace_repeats_the_models_detections(head):
    model = make_model(head)
    image = torch.rand(3, 96, 160)  # resized on its way in
    with torch.no_grad():
        expected = model([image])[0]
    found = trace(model, image)
    for key in ("boxes", "labels", "scores"):
        torch.testing.assert_close(found.detections[key], expected[key], rtol=1e-4, atol=1e-3)
    assert (found.sibling is None) == (head in ("d_head", "double", "iou"))
    assert (found.classification_offsets is None) == (head != "tsd")


def test_trace_is_in_original_pixels():
    model, image = make_model(), torch.rand(3, 64, 64)
    found = trace(model, image)
    doubled = trace(model, torch.nn.functional.interpolate(image[None], scale_factor=2.0, mode="bilinear")[0])
    assert found.image_size == (64, 64)
    assert found.strides["0"] == (2.0, 2.0) and doubled.strides["0"] == (4.0, 4.0)
    torch.testing.assert_close(found.proposals * 2, doubled.proposals, rtol=1e-3, atol=0.1)
    assert found.proposals.max() <= 64


def test_regions_follow_from_offsets():
    model = make_model()
    proposals = torch.tensor([[10.0, 20.0, 50.0, 60.0]])
    found = trace(model, torch.rand(3, 128, 128), proposals)
    torch.testing.assert_close(found.proposals, proposals)
    assert found.proposal_scores.isnan().all()
    shift = found.localization_offset * 40
    torch.testing.assert_close(found.localization_proposals, proposals + shift.repeat(1, 2))
    first_bin = torch.tensor([10.0, 20.0]) + 40 / 14
    torch.testing.assert_close(
        found.classification_points[0, 0, 0], first_bin + 40 * found.classification_offsets[0, 0, 0]
    )


def test_proposals_come_best_first_with_their_scores():
    found = trace(make_model(), torch.rand(3, 128, 128))
    assert len(found.proposals) == len(found.proposal_scores) > 10
    assert (found.proposal_scores.diff() <= 1e-6).all()
    assert ((found.proposal_scores >= 0) & (found.proposal_scores <= 1)).all()


def test_a_trace_can_be_changed_and_differentiated():
    found = trace(make_model(), torch.rand(3, 128, 128))
    found.proposals[0] += 1
    weight = torch.ones((), requires_grad=True)
    (found.features["0"] * weight).sum().backward()
    assert weight.grad.isfinite()


def test_training_mode_is_restored():
    model = make_model().train()
    trace(model, torch.rand(3, 128, 128))
    assert model.training


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"image must be \[3, H, W\], got \(1, 8, 8\)"):
        trace(make_model(), torch.rand(1, 8, 8))
    with pytest.raises(ValueError, match=r"proposals must be \[K, 4\] xyxy, got \(4,\)"):
        trace(make_model(), torch.rand(3, 8, 8), torch.zeros(4))
