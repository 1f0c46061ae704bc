from __future__ import annotations

import json
import math
import re
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdlab.config import HEADS, Config, HeadName, config_from_dict, config_to_dict
from tsdlab.data.badges import BadgesConfig
from tsdlab.errors import InputError
from tsdlab.models.build import build_detector
from tsdlab.presets import PRESETS
from tsdlab.ranges import NotEmpty, Range


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name: str) -> None:
    preset = PRESETS[name]
    assert config_from_dict(json.loads(json.dumps(config_to_dict(preset)))) == preset


def test_an_unknown_field_is_named_with_its_place() -> None:
    values = config_to_dict(Config())
    values["roi"]["hiden"] = 3
    with pytest.raises(ValueError, match=r"config\.roi has unknown field\(s\) hiden"):
        config_from_dict(values)


def test_a_name_that_is_no_text_is_unknown_too() -> None:
    with pytest.raises(InputError, match=r"config has unknown field\(s\) 1, None"):
        config_from_dict({1: 2, None: 3})  # type: ignore[dict-item]


def test_missing_fields_take_their_defaults() -> None:
    assert config_from_dict({"head": "sibling", "tsd": {"gamma": 0.2}}) == replace(
        Config(head="sibling"), tsd=replace(Config().tsd, gamma=0.2)
    )


def test_one_anchor_size_per_level_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"anchor_sizes has 5 entries for 4 pyramid levels"):
        replace(Config(), backbone=replace(Config().backbone, stages=(2, 3, 4)))


