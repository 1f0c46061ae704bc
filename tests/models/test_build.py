"""A detector is what its config says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tsdlab.config import Config, ImageConfig
from tsdlab.models.build import build_detector


def test_every_number_of_the_config_reaches_its_place(tiny_config: Config) -> None:
    """Numbers that are no default of tsdlab or torchvision, and that differ from each other."""
    config = replace(
        tiny_config,
        image=ImageConfig(min_size=96, max_size=160, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
        rpn=replace(
            tiny_config.rpn,
            anchor_sizes=(16, 24, 40),
            aspect_ratios=(0.75, 1.5),
            fg_iou=0.65,
            bg_iou=0.25,
            samples_per_image=50,
            positive_fraction=0.4,
            pre_nms_train=70,
            pre_nms_test=60,
            post_nms_train=30,
            post_nms_test=20,
            nms_thresh=0.55,
        ),
        roi=replace(
            tiny_config.roi,
            output_size=5,
            sampling_ratio=3,
            aligned=False,
            canonical_size=90,
            samples_per_image=24,
            positive_fraction=0.125,
            fg_iou=0.45,
        ),
    )
    model = build_detector(config)
    transform, rpn, heads = model.transform, model.rpn, model.roi_heads
    assert (transform.min_size, transform.max_size) == ((96,), 160)
    assert (transform.image_mean, transform.image_std) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert rpn.anchor_generator.sizes == ((16,), (24,), (40,))
    assert rpn.anchor_generator.aspect_ratios == ((0.75, 1.5),) * 3
    assert (rpn.proposal_matcher.high_threshold, rpn.proposal_matcher.low_threshold) == (0.65, 0.25)
    assert (rpn.fg_bg_sampler.batch_size_per_image, rpn.fg_bg_sampler.positive_fraction) == (50, 0.4)
    assert (rpn.train().pre_nms_top_n(), rpn.post_nms_top_n()) == (70, 30)
    assert (rpn.eval().pre_nms_top_n(), rpn.post_nms_top_n()) == (60, 20)
    assert rpn.nms_thresh == 0.55
    pooler = heads.pooler
    assert (pooler.output_size, pooler.sampling_ratio, pooler.aligned, pooler.canonical_size) == (5, 3, False, 90)
    assert (heads._draw.batch_size_per_image, heads._draw.positive_fraction) == (24, 0.125)
    assert heads._match.high_threshold == 0.45
    assert heads.config == config.roi


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_the_losses_of_the_head_are_weighted(weight: float, tiny_config: Config) -> None:
    image, target = torch.rand(3, 64, 64), {"boxes": torch.tensor([[8.0, 8, 40, 50]]), "labels": torch.tensor([1])}
    losses = []
    for loss_weight in (1.0, weight):
        torch.manual_seed(0)
        model = build_detector(replace(tiny_config, roi=replace(tiny_config.roi, loss_weight=loss_weight)))
        losses.append(model([image], [target]))
    for name, value in losses[0].items():
        factor = 1.0 if name in ("loss_objectness", "loss_rpn_box_reg") else weight
        torch.testing.assert_close(losses[1][name], factor * value)
    assert losses[0]["loss_classifier"] > 0
