"""The colours of levels can be seen on light and dark pages, and told apart with any kind of colour vision."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tsdlab.figures.style import LEVEL_COLORS, PALETTE

_DARK = "#212121"  # JupyterLab's dark theme
# Linear RGB as it is seen with a missing kind of cones: Machado, Oliveira and Fernandes, 2009, severity 1.
_VISION = {
    "usual": np.eye(3),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    darker, lighter = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) + 0.05 for color in (one, other))
    return lighter / darker


def oklab(rgb):
    cones = np.cbrt(
        np.clip(rgb, 0, 1) @ np.array([[0.412, 0.536, 0.051], [0.212, 0.681, 0.107], [0.088, 0.282, 0.630]]).T
    )
    return cones @ np.array([[0.210, 0.794, -0.004], [1.978, -2.429, 0.451], [0.026, 0.783, -0.809]]).T


@pytest.mark.parametrize("color", LEVEL_COLORS)
def test_a_level_is_seen_on_light_and_dark_pages(color):
    assert contrast(color, "#ffffff") >= 3 and contrast(color, _DARK) >= 3


@pytest.mark.parametrize("vision", _VISION)
def test_levels_are_told_apart_from_each_other_and_from_tasks_and_truth(vision):
    levels = [oklab(linear(color) @ _VISION[vision].T) for color in LEVEL_COLORS]
    others = [oklab(linear(PALETTE[name]) @ _VISION[vision].T) for name in ("classification", "localization", "truth")]
    assert min(np.linalg.norm(a - b) for a, b in combinations(levels, 2)) > 0.13
    assert min(np.linalg.norm(a - b) for a in levels for b in others) > 0.05
