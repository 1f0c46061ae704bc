"""Badges: a synthetic world in which the conflict between classification and localization has a known cause.

Every object is a creature. Its limbs set its box: four of them end exactly on the four sides. A badge, and
nothing else, tells its class: all other properties are drawn without looking at it. `misalignment` says where
the badge sits, from the centre of the box (0) over a corner inside it (1) to half a box beyond that corner,
on a leash (2). Badges lying about without a creature and creatures with a blank badge are the clutter:
neither a body nor a badge alone is an object.

A scene is vector graphics in a world 128 units wide, drawn from signed distances. The same scene can
therefore be rendered at any size, and the boxes come from the geometry.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tsdlab.data.coco import DataError

CLASSES = ("star", "ring", "triangle", "cross", "heart", "moon")

WORLD = 128.0  # side of the world, in units; one unit is one pixel at the usual size
_EDGE = 2.0  # units that boxes and badges keep from the image's edge
_TUCK = 0.75  # units between a badge at misalignment 1 and the sides of the box
_BOX_SIDES = (24.0, 96.0)  # units, bounds
_TYPICAL_SIDES = (28.0, 92.0)  # units, of a square box as large
_BADGE_DIAMETERS = (11.0, 14.0)  # units; a glyph below 7 pixels is lost on a small network
_MAX_IOU = 0.12  # of two creatures' boxes
# Tries for a creature before it is left out: several places for each size, or large creatures would hardly
# ever fit.
_SIZES_TRIED, _PLACES_TRIED = 6, 16
_STRAYS_TRIED = 40
_TIPS_TRIED = 4  # places for a limb's tip, of which the one farthest from the others is taken

Point = tuple[float, float]  # (x, y), units
Box = tuple[float, float, float, float]  # x1, y1, x2, y2, units
Colour = tuple[float, float, float]  # RGB, 0…1


@dataclass(frozen=True)
class BadgesConfig:
    """A badges data set; two equal configurations give equal files."""

    train: int = 3000  # images
    val: int = 500  # images
    size: int = 128  # pixels; the same scenes at any size
    misalignment: float = 1.0  # 0…2
    # Creatures are placed so that a badge this far out would still find room. Data sets that share it (and
    # the seed) hold the same scenes and differ in nothing but where the badges sit. None: as far as needed,
    # at least 1.
    room: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.train < 0 or self.val < 0:
            raise ValueError(f"train and val are numbers of images, got {self.train} and {self.val}")
        if self.size < 32:
            raise ValueError(
                f"size must be at least 32 pixels for a badge to be seen at all, got {self.size}"
            )
        _resolve_room(self.misalignment, self.room)


@dataclass(frozen=True)
class Badge:
    """A round plate with a glyph, or, as clutter, without one."""

    centre: Point
    diameter: float
    glyph: str | None  # one of CLASSES; None is a blank badge
    angle: float  # radians, of the glyph
    plate: Colour
    ink: Colour

    @property
    def box(self) -> Box:
        return _around(self.centre, self.diameter / 2)


@dataclass(frozen=True)
class Creature:
    """A body with limbs, and the badge it wears. It is an object if the badge has a glyph."""

    box: Box  # of body and limbs, and of nothing else
    body: tuple[float, ...]  # one tapered stroke: x1, y1, x2, y2, radius 1, radius 2
    limbs: tuple[np.ndarray, ...]  # each [points, 3]: x, y, radius along the limb
    colours: tuple[Colour, Colour]  # top, bottom
    spots: tuple[tuple[float, float, float], ...]  # x, y, radius
    gaze: Point  # where the eyes look, a unit vector
    sag: float  # of the leash, as a fraction of its length
    badge: Badge


@dataclass(frozen=True)
class Backdrop:
    """What the creatures live on."""

    colours: tuple[Colour, Colour]
    angle: float  # radians, of the gradient
    waves: np.ndarray  # [4, 3]: frequency (x, y) in radians per unit, phase


@dataclass(frozen=True)
class Layout:
    """A scene as vector graphics."""

    backdrop: Backdrop
    creatures: tuple[Creature, ...]  # drawn in this order
    strays: tuple[Badge, ...]  # badges without a creature


@dataclass(frozen=True)
class Scene:
    """A rendered scene and its annotation, boxes xyxy in pixels."""

    image: np.ndarray  # [size, size, 3] uint8 RGB
    boxes: np.ndarray  # [N, 4] float64
    labels: np.ndarray  # [N] int64, label i is CLASSES[i - 1]
    salient_boxes: np.ndarray  # [N, 4] float64: the badges
    layout: Layout


def make_badges(root: str | Path, config: BadgesConfig, progress: bool = True) -> Path:
    """Writes a COCO-format folder with splits train and val; see `CocoDataset`.

    Each annotation carries its badge as "salient_bbox"; "info" carries the configuration. The folder appears
    under its name only when it is complete.

    Args:
        root: the folder to make; it may exist if it is empty.
        config: how many images of what kind.
        progress: show a text progress bar on stderr.

    Returns:
        The folder.

    Raises:
        DataError: the folder exists and is not empty.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} exists and is not empty; choose another folder or remove it first")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
    try:
        (partial / "annotations").mkdir(parents=True)
        for code, (split, count) in enumerate({"train": config.train, "val": config.val}.items()):
            _write_split(partial, split, code, count, config, progress)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def scene_rng(seed: int, split_code: int, index: int) -> np.random.Generator:
    """The random stream of one image; split 0 is train, 1 is val."""
    return np.random.default_rng([seed, split_code, index])