SECTIONS = {f.name: type(getattr(Config(), f.name)) for f in fields(Config) if is_dataclass(getattr(Config(), f.name))}
EVERY = {"": Config, **{f"{name}.": cls for name, cls in SECTIONS.items()}, "badges ": BadgesConfig}
FIELDS = [
    (cls, prefix.strip() if prefix != "badges " else "", f.name) for prefix, cls in EVERY.items() for f in fields(cls)
]


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("roi", {"nms": "soft"}, "roi.nms must be one of 'hard', 'linear', 'gaussian', got 'soft'"),
        ("roi", {"score_thresh": math.nan}, "roi.score_thresh must be a number from 0 to 1, got nan"),
        ("roi", {"positive_fraction": 0.0}, "roi.positive_fraction must be a number above 0 and at most 1, got 0.0"),
        ("roi", {"aligned": 1}, "roi.aligned must be True or False, got 1"),
        ("tsd", {"gamma": -1.0}, "tsd.gamma must be a number from 0 to 1,000,000, got -1.0"),
        ("tsd", {"localization_margin": 2}, "tsd.localization_margin must be a number from 0 to 1, or None, got 2"),
        ("image", {"max_size": 0}, "image.max_size must be a whole number from 32 to 65,536, got 0"),
        ("image", {"min_size": 900, "max_size": 800}, "image.max_size must be at least image.min_size, which is 900"),
        ("image", {"std": (0.2, 0.2)}, "image.std must be a tuple of 3 values, got (0.2, 0.2)"),
        ("backbone", {"name": ""}, "backbone.name must be not empty, got ''"),
        ("backbone", {"stages": (1, 3)}, "backbone.stages must be consecutive numbers from 1 to 4, got (1, 3)"),
        ("backbone", {"stages": (4, 5)}, "backbone.stages must be consecutive numbers from 1 to 4, got (4, 5)"),
        ("backbone", {"trainable_stages": 6}, "backbone.trainable_stages must be at most 5 for resnet50, got 6"),
        (
            "backbone",
            {"stages": (1, 2), "deformable_stages": (2, 3)},
            "backbone.deformable_stages must be numbers from 1 to 2, the last of backbone.stages, got (2, 3)",
        ),
        ("rpn", {"anchor_sizes": ()}, "rpn.anchor_sizes must be not empty, got ()"),
        ("rpn", {"anchor_sizes": [32]}, "rpn.anchor_sizes must be a tuple, got [32]"),
        ("rpn", {"bg_iou": 0.8}, "rpn.bg_iou must be at most rpn.fg_iou, which is 0.7, got 0.8"),
        (
            "rpn",
            {"anchor_sizes": (32, 8), "aspect_ratios": (1.0, 0.01)},
            "rpn.anchor_sizes and rpn.aspect_ratios must make anchors whose sides have at least 2 pixels, got one",
        ),
        ("train", {"steps": -1}, "train.steps must be a whole number from 1 to 1,000,000,000, got -1"),
        ("train", {"steps": 1.5}, "train.steps must be a whole number from 1 to 1,000,000,000, got 1.5"),
        ("train", {"workers": True}, "train.workers must be a whole number from 0 to 256, got True"),
        ("train", {"seed": 2**70}, f"train.seed must be a whole number from 0 to {2**63 - 1:,}, got {2**70}"),
        ("train", {"seed": 10**5000}, f"train.seed must be a whole number from 0 to {2**63 - 1:,}, got a number of"),
        ("train", {"milestones": (0.5, math.nan)}, "train.milestones[1] must be a number above 0 and below 1, got nan"),
        ("train", {"milestones": (0.9, 0.5)}, "train.milestones must increase, got (0.9, 0.5)"),
        ("train", {"scale_jitter": (2.0, 0.5)}, "train.scale_jitter must be (low, high) with low ≤ high, got (2.0, 0."),
        ("train", {"warmup_factor": math.nan}, "train.warmup_factor must be a number from 0 to 1, got nan"),
    ],
)
def test_what_is_not_allowed_is_named(section: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        SECTIONS[section](**changes)


def test_a_config_checks_its_own_fields() -> None:
    with pytest.raises(InputError, match=r"head must be one of 'sibling', .*, got 'tds'"):
        Config(head="tds")
    with pytest.raises(InputError, match="num_classes must be a whole number from 1 to 1,000,000, got 0"):
        Config(num_classes=0)
    with pytest.raises(InputError, match="train must be a TrainConfig, got None"):
        Config(train=None)  # type: ignore[arg-type]


def test_every_number_declares_its_range() -> None:
    def numbers_without_range(hint: Any) -> bool:
        bare, *markers = get_args(hint) if get_origin(hint) is Annotated else [hint]
        if bare in (int, float):
            return not any(isinstance(marker, Range) for marker in markers)
        return any(map(numbers_without_range, get_args(bare)))

    for cls in EVERY.values():
        hints = get_type_hints(cls, include_extras=True)
        assert [name for name, hint in hints.items() if numbers_without_range(hint)] == []


numbers = (
    st.sampled_from([math.nan, math.inf, -math.inf, 0, 0.0, -0.0, 1, 1.0, -1, 1e-300, 5e-324, 1e308, True, False])
    | st.sampled_from([2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 2**70, -(2**63), 10**400])
    | st.integers()
    | st.floats()
)
values = numbers | st.none() | st.text(max_size=3)
values = (
    values | st.lists(values, max_size=4) | st.lists(values, max_size=4).map(tuple) | st.dictionaries(values, values)
)


@given(where=st.sampled_from(FIELDS), value=values)
@settings(max_examples=1500)
def test_a_field_holds_what_it_declares_or_is_named(where: tuple[Any, str, str], value: Any) -> None:
    cls, prefix, name = where
    try:
        config = cls(**{name: value})
    except InputError as error:
        assert prefix + name in str(error) and ", got " in str(error)
        assert "\n" not in str(error) and len(str(error)) < 300
    else:
        assert getattr(config, name) is value
        assert_declared(value, get_type_hints(cls, include_extras=True)[name])


def assert_declared(value: Any, hint: Any) -> None:
    """An oracle of its own: it does not use the code that it checks."""
    bare, *markers = get_args(hint) if get_origin(hint) is Annotated else [hint]
    if get_origin(bare) in (Union, UnionType):
        if value is not None:
            assert_declared(value, get_args(bare)[0])
        return
    if get_origin(bare) is tuple:
        hints = get_args(bare)
        hints = hints[:1] * len(value) if hints[-1] is Ellipsis else hints
        assert type(value) is tuple and len(value) == len(hints)
        assert value or NotEmpty() not in markers
        for element, element_hint in zip(value, hints):
            assert_declared(element, element_hint)
        return
    if get_origin(bare) is Literal:
        assert value in get_args(bare)
        return
    assert type(value) is bare or (bare is float and type(value) is int)
    assert value != "" or NotEmpty() not in markers
    for marker in markers:
        if isinstance(marker, Range):
            assert math.isfinite(value) and marker.low <= value <= marker.high
            assert value != (marker.low if marker.low_excluded else None)
            assert value != (marker.high if marker.high_excluded else None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"steps": math.nan}}, "train.steps must be a whole number from 1 to 1,000,000,000, got nan"),
        ({"train": {"milestones": 0.5}}, "train.milestones must be a tuple, got 0.5"),
        ({"train": 3}, "config.train must be an object with the fields of TrainConfig, got 3"),
        ({"rpn": {"anchor_sizes": ["a"]}}, "rpn.anchor_sizes[0] must be a number from 1 to 65,536, got 'a'"),
    ],
)
def test_a_file_is_checked_like_any_config(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        config_from_dict(values)


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
