"""See, measure and cure the conflict between classification and localization in two-stage detectors."""

import os
from importlib.metadata import version

from tsdlab.config import PRESETS, Config
from tsdlab.evaluate import evaluate
from tsdlab.models.detector import build_detector
from tsdlab.models.trace import trace
from tsdlab.train import train
from tsdlab.weights import load_detector

# On Linux, let torch ask for huge pages: most of what a large fresh result costs on a CPU is being mapped in small ones
# (benchmarks/roi_ops.py measures it). An environment that says otherwise is heeded.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = version("tsdlab")

__all__ = [
    "PRESETS",
    "Config",
    "__version__",
    "build_detector",
    "evaluate",
    "load_detector",
    "trace",
    "train",
]