def draw_scene(
    rng: np.random.Generator, size: int = 128, misalignment: float = 1.0, room: float | None = None
) -> Scene:
    """A random scene on `size`×`size` pixels. The same stream gives the same scene at any size."""
    layout = sample_layout(rng, misalignment, room)
    objects = [creature for creature in layout.creatures if creature.badge.glyph]
    scale = size / WORLD
    return Scene(
        image=render(layout, size),
        boxes=np.array([creature.box for creature in objects]).reshape(-1, 4) * scale,
        labels=np.array(
            [CLASSES.index(str(creature.badge.glyph)) + 1 for creature in objects], dtype=np.int64
        ),
        salient_boxes=np.array([creature.badge.box for creature in objects]).reshape(-1, 4) * scale,
        layout=layout,
    )


def _write_split(root: Path, split: str, code: int, count: int, config: BadgesConfig, progress: bool) -> None:
    (root / split).mkdir()
    images: list[dict] = []
    annotations: list[dict] = []
    for index in tqdm(range(count), desc=f"drawing {split}", unit="image", disable=not progress):
        scene = draw_scene(scene_rng(config.seed, code, index), config.size, config.misalignment, config.room)
        image_id, name = index + 1, f"{index:06d}.png"
        # Level 5: two thirds of the time of Pillow's default, for files 2% larger.
        Image.fromarray(scene.image).save(root / split / name, compress_level=5)
        images.append({"id": image_id, "file_name": name, "width": config.size, "height": config.size})
        for box, label, salient in zip(scene.boxes, scene.labels, scene.salient_boxes):
            x, y, width, height = _xywh(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "bbox": [x, y, width, height],
                    "area": round(width * height, 2),
                    "iscrowd": 0,
                    "salient_bbox": _xywh(salient),
                }
            )
    content = {
        "info": {
            "description": "badges, a synthetic world of tsdlab",
            "split": split,
            "config": asdict(config),
        },
        "images": images,
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in enumerate(CLASSES, start=1)],
    }
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    return [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)]


# Sampling a layout ------------------------------------------------------------------------------------------
# No draw depends on the misalignment: that is what keeps scenes equal but for the badges' places.

