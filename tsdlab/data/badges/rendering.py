"""A scene as pixels.

Shapes are drawn from signed distances in units, negative inside. The coverage of a pixel is computed from the distance
of its centre alone, which gives smooth edges at any size and costs one subtraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tsdlab.data.badges.layout import (
    WORLD,
    Backdrop,
    Badge,
    Box,
    Colour,
    Creature,
    Layout,
    around,
    bounds,
    smooth,
)

_SHADOW = (0.06, 0.05, 0.12)


def render(layout: Layout, size: int = 128) -> np.ndarray:
    """The picture of a layout: uint8 `[size, size, 3]`, RGB."""
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
    """The part of each pixel that body and limbs cover: float32 `[size, size]` in 0…1."""
    canvas = _blank_canvas(size)
    return canvas.coverage(_creature_distance(canvas, creature))


@dataclass
class _Window:
    """A rectangular part of the canvas, with the positions of its pixel centres in units."""

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
        """The part of this window inside `box`; it shares the pixels."""
        rows, columns = self.within(box)
        return _Window(self.pixels[rows, columns], self.x[:, columns], self.y[rows], self.scale)

    def paint(self, coverage: np.ndarray, colour: np.ndarray | Colour) -> None:
        """Blend `colour` (one for all, or one per pixel) over the pixels; coverage `[h, w]` in 0…1."""
        self.pixels += coverage[..., None] * (np.asarray(colour, np.float32) - self.pixels)

    def fill(self, distance: np.ndarray, colour: np.ndarray | Colour) -> None:
        """Paint where the signed distance `[h, w]` is negative."""
        self.paint(self.coverage(distance), colour)

    def coverage(self, distance: np.ndarray) -> np.ndarray:
        """The covered part of each pixel, 0…1, from the signed distance `[h, w]` in units."""
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
    # Contour lines of the relief, as on a map: a texture that is sharp at any size.
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

    # A soft shadow: the creature's distance, shifted down and right.
    down, right = round(1.6 * scale), round(1.0 * scale)
    shadow = np.full_like(distance, 10)
    rows, columns = distance.shape
    shadow[down:, right:] = distance[: rows - down, : columns - right]  # on a small image the shift is 0
    window.paint(0.34 * smooth(2.6, -1.8, shadow), _SHADOW)

    top, bottom = (np.array(colour, np.float32) for colour in creature.colours)
    mix = np.clip((window.y - y1) / (y2 - y1), 0, 1)[..., None]
    colour = np.broadcast_to(top + mix * (bottom - top), (*distance.shape, 3)).copy()
    for spot_x, spot_y, spot_radius in creature.spots:
        spot = np.hypot(window.x - spot_x, window.y - spot_y) - spot_radius
        colour += (0.16 * window.coverage(spot))[..., None] * (1 - colour)
    # Light from the upper left: the gradient of the distance is perpendicular to the outline.
    slope_y, slope_x = np.gradient(distance, 1 / scale)
    depth = np.exp(np.minimum(distance, 0) / 1.8)
    colour *= (1 - depth * (0.2 * slope_x + 0.32 * slope_y + 0.1))[..., None]
    window.fill(distance, colour)
    _draw_eyes(window, creature)


def _creature_distance(window: _Window, creature: Creature) -> np.ndarray:
    """Signed distance `[h, w]` to body and limbs, with a smooth transition between them."""
    ax, ay, bx, by, ra, rb = creature.body
    body = _stroke_distance(window.x, window.y, np.array([[ax, ay, ra], [bx, by, rb]]))
    blend = np.float32(0.35 * max(ra, rb))
    # Beyond this distance a limb changes neither the transition nor the shadow.
    margin = max(float(blend), 4.0) + 1
    limbs = np.full_like(body, 2 * WORLD)
    for limb in creature.limbs:
        rows, columns = window.within(bounds(limb, limb[:, 2].max() + margin))
        part = limbs[rows, columns]
        np.minimum(part, _stroke_distance(window.x[:, columns], window.y[rows], limb), out=part)
    near = np.maximum(blend - np.abs(body - limbs), 0)
    return np.minimum(body, limbs) - near * near / (4 * blend)


def _stroke_distance(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Signed distance `[h, w]` of the points x `[1, w]`, y `[h, 1]` to a polyline `[n, 3]` (x, y, radius)."""
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
    window = canvas.cut(bounds(points, 2.0))
    distance = _stroke_distance(window.x, window.y, np.hstack([points, np.full_like(t, 0.8)]))
    bottom = np.array(creature.colours[1])
    window.fill(distance, 0.45 * bottom)
    window.fill(distance + 0.45, 0.5 + 0.5 * bottom)


def _draw_badge(canvas: _Window, badge: Badge) -> None:
    radius = badge.diameter / 2
    window = canvas.cut(around(badge.centre, radius + 3))
    x, y = window.x - np.float32(badge.centre[0]), window.y - np.float32(badge.centre[1])
    window.paint(0.4 * smooth(1.6, -1.4, np.hypot(x - 0.5, y - 0.9) - radius), _SHADOW)
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
    if glyph == "heart":  # a square that stands on its corner, with two half discs above
        across, up = np.abs(u) * 0.58, 0.55 - v * 0.58
        lobe = np.hypot(across - 0.25, up - 0.75) - math.sqrt(2) / 4
        fold = np.maximum(across + up, 0) / 2
        flank = np.minimum(np.hypot(across, up - 1), np.hypot(across - fold, up - fold)) * np.sign(across - up)
        return np.where(across + up > 1, lobe, flank) / 0.58
    if glyph == "moon":
        return np.maximum(np.hypot(u + 0.05, v) - 1.0, 0.72 - np.hypot(u - 0.46, v + 0.1))
    return _polygon_distance(_OUTLINES[glyph], u, v) - 0.06  # rounds the corners


def _polygon_distance(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a closed polygon `[n, 2]`; the number of crossed edges gives the sign."""
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
