"""Badges: synthetic images in which the conflict between classification and localization has a known cause.

Every object is a creature with a badge. Its limbs determine its box: four of them end exactly on the four sides. Its
badge alone determines its class: all other properties are random and independent of it. `misalignment` is the position
of the badge: 0 is the centre of the box, 1 a corner inside it, and 2 is half a box beyond that corner. A line, the
leash, connects badge and body. Badges without a creature and creatures with a blank badge are clutter: neither a body
nor a badge alone is an object.

A scene is vector graphics in a world 128 units wide. It can be rendered at any size, and its boxes are computed
from the geometry.
"""

from tsdlab.data.badges.config import BadgesConfig
from tsdlab.data.badges.dataset import Scene, draw_scene, make_badges, scene_rng
from tsdlab.data.badges.layout import CLASSES, WORLD, Layout, sample_layout
from tsdlab.data.badges.rendering import body_mask, render

__all__ = [
    "CLASSES",
    "WORLD",
    "BadgesConfig",
    "Layout",
    "Scene",
    "body_mask",
    "draw_scene",
    "make_badges",
    "render",
    "sample_layout",
    "scene_rng",
]