# (top, bottom) of a body; saturated enough to stand out from every backdrop.
_BODIES = (
    ("#f6866a", "#d9503f"),  # coral
    ("#f9bd5b", "#e08a2b"),  # amber
    ("#5cc3ae", "#22857c"),  # teal
    ("#6fb1e8", "#3a6fc4"),  # sky
    ("#a98be0", "#6c4bb0"),  # violet
    ("#ef8fb4", "#c8517f"),  # rose
    ("#a3c865", "#5f9340"),  # leaf
)
_BACKDROPS = (
    ("#f6ead7", "#e6cfae"),  # sand
    ("#e4eee6", "#bcd3c4"),  # sage
    ("#e2eaf4", "#b9c9de"),  # mist
    ("#f5e1df", "#dfbdbd"),  # blush
    ("#2c3350", "#191d33"),  # night
    ("#244448", "#14292e"),  # deep sea
    ("#43304f", "#271b31"),  # plum
)
_PLATES = ("#fffaf0", "#fbf1dc", "#f4f4f1")
_SHADOW = (0.06, 0.05, 0.12)
_INKS = ("#22264a", "#3b1d3a", "#12353a", "#2e2320")


def sample_layout(rng: np.random.Generator, misalignment: float, room: float | None = None) -> Layout:
    """Draws one to four objects, up to two creatures with blank badges, and one to three stray badges.

    Args:
        rng: the scene's random stream.
        misalignment: 0…2, where the badges sit.
        room: misalignment that the placement leaves room for, see `BadgesConfig`.
    """
    room = _resolve_room(misalignment, room)
    backdrop = Backdrop(
        colours=_pair(rng, _BACKDROPS),
        angle=rng.uniform(0, 2 * math.pi),
        waves=np.stack([*(rng.normal(0, 0.045, (2, 4))), rng.uniform(0, 2 * math.pi, 4)], axis=1),
    )
    first, *others = rng.integers(len(CLASSES), size=rng.integers(1, 5)).tolist()
    others += [None] * int(rng.choice(3, p=(0.4, 0.4, 0.2)))
    # In random order, as the last may find no place; the first always does, so every image has an object.
    wanted = [first, *(others[i] for i in rng.permutation(len(others)))]
    glyphs = [None if label is None else CLASSES[label] for label in wanted]
    places: list[_Place] = []
    creatures = []
    for glyph in glyphs:
        place = _find_place(rng, places, room)
        if place is not None:
            places.append(place)
            creatures.append(_sample_creature(rng, place, glyph, misalignment))
    strays = []
    taken = [box for place in places for box in (place.box, *place.path)]
    for _ in range(rng.integers(1, 4)):
        radius = rng.uniform(*_BADGE_DIAMETERS) / 2
        for _ in range(_STRAYS_TRIED):
            centre = tuple(rng.uniform(_EDGE + radius, WORLD - _EDGE - radius, 2).tolist())
            box = _around(centre, radius + 1.5)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                strays.append(_sample_badge(rng, centre, 2 * radius, CLASSES[rng.integers(len(CLASSES))]))
                break
    return Layout(backdrop, tuple(creatures), tuple(strays))


@dataclass(frozen=True)
class _Place:
    """Where a creature goes, and where its badge may have to."""

    box: Box
    corner: Point  # (±1, ±1): the diagonal the badge moves along
    diameter: float  # of the badge
    path: tuple[Box, ...]  # what the badge sweeps, piece by piece, as misalignment goes from 0 to the room


def _find_place(rng: np.random.Generator, places: Sequence[_Place], room: float) -> _Place | None:
    for _ in range(_SIZES_TRIED):
        side = math.exp(rng.uniform(*np.log(_TYPICAL_SIDES)))
        aspect = math.exp(rng.uniform(-0.3, 0.3))
        diameter = min(max(0.22 * side, _BADGE_DIAMETERS[0]), _BADGE_DIAMETERS[1])
        # At the room's misalignment, box and badge together still have to fit into the image.
        out = max(0.0, room - 1)
        longest = min(_BOX_SIDES[1], (WORLD - 2 * _EDGE - out * (diameter + _TUCK)) / (1 + out / 2))
        width, height = (min(max(s, _BOX_SIDES[0]), longest) for s in (side * aspect, side / aspect))
        # How far the badge may stick out of the box.
        over_x, over_y = (
            max(0.0, _offset(s, diameter, room) + diameter / 2 - s / 2) for s in (width, height)
        )
        for _ in range(_PLACES_TRIED):
            corner = (float(rng.choice((-1, 1))), float(rng.choice((-1, 1))))
            free_x, free_y = (
                rng.uniform(_EDGE, WORLD - _EDGE - s) for s in (width + over_x, height + over_y)
            )
            x1 = free_x + (over_x if corner[0] < 0 else 0)
            y1 = free_y + (over_y if corner[1] < 0 else 0)
            box = (x1, y1, x1 + width, y1 + height)
            if any(_iou(box, other.box) > _MAX_IOU for other in places):
                continue
            place = _Place(box, corner, diameter, tuple(_badge_path(box, corner, diameter, room)))
            if not any(_conflict(place, other) for other in places):
                return place
    return None


