"""A scene as vector graphics: what it contains, and how it is chosen at random.

Lengths are in units; the world is 128 units wide. No random number depends on the misalignment, so scenes that differ
in their misalignment alone differ in the positions of the badges alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tsdlab.data.badges.config import resolve_room

CLASSES = ("star", "ring", "triangle", "cross", "heart", "moon")

WORLD = 128.0  # side of the world, in units; one unit is one pixel at the usual size
_EDGE = 2.0  # units between the image's edge and boxes or badges, at least
_TUCK = 0.75  # units between a badge at misalignment 1 and the sides of the box
_BOX_SIDES = (24.0, 96.0)  # units, smallest and largest
_TYPICAL_SIDES = (28.0, 92.0)  # units, range of the side of a square box of the same area
_BADGE_DIAMETERS = (11.0, 14.0)  # units; a small network cannot see a glyph below 7 pixels
_MAX_IOU = 0.12  # largest IoU of two creatures' boxes
# Attempts to place a creature before it is left out. Several places are tried for each size; otherwise large creatures
# would rarely fit.
_SIZES_TRIED, _PLACES_TRIED = 6, 16
_STRAYS_TRIED = 40
_TIPS_TRIED = 4  # random places for a limb's tip; the one farthest from the other tips is used

Point = tuple[float, float]  # (x, y), units
Box = tuple[float, float, float, float]  # x1, y1, x2, y2, units
Colour = tuple[float, float, float]  # RGB, 0…1


@dataclass(frozen=True)
class Badge:
    """A round plate with a glyph, or a blank one as clutter."""

    centre: Point
    diameter: float
    glyph: str | None  # one of CLASSES; None is a blank badge
    angle: float  # radians, of the glyph
    plate: Colour
    ink: Colour

    @property
    def box(self) -> Box:
        return around(self.centre, self.diameter / 2)


@dataclass(frozen=True)
class Creature:
    """A body with limbs, and its badge. It is an object if the badge has a glyph."""

    box: Box  # of body and limbs alone
    body: tuple[float, ...]  # one stroke with two radii: x1, y1, x2, y2, radius 1, radius 2
    limbs: tuple[np.ndarray, ...]  # each [points, 3]: x, y, radius along the limb
    colours: tuple[Colour, Colour]  # top, bottom
    spots: tuple[tuple[float, float, float], ...]  # x, y, radius
    gaze: Point  # where the eyes look, a unit vector
    sag: float  # how far the leash bends, as a fraction of its length
    badge: Badge


@dataclass(frozen=True)
class Backdrop:
    """The background of a scene."""

    colours: tuple[Colour, Colour]
    angle: float  # radians, of the gradient
    waves: np.ndarray  # [4, 3]: frequency (x, y) in radians per unit, phase


@dataclass(frozen=True)
class Layout:
    """A scene as vector graphics."""

    backdrop: Backdrop
    creatures: tuple[Creature, ...]  # drawn in this order
    strays: tuple[Badge, ...]  # badges without a creature


# (top, bottom) of a body; more saturated than every backdrop.
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
_INKS = ("#22264a", "#3b1d3a", "#12353a", "#2e2320")


def sample_layout(rng: np.random.Generator, misalignment: float, room: float | None = None) -> Layout:
    """Choose one to four objects, up to two creatures with blank badges, and one to three stray badges.

    Args:
        rng: where the scene's random numbers come from.
        misalignment: 0…2, where the badges are.
        room: the largest misalignment for which the placement leaves room, see `BadgesConfig`.
    """
    room = resolve_room(misalignment, room)
    backdrop = Backdrop(
        colours=_pair(rng, _BACKDROPS),
        angle=rng.uniform(0, 2 * math.pi),
        waves=np.stack([*(rng.normal(0, 0.045, (2, 4))), rng.uniform(0, 2 * math.pi, 4)], axis=1),
    )
    first, *others = rng.integers(len(CLASSES), size=rng.integers(1, 5)).tolist()
    others += [None] * int(rng.choice(3, p=(0.4, 0.4, 0.2)))
    # In random order, as there may be no place for the last ones. The first always fits: every image has an object.
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
            box = around(centre, radius + 1.5)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                strays.append(_sample_badge(rng, centre, 2 * radius, CLASSES[rng.integers(len(CLASSES))]))
                break
    return Layout(backdrop, tuple(creatures), tuple(strays))


@dataclass(frozen=True)
class _Place:
    """Where a creature is, and all places where its badge may be."""

    box: Box
    corner: Point  # (±1, ±1): the corner of the box towards which the badge moves
    diameter: float  # of the badge
    path: tuple[Box, ...]  # the area that the badge crosses while misalignment grows from 0 to `room`, in pieces


def _find_place(rng: np.random.Generator, places: Sequence[_Place], room: float) -> _Place | None:
    for _ in range(_SIZES_TRIED):
        side = math.exp(rng.uniform(*np.log(_TYPICAL_SIDES)))
        aspect = math.exp(rng.uniform(-0.3, 0.3))
        diameter = min(max(0.22 * side, _BADGE_DIAMETERS[0]), _BADGE_DIAMETERS[1])
        # At misalignment `room`, box and badge together still have to fit into the image.
        out = max(0.0, room - 1)
        longest = min(_BOX_SIDES[1], (WORLD - 2 * _EDGE - out * (diameter + _TUCK)) / (1 + out / 2))
        width, height = (min(max(s, _BOX_SIDES[0]), longest) for s in (side * aspect, side / aspect))
        # How far the badge may be outside the box.
        over_x, over_y = (max(0.0, _offset(s, diameter, room) + diameter / 2 - s / 2) for s in (width, height))
        for _ in range(_PLACES_TRIED):
            corner = (float(rng.choice((-1, 1))), float(rng.choice((-1, 1))))
            free_x, free_y = (rng.uniform(_EDGE, WORLD - _EDGE - s) for s in (width + over_x, height + over_y))
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
    """The distance between the centres of badge and box along one axis; the box measures `side` on it.

    Piecewise linear in misalignment: at 0 it is 0; at 1 the badge is just inside the corner; at 2 there is a gap of
    `side / 2` between box and badge.
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
    boxes = [around(_badge_centre(box, corner, diameter, stop), diameter / 2 + 0.5) for stop in stops]
    for one, next_ in itertools.pairwise(boxes):
        yield (min(one[0], next_[0]), min(one[1], next_[1]), max(one[2], next_[2]), max(one[3], next_[3]))


