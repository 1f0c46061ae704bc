"""Badges: a synthetic world in which the conflict between classification and localization has a known cause.

Every object is a creature. Its limbs set its box: four of them end exactly on the four sides. A badge, and
nothing else, tells its class: all other properties are drawn without looking at it. `misalignment` says where
the badge sits, from the centre of the box (0) over a corner inside it (1) to half a box beyond that corner,
on a leash (2). Badges lying about without a creature and creatures with a blank badge are the clutter:
neither a body nor a badge alone is an object.

A scene is vector graphics in a world 128 units wide, drawn from signed distances. The same scene can
therefore be rendered at any size, and the boxes come from the geometry.
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