def _offset(side: float, diameter: float, misalignment: float) -> float:
    """How far from the box's centre the badge's centre is, along an axis on which the box measures `side`.

    Piecewise linear: 0 at 0, inside the corner at 1, and at 2 a gap of `side / 2` between box and badge.
    """
    inside = side / 2 - diameter / 2 - _TUCK
    if misalignment <= 1:
        return misalignment * inside
    return inside + (misalignment - 1) * (side / 2 + diameter + _TUCK)


def _badge_centre(box: Box, corner: Point, diameter: float, misalignment: float) -> Point:
    x1, y1, x2, y2 = box
    return (
        (x1 + x2) / 2 + corner[0] * _offset(x2 - x1, diameter, misalignment),
        (y1 + y2) / 2 + corner[1] * _offset(y2 - y1, diameter, misalignment),
    )


def _badge_path(box: Box, corner: Point, diameter: float, room: float) -> Iterator[Box]:
    stops = np.append(np.arange(0, room, 0.25), room).tolist()
    boxes = [_around(_badge_centre(box, corner, diameter, stop), diameter / 2 + 0.5) for stop in stops]
    for one, next_ in itertools.pairwise(boxes):
        yield (min(one[0], next_[0]), min(one[1], next_[1]), max(one[2], next_[2]), max(one[3], next_[3]))


def _conflict(one: _Place, other: _Place) -> bool:
    """Whether a badge would meet the other's box or badge, at any misalignment up to the room."""
    return (
        any(_overlap(piece, other.box) for piece in one.path)
        or any(_overlap(piece, one.box) for piece in other.path)
        or any(_overlap(mine, theirs) for mine, theirs in zip(one.path, other.path))
    )


def _sample_badge(rng: np.random.Generator, centre: Point, diameter: float, glyph: str | None) -> Badge:
    return Badge(
        centre=centre,
        diameter=diameter,
        glyph=glyph,
        angle=rng.uniform(-0.2, 0.2),
        plate=_rgb(_PLATES[rng.integers(len(_PLATES))]),
        ink=_rgb(_INKS[rng.integers(len(_INKS))]),
    )


