from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tsdlab.config import HEADS, Config, HeadName, config_from_dict, config_to_dict
from tsdlab.models.build import build_detector
from tsdlab.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name: str) -> None:
    preset = PRESETS[name]
    assert config_from_dict(json.loads(json.dumps(config_to_dict(preset)))) == preset


def test_an_unknown_field_is_named_with_its_place() -> None:
    values = config_to_dict(Config())
    values["roi"]["hiden"] = 3
    with pytest.raises(ValueError, match=r"config\.roi has unknown field\(s\) hiden"):
        config_from_dict(values)


def test_missing_fields_take_their_defaults() -> None:
    assert config_from_dict({"head": "sibling", "tsd": {"gamma": 0.2}}) == replace(
        Config(head="sibling"), tsd=replace(Config().tsd, gamma=0.2)
    )


def test_one_anchor_size_per_level_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"anchor_sizes has 5 entries for 4 pyramid levels"):
        replace(Config(), backbone=replace(Config().backbone, stages=(2, 3, 4)))


def test_a_detector_has_at_least_one_class() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        Config(num_classes=0)


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("roi", "nms", "soft", r"roi\.nms must be one of 'hard', 'linear', 'gaussian'; got 'soft'"),
        ("tsd", "localization_region", "bin", r"tsd\.localization_region must be one of 'bins', 'proposal'"),
        ("roi", "soft_nms_sigma", 0.0, r"roi\.soft_nms_sigma must be above 0, got 0"),
        ("iou", "min_iou", 1.0, r"iou\.min_iou must be between 0 and 1"),
        ("iou", "boxes_per_object", 0, r"iou\.boxes_per_object must be at least 1"),
        ("iou", "refinement_steps", -1, r"iou\.refinement_steps must be at least 0"),
        ("tsd", "gamma", -1.0, r"tsd\.gamma must be at least 0"),
        ("tsd", "localization_margin", 2.0, r"the margins of tsd must be between 0 and 1, or None, got \[0\.2, 2\.0\]"),
        ("double", "box_scale", -1.0, r"double\.box_scale must be above 0"),
    ],
)
def test_impossible_values_are_named(section: str, field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Config(), **{section: replace(getattr(Config(), section), **{field: value})})
    with pytest.raises(ValueError, match="head must be one of"):
        Config(head="tds")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["badges-tiny", "badges", "bccd"])
def test_every_preset_builds_with_every_head(name: str, head: HeadName) -> None:
    model = build_detector(replace(PRESETS[name], head=head))
    assert model.config.head == head


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_consistent(name: str) -> None:
    preset = PRESETS[name]
    assert preset.image.min_size <= preset.image.max_size
    assert preset.train.warmup_steps < preset.train.steps
    assert preset.train.checkpoint_every <= preset.train.steps
    assert all(0 < milestone < 1 for milestone in preset.train.milestones)
    # Frozen norms are those of pretrained weights; a backbone from scratch needs its own.
    assert (preset.backbone.norm == "frozen") == (preset.backbone.trainable_stages < 5)
