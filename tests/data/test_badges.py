"""The properties of badges that analyses are checked against."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tsdlab.data import badges
from tsdlab.data.badges import CLASSES, WORLD, BadgesConfig, Layout, draw_scene, make_badges, rendering, scene_rng
from tsdlab.data.badges import dataset as dataset_module
from tsdlab.data.badges import layout as layout_module
from tsdlab.data.check import check_folder
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import ExistingFileError

SCENES = range(25)
MISALIGNMENTS = (0.0, 0.5, 1.0, 1.5, 2.0)


def layout(index: int, misalignment: float = 1.0, room: float | None = None) -> Layout:
    return badges.sample_layout(scene_rng(0, 0, index), misalignment, room)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_an_ordinary_coco_folder(tmp_path: Path) -> None:
    config = BadgesConfig(train=4, val=2, misalignment=0.5)
    root = make_badges(tmp_path / "world", config, progress=False)
    train, val = check_folder(root, progress=False)
    assert (train.images, val.images, train.problems, val.problems) == (4, 2, [], [])
    dataset = CocoDataset(root, "train")
    assert [category.name for category in dataset.categories] == list(CLASSES)
    scene = draw_scene(scene_rng(0, 0, 1), misalignment=0.5)
    image, target = dataset[1]
    assert np.array_equal((image * 255).round().byte().permute(1, 2, 0).numpy(), scene.image)
    np.testing.assert_allclose(target["boxes"].numpy(), scene.boxes, atol=0.011)
    np.testing.assert_allclose(target["salient_boxes"].numpy(), scene.salient_boxes, atol=0.011)
    assert target["labels"].tolist() == scene.labels.tolist()
    info = json.loads(dataset.annotation_file.read_text())["info"]
    assert BadgesConfig(**info["config"]) == config


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    config = BadgesConfig(train=2, val=1)
    once, twice = (files(make_badges(tmp_path / name, config, progress=False)) for name in "ab")
    assert once == twice
    other = files(make_badges(tmp_path / "c", replace(config, seed=1), progress=False))
    assert all(once[name] != other[name] for name in once)
    assert once["train/000000.png"] != once["val/000000.png"]


def test_nothing_is_overwritten_and_an_interrupted_call_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ExistingFileError, match="mine exists and is not empty"):
        make_badges(tmp_path / "mine", BadgesConfig(train=1, val=1), progress=False)

    def interrupted(*_args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_module, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_badges(tmp_path / "new", BadgesConfig(train=1, val=1), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("size", [128, 512])
def test_boxes_are_tight_around_body_and_limbs(size: int) -> None:
    for index in SCENES:
        for creature in layout(index).creatures:
            rows, columns = np.where(badges.body_mask(creature, size) > 0.45)
            extent = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            np.testing.assert_allclose(extent, np.array(creature.box) * size / WORLD, atol=0.6)


def test_limbs_stay_in_the_box() -> None:
    for index in range(150):
        for creature in layout(index).creatures:
            points = np.concatenate(creature.limbs)
            x1, y1, x2, y2 = creature.box
            low, high = points[:, :2] - points[:, 2:], points[:, :2] + points[:, 2:]
            assert (low >= np.array([x1, y1]) - 1e-9).all() and (high <= np.array([x2, y2]) + 1e-9).all()


@pytest.mark.parametrize("misalignment", [*MISALIGNMENTS, 0.2, 1.2])
def test_badges_sit_where_the_misalignment_says(misalignment: float) -> None:
    for index in SCENES:
        for creature in layout(index, misalignment, room=2.0).creatures:
            radius = creature.badge.diameter / 2
            for axis in (0, 1):
                low, high = creature.box[axis], creature.box[axis + 2]
                half = (high - low) / 2
                # Centre of the box; in its corner, just inside; half a box's gap between box and badge.
                stops = [0, half - 0.75 - radius, half + half + radius]
                offset = abs(creature.badge.centre[axis] - (low + high) / 2)
                assert offset == pytest.approx(np.interp(misalignment, [0, 1, 2], stops))


def test_misalignment_moves_the_badges_and_nothing_else() -> None:
    def without_places(scene: Layout) -> list:
        return [(c.box, c.body, c.colours, c.sag, replace(c.badge, centre=(0, 0))) for c in scene.creatures]

    for index in SCENES:
        assert without_places(layout(index, 0.0)) == without_places(layout(index, 1.0))
        assert layout(index, 0.0).strays == layout(index, 1.0).strays
        assert without_places(layout(index, 0.3, room=2.0)) == without_places(layout(index, 2.0))


@pytest.mark.parametrize("misalignment", MISALIGNMENTS)
def test_counts_sizes_and_overlaps_stay_within_their_limits(misalignment: float) -> None:
    objects = []
    for index in SCENES:
        scene = layout(index, misalignment)
        seen = [creature for creature in scene.creatures if creature.badge.glyph]
        objects.append(len(seen))
        every_badge = [creature.badge for creature in scene.creatures] + list(scene.strays)
        for badge in every_badge:
            assert min(badge.box) >= 0 and max(badge.box) <= WORLD
            assert 9 <= badge.diameter <= 14
        for i, one in enumerate(every_badge):
            assert not any(layout_module._overlap(one.box, other.box) for other in every_badge[i + 1 :])
        for creature in scene.creatures:
            x1, y1, x2, y2 = creature.box
            assert min(creature.box) >= 0 and max(creature.box) <= WORLD
            assert all(23.999 <= side <= 96.001 for side in (x2 - x1, y2 - y1))
            others = [other for other in scene.creatures if other is not creature]
            assert all(layout_module._iou(creature.box, other.box) < 0.15 for other in others)
            assert not any(layout_module._overlap(creature.badge.box, other.box) for other in others)
            assert not any(layout_module._overlap(stray.box, creature.box) for stray in scene.strays)
    assert min(objects) == 1 and max(objects) >= (3 if misalignment < 2 else 2)


def test_the_clutter_is_there_and_is_not_annotated() -> None:
    scenes = [draw_scene(scene_rng(0, 0, index)) for index in SCENES]
    blank = [c for scene in scenes for c in scene.layout.creatures if c.badge.glyph is None]
    assert len(blank) > len(SCENES) / 4
    assert sum(bool(scene.layout.strays) for scene in scenes) > 0.9 * len(SCENES)
    for scene in scenes:
        glyphs = [c.badge.glyph for c in scene.layout.creatures if c.badge.glyph]
        assert [CLASSES[label - 1] for label in scene.labels] == glyphs


@pytest.mark.parametrize("misalignment", [0.0, 1.0, 2.0])
def test_the_badge_alone_determines_the_class(misalignment: float) -> None:
    scene = layout(4, misalignment)
    original = badges.render(scene).astype(int)
    first, *rest = scene.creatures
    for glyph in (None, *CLASSES):
        if glyph == first.badge.glyph:
            continue
        changed = replace(first, badge=replace(first.badge, glyph=glyph))
        difference = np.abs(badges.render(replace(scene, creatures=(changed, *rest))) - original).max(-1)
        rows, columns = np.where(difference > 0)
        x1, y1, x2, y2 = first.badge.box
        assert difference.max() > 80
        assert x1 <= columns.min() and columns.max() + 1 <= x2 and y1 <= rows.min() and rows.max() + 1 <= y2


def test_glyphs_differ_clearly_at_the_usual_size() -> None:
    """On the smallest badge, two glyphs turned against each other still differ in a fifth of their ink."""
    y, x = np.mgrid[-5:6, -5:6].astype(np.float32) / 3.7  # pixels of an 11-pixel badge, in glyph radii

    def ink(glyph: str, angle: float) -> np.ndarray:
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        return np.clip(0.5 - rendering._glyph_distance(glyph, u, v) * 3.7, 0, 1)

    for i, one in enumerate(CLASSES):
        for other in CLASSES[i + 1 :]:
            first, second = ink(one, -0.2), ink(other, 0.2)
            assert np.abs(first - second).sum() > 0.2 * (first.sum() + second.sum()), (one, other)


@pytest.mark.parametrize("index", [0, 3])
def test_the_same_scene_at_eight_times_the_size(index: int) -> None:
    small, large = (draw_scene(scene_rng(0, 0, index), size) for size in (128, 1024))
    np.testing.assert_allclose(large.boxes, small.boxes * 8)
    np.testing.assert_allclose(large.salient_boxes, small.salient_boxes * 8)
    reduced = large.image.reshape(128, 8, 128, 8, 3).mean(axis=(1, 3))
    difference = np.abs(reduced - small.image)
    assert difference.mean() < 2.5 and np.percentile(difference, 99) < 30


def test_impossible_configs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"misalignment ≤ room must lie in 0…2, got misalignment 1.5, room 1.0"):
        BadgesConfig(misalignment=1.5, room=1.0)
    with pytest.raises(ValueError, match=r"misalignment must be a number from 0 to 2, got 2.5"):
        BadgesConfig(misalignment=2.5)
    with pytest.raises(ValueError, match=r"misalignment ≤ room must lie in 0…2, got misalignment -0.1"):
        draw_scene(scene_rng(0, 0, 0), misalignment=-0.1)
    with pytest.raises(ValueError, match="size must be a whole number from 32 to 65,536, got 8"):
        BadgesConfig(size=8)