def _sample_creature(
    rng: np.random.Generator, place: _Place, glyph: str | None, misalignment: float
) -> Creature:
    x1, y1, x2, y2 = place.box
    width, height = x2 - x1, y2 - y1
    small = min(width, height)
    low, high = np.array([x1, y1]), np.array([x2, y2])
    centre = (low + high) / 2 + rng.uniform(-0.05, 0.05, 2) * small

    # Body: a stroke along the longer axis, thicker at one end.
    radius = small * rng.uniform(0.23, 0.28)
    radii = radius * np.array([1.0, rng.uniform(0.75, 1.0)])[:: int(rng.choice((-1, 1)))]
    along = np.maximum([width - small, height - small], 0.06 * small) * 0.3
    ends = np.stack([centre - along, centre + along * (1, rng.uniform(-1, 1))])

    # Limbs: one ends on each side of the box, clear of the badge's corner; some more end inside the box.
    hand = 1.0 + 0.035 * small
    clear = place.diameter + 2 * _TUCK + hand
    tips: list[np.ndarray] = []
    for axis, sign in ((0, -1), (0, 1), (1, -1), (1, 1)):
        across = 1 - axis
        span = high[across] - low[across]
        start, stop = hand + 0.06 * span, span - hand - 0.06 * span
        if place.corner[axis] == sign:
            start = min(clear, stop)
        from_corner = rng.uniform(start, stop, _TIPS_TRIED)  # the badge's
        candidates = np.empty((_TIPS_TRIED, 2))
        candidates[:, axis] = low[axis] + hand if sign < 0 else high[axis] - hand
        candidates[:, across] = (
            high[across] - from_corner if place.corner[across] > 0 else low[across] + from_corner
        )
        tips.append(_most_apart(candidates, tips))
    for _ in range(rng.integers(1, 4)):
        angles = rng.uniform(0, 2 * math.pi, _TIPS_TRIED)
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        tips.append(_most_apart(centre + rng.uniform(0.32, 0.4) * directions * (high - low), tips))
    limbs = tuple(
        _limb(ends, tip, 0.5 * radius, hand, bend, (low, high))
        for tip, bend in zip(tips, rng.uniform(0.12, 0.3, len(tips)) * rng.choice((-1, 1), len(tips)))
    )
    spots = tuple(
        (*(centre + radius * 0.9 * rng.uniform(-1, 1, 2)).tolist(), radius * rng.uniform(0.12, 0.3))
        for _ in range(rng.integers(2, 6))
    )
    gaze = rng.uniform(0, 2 * math.pi)
    return Creature(
        box=place.box,
        body=(*ends.ravel().tolist(), *radii.tolist()),
        limbs=limbs,
        colours=_pair(rng, _BODIES),
        spots=spots,
        gaze=(math.cos(gaze), math.sin(gaze)),
        sag=rng.uniform(-0.2, 0.2),
        badge=_sample_badge(
            rng, _badge_centre(place.box, place.corner, place.diameter, misalignment), place.diameter, glyph
        ),
    )


def _most_apart(candidates: np.ndarray, tips: Sequence[np.ndarray]) -> np.ndarray:
    """The candidate, of `[n, 2]`, whose nearest tip is farthest: limbs then seldom lie on one another."""
    if not tips:
        return candidates[0]
    gaps = np.linalg.norm(candidates[:, None] - np.stack(tips), axis=-1)  # [n, tips]
    return candidates[gaps.min(axis=1).argmax()]


