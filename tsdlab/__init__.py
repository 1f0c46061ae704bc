"""See, measure and cure the conflict between classification and localization in two-stage detectors."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tsdlab.config import PRESETS, Config
from tsdlab.evaluate import evaluate
from tsdlab.models.detector import build_detector, from_torchvision
from tsdlab.models.trace import trace
from tsdlab.train import train
from tsdlab.weights import load_detector

if TYPE_CHECKING:
    from tsdlab.viz.explorer import explore as explore
    from tsdlab.viz.levels import explore_levels as explore_levels

__version__ = version("tsdlab")

_WIDGETS = {"explore": "tsdlab.viz.explorer", "explore_levels": "tsdlab.viz.levels"}

__all__ = [
    "PRESETS",
    "Config",
    "__version__",
    "build_detector",
    "evaluate",
    "explore",
    "explore_levels",
    "from_torchvision",
    "load_detector",
    "trace",
    "train",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # The widgets need anywidget and matplotlib; a training run on a server needs neither.
    if name in _WIDGETS:
        return getattr(import_module(_WIDGETS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