def _conflict(one: _Place, other: _Place) -> bool:
    """Whether a badge would touch the other's box or badge, at any misalignment up to `room`."""
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


def _sample_creature(rng: np.random.Generator, place: _Place, glyph: str | None, misalignment: float) -> Creature:
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

    # Limbs: one ends on each side of the box, away from the badge's corner; some more end inside the box.
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
        candidates[:, across] = high[across] - from_corner if place.corner[across] > 0 else low[across] + from_corner
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
    """The candidate, of `[n, 2]`, whose nearest tip is farthest away, so that limbs rarely overlap."""
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
    """A bent limb `[points, 3]` (x, y, radius) inside `bounds`; only its tip touches them."""
    axis = body[1] - body[0]
    nearest = np.clip((tip - body[0]) @ axis / max(axis @ axis, 1e-9), 0, 1)
    root = body[0] + nearest * axis
    reach = tip - root
    knee = root + 0.55 * reach + bend * np.array([-reach[1], reach[0]])
    t = np.linspace(0, 1, 9)[:, None]
    points = (1 - t) ** 2 * root + 2 * t * (1 - t) * knee + t**2 * tip
    wrist = 0.72 * hand
    radius = wrist + (base - wrist) * (1 - t) ** 2 + (hand - wrist) * smooth(0.55, 1.0, t)
    return np.hstack([np.clip(points, bounds[0] + radius, bounds[1] - radius), radius])


def _pair(rng: np.random.Generator, palette: Sequence[tuple[str, str]]) -> tuple[Colour, Colour]:
    first, second = palette[int(rng.integers(len(palette)))]
    return _rgb(first), _rgb(second)


def _rgb(hex_colour: str) -> Colour:
    red, green, blue = bytes.fromhex(hex_colour[1:])
    return red / 255, green / 255, blue / 255


def around(centre: Point, radius: float) -> Box:
    """The square box around a circle."""
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def bounds(points: np.ndarray, margin: float) -> Box:
    """The box around points `[n, ≥ 2]` (x, y, …), enlarged by `margin` on each side."""
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


def smooth(edge0: float, edge1: float, value: np.ndarray) -> np.ndarray:
    """0 at `edge0`, 1 at `edge1`, and smooth between them; the edges may be in either order."""
    t = np.clip((value - edge0) / (edge1 - edge0), 0, 1)
    return t * t * (3 - 2 * t)