def _limb(
    body: np.ndarray,
    tip: np.ndarray,
    base: float,
    hand: float,
    bend: float,
    bounds: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """A bent limb `[points, 3]` (x, y, radius) inside `bounds`, touching them only with its tip."""
    axis = body[1] - body[0]
    nearest = np.clip((tip - body[0]) @ axis / max(axis @ axis, 1e-9), 0, 1)
    root = body[0] + nearest * axis
    reach = tip - root
    knee = root + 0.55 * reach + bend * np.array([-reach[1], reach[0]])
    t = np.linspace(0, 1, 9)[:, None]
    points = (1 - t) ** 2 * root + 2 * t * (1 - t) * knee + t**2 * tip
    wrist = 0.72 * hand
    radius = wrist + (base - wrist) * (1 - t) ** 2 + (hand - wrist) * _smooth(0.55, 1.0, t)
    return np.hstack([np.clip(points, bounds[0] + radius, bounds[1] - radius), radius])


def _pair(rng: np.random.Generator, palette: Sequence[tuple[str, str]]) -> tuple[Colour, Colour]:
    first, second = palette[int(rng.integers(len(palette)))]
    return _rgb(first), _rgb(second)


def _rgb(hex_colour: str) -> Colour:
    red, green, blue = bytes.fromhex(hex_colour[1:])
    return red / 255, green / 255, blue / 255


def _around(centre: Point, radius: float) -> Box:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _bounds(points: np.ndarray, margin: float) -> Box:
    """Of `[n, ≥ 2]` (x, y, …)."""
    (x1, y1), (x2, y2) = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
    return x1, y1, x2, y2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _iou(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return width * height / (sum(areas) - width * height)


def _resolve_room(misalignment: float, room: float | None) -> float:
    room = max(1.0, misalignment) if room is None else room
    if not 0 <= misalignment <= room <= 2:
        raise ValueError(f"misalignment ≤ room must lie in 0…2, got misalignment {misalignment}, room {room}")
    return room


# Rendering --------------------------------------------------------------------------------------------------
# Distances are signed, in units, negative inside. Coverage of a pixel is its centre's distance in pixels,
# clipped: anti-aliasing at any size for the price of a subtraction.


def render(layout: Layout, size: int = 128) -> np.ndarray:
    """Draws a layout on `size`×`size` pixels: uint8 `[size, size, 3]`, RGB."""
    canvas = _blank_canvas(size)
    canvas.pixels[:] = _backdrop_pixels(layout.backdrop, canvas)
    for badge in layout.strays:
        _draw_badge(canvas, badge)
    for creature in layout.creatures:
        _draw_leash(canvas, creature)
        _draw_creature(canvas, creature)
    for creature in layout.creatures:
        _draw_badge(canvas, creature.badge)
    return (canvas.pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def body_mask(creature: Creature, size: int = 128) -> np.ndarray:
    """How much of each pixel body and limbs cover: float32 `[size, size]` in 0…1."""
    canvas = _blank_canvas(size)
    return canvas.coverage(_creature_distance(canvas, creature))


@dataclass
class _Window:
    """A part of the canvas, with the pixel centres in units."""

    pixels: np.ndarray  # [h, w, 3] RGB in 0…1, a view
    x: np.ndarray  # [1, w]
    y: np.ndarray  # [h, 1]
    scale: float  # pixels per unit

    def within(self, box: Box) -> tuple[slice, slice]:
        """Rows and columns of the pixels whose centres lie in `box`."""
        rows = slice(*np.searchsorted(self.y[:, 0], (box[1], box[3])).tolist())
        columns = slice(*np.searchsorted(self.x[0], (box[0], box[2])).tolist())
        return rows, columns

    def cut(self, box: Box) -> _Window:
        rows, columns = self.within(box)
        return _Window(self.pixels[rows, columns], self.x[:, columns], self.y[rows], self.scale)

    def paint(self, coverage: np.ndarray, colour: np.ndarray | Colour) -> None:
        """Blends `colour` (one, or one per pixel) over the pixels; coverage `[h, w]` in 0…1."""
        self.pixels += coverage[..., None] * (np.asarray(colour, np.float32) - self.pixels)

    def fill(self, distance: np.ndarray, colour: np.ndarray | Colour) -> None:
        """Paints where the signed distance `[h, w]` is negative."""
        self.paint(self.coverage(distance), colour)

    def coverage(self, distance: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(0.5 - distance * np.float32(self.scale), 0), 1)


def _blank_canvas(size: int) -> _Window:
    scale = size / WORLD
    centres = ((np.arange(size) + 0.5) / scale).astype(np.float32)
    return _Window(np.zeros((size, size, 3), np.float32), centres[None, :], centres[:, None], scale)


def _backdrop_pixels(backdrop: Backdrop, canvas: _Window) -> np.ndarray:
    x, y, scale = canvas.x - WORLD / 2, canvas.y - WORLD / 2, canvas.scale
    relief = np.zeros(canvas.pixels.shape[:2], np.float32)
    for frequency_x, frequency_y, phase in backdrop.waves.astype(np.float32):
        relief += np.sin(frequency_x * x + (frequency_y * y + phase))
    along = (x * math.cos(backdrop.angle) + y * math.sin(backdrop.angle)) / WORLD
    first, second = (np.array(colour, np.float32) for colour in backdrop.colours)
    mix = np.clip(0.5 + along + 0.06 * relief, 0, 1).astype(np.float32)
    pixels = first + mix[..., None] * (second - first)
    # Contour lines of the relief, as on a map: texture that stays crisp at any size.
    height = relief * 2.2
    slope_y, slope_x = np.gradient(height, 1 / scale)
    to_line = np.abs(height - np.round(height)) / (np.hypot(slope_x, slope_y) + 0.02)
    line = np.clip((0.45 - to_line) * min(scale, 2.0) + 0.5, 0, 1)
    vignette = 1.0 - 0.14 * (x * x + y * y) / (WORLD * WORLD / 2)
    return pixels * (vignette * (1 - 0.045 * line))[..., None].astype(np.float32)


def _draw_creature(canvas: _Window, creature: Creature) -> None:
    margin = 5.0
    x1, y1, x2, y2 = creature.box
    window = canvas.cut((x1 - margin, y1 - margin, x2 + margin, y2 + margin))
    distance = _creature_distance(window, creature)
    scale = window.scale

    # A soft shadow: the creature's own distance, moved down and right.
    down, right = round(1.6 * scale), round(1.0 * scale)
    shadow = np.full_like(distance, 10)
    shadow[down:, right:] = distance[:-down, :-right]
    window.paint(0.34 * _smooth(2.6, -1.8, shadow), _SHADOW)

    top, bottom = (np.array(colour, np.float32) for colour in creature.colours)
    mix = np.clip((window.y - y1) / (y2 - y1), 0, 1)[..., None]
    colour = np.broadcast_to(top + mix * (bottom - top), (*distance.shape, 3)).copy()
    for spot_x, spot_y, spot_radius in creature.spots:
        spot = np.hypot(window.x - spot_x, window.y - spot_y) - spot_radius
        colour += (0.16 * window.coverage(spot))[..., None] * (1 - colour)
    # Light from the upper left: the distance's gradient is the outline's normal.
    slope_y, slope_x = np.gradient(distance, 1 / scale)
    depth = np.exp(np.minimum(distance, 0) / 1.8)
    colour *= (1 - depth * (0.2 * slope_x + 0.32 * slope_y + 0.1))[..., None]
    window.fill(distance, colour)
    _draw_eyes(window, creature)


def _creature_distance(window: _Window, creature: Creature) -> np.ndarray:
    """Signed distance `[h, w]` to body and limbs, where limbs grow smoothly out of the body."""
    ax, ay, bx, by, ra, rb = creature.body
    body = _stroke_distance(window.x, window.y, np.array([[ax, ay, ra], [bx, by, rb]]))
    blend = np.float32(0.35 * max(ra, rb))
    # Farther than this from a limb, its distance is visible neither in the blend nor in the shadow.
    margin = max(float(blend), 4.0) + 1
    limbs = np.full_like(body, 2 * WORLD)
    for limb in creature.limbs:
        rows, columns = window.within(_bounds(limb, limb[:, 2].max() + margin))
        part = limbs[rows, columns]
        np.minimum(part, _stroke_distance(window.x[:, columns], window.y[rows], limb), out=part)
    near = np.maximum(blend - np.abs(body - limbs), 0)
    return np.minimum(body, limbs) - near * near / (4 * blend)


def _stroke_distance(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Signed distance `[h, w]` of x `[1, w]`, y `[h, 1]` to a polyline `[n, 3]` (x, y, radius)."""
    start, step = points[:-1].astype(np.float32), np.diff(points, axis=0).astype(np.float32)
    result = np.full((y.shape[0], x.shape[1]), np.inf, np.float32)
    for (start_x, start_y, radius), (dx, dy, growth) in zip(start, step):
        from_x, from_y = x - start_x, y - start_y
        length2 = max(dx * dx + dy * dy, np.float32(1e-6))
        t = from_x * (dx / length2) + from_y * (dy / length2)
        np.maximum(t, 0, out=t)
        np.minimum(t, 1, out=t)
        off_x, off_y = from_x - t * dx, from_y - t * dy
        distance = np.sqrt(off_x * off_x + off_y * off_y)  # np.hypot is four times slower
        distance -= radius + growth * t
        np.minimum(result, distance, out=result)
    return result


def _draw_eyes(window: _Window, creature: Creature) -> None:
    ax, ay, bx, by, ra, rb = creature.body
    x, y, radius = (ax, ay, ra) if ay <= by else (bx, by, rb)
    size = 0.26 * radius
    for side in (-1, 1):
        eye_x, eye_y = x + side * 0.4 * radius, y - 0.42 * radius
        from_x, from_y = window.x - eye_x, window.y - eye_y
        window.fill(np.hypot(from_x, from_y) - size, (1.0, 0.99, 0.96))
        pupil_x, pupil_y = (0.36 * size * g for g in creature.gaze)
        window.fill(np.hypot(from_x - pupil_x, from_y - pupil_y) - 0.55 * size, (0.1, 0.1, 0.16))


def _draw_leash(canvas: _Window, creature: Creature) -> None:
    x1, y1, x2, y2 = creature.box
    start = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    end = np.array(creature.badge.centre)
    reach = end - start
    knee = start + reach / 2 + creature.sag * np.array([-reach[1], reach[0]])
    t = np.linspace(0, 1, 17)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * knee + t**2 * end
    window = canvas.cut(_bounds(points, 2.0))
    distance = _stroke_distance(window.x, window.y, np.hstack([points, np.full_like(t, 0.8)]))
    bottom = np.array(creature.colours[1])
    window.fill(distance, 0.45 * bottom)
    window.fill(distance + 0.45, 0.5 + 0.5 * bottom)


def _draw_badge(canvas: _Window, badge: Badge) -> None:
    radius = badge.diameter / 2
    window = canvas.cut(_around(badge.centre, radius + 3))
    x, y = window.x - np.float32(badge.centre[0]), window.y - np.float32(badge.centre[1])
    window.paint(0.4 * _smooth(1.6, -1.4, np.hypot(x - 0.5, y - 0.9) - radius), _SHADOW)
    plate = np.hypot(x, y) - radius
    window.fill(plate, 0.45 * np.array(badge.plate) + 0.55 * np.array(badge.ink))
    shade = 1 - 0.05 * (x + y)[..., None] / radius
    window.fill(plate + 0.55, np.array(badge.plate, np.float32) * shade.astype(np.float32))
    if badge.glyph:
        size = 0.68 * radius
        cos, sin = math.cos(badge.angle) / size, math.sin(badge.angle) / size
        u, v = x * cos + y * sin, y * cos - x * sin
        window.fill(_glyph_distance(badge.glyph, u, v) * size, badge.ink)


def _glyph_distance(glyph: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a glyph of radius about 1 at the origin; v points down."""
    if glyph == "ring":
        return np.abs(np.hypot(u, v) - 0.74) - 0.24
    if glyph == "heart":  # a square on its tip between two half discs
        across, up = np.abs(u) * 0.58, 0.55 - v * 0.58
        lobe = np.hypot(across - 0.25, up - 0.75) - math.sqrt(2) / 4
        fold = np.maximum(across + up, 0) / 2
        flank = np.minimum(np.hypot(across, up - 1), np.hypot(across - fold, up - fold)) * np.sign(
            across - up
        )
        return np.where(across + up > 1, lobe, flank) / 0.58
    if glyph == "moon":
        return np.maximum(np.hypot(u + 0.05, v) - 1.0, 0.72 - np.hypot(u - 0.46, v + 0.1))
    return _polygon_distance(_OUTLINES[glyph], u, v) - 0.06  # rounds the corners


def _polygon_distance(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a closed polygon `[n, 2]`; the sign by counting crossings."""
    squared = np.full(np.broadcast_shapes(u.shape, v.shape), np.inf, np.float32)
    inside = np.zeros(squared.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0)):
        dx, dy = bx - ax, by - ay
        from_u, from_v = u - ax, v - ay
        t = np.clip((from_u * dx + from_v * dy) / (dx * dx + dy * dy), 0, 1)
        off_u, off_v = from_u - t * dx, from_v - t * dy
        np.minimum(squared, off_u * off_u + off_v * off_v, out=squared)
        if dy:
            inside ^= ((v < ay) != (v < by)) & (from_u < dx / dy * from_v)
    return np.where(inside, -1, 1) * np.sqrt(squared)


def _star(points: int, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2, inner, 1.05)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


_OUTLINES = {
    "star": _star(5, 0.42),
    "triangle": np.array([[0, -0.98], [0.98, 0.74], [-0.98, 0.74]]),
    "cross": np.array(
        [[-0.3, -1], [0.3, -1], [0.3, -0.3], [1, -0.3], [1, 0.3], [0.3, 0.3],
         [0.3, 1], [-0.3, 1], [-0.3, 0.3], [-1, 0.3], [-1, -0.3], [-0.3, -0.3]]
    ),
}  # fmt: skip


def _smooth(edge0: float, edge1: float, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - edge0) / (edge1 - edge0), 0, 1)
    return t * t * (3 - 2 * t)
