"""See, measure and cure the conflict between classification and localization in two-stage detectors."""

from importlib.metadata import version

from tsdlab.config import PRESETS, Config
from tsdlab.evaluate import evaluate
from tsdlab.models.detector import build_detector, from_torchvision
from tsdlab.models.trace import trace
from tsdlab.train import train
from tsdlab.weights import load_detector

__version__ = version("tsdlab")

__all__ = [
    "PRESETS",
    "Config",
    "__version__",
    "build_detector",
    "evaluate",
    "from_torchvision",
    "load_detector",
    "trace",
    "train",
]
