"""See, measure and reduce the conflict between classification and localization in two-stage detectors."""

from tsdlab.lazy import lazy_names

TYPE_CHECKING = False  # importing typing takes most of the time until the command line handles Ctrl-C
if TYPE_CHECKING:
    from tsdlab.config import Config as Config
    from tsdlab.evaluation import evaluate as evaluate
    from tsdlab.models.build import build_detector as build_detector
    from tsdlab.models.build import from_torchvision as from_torchvision
    from tsdlab.models.probe import trace as trace
    from tsdlab.models.steps import steps_of as steps_of
    from tsdlab.models.weights import load_detector as load_detector
    from tsdlab.presets import PRESETS as PRESETS
    from tsdlab.training.loop import train as train
    from tsdlab.version import __version__ as __version__
    from tsdlab.widgets.explorer.widget import explore as explore
    from tsdlab.widgets.levels.widget import explore_levels as explore_levels

# Where each public name is defined. The module is imported when the name is first used, so that `import tsdlab`
# is quick, and a training run on a server needs neither the widgets' packages nor matplotlib.
_HOMES = {
    "PRESETS": "tsdlab.presets",
    "Config": "tsdlab.config",
    "__version__": "tsdlab.version",
    "build_detector": "tsdlab.models.build",
    "evaluate": "tsdlab.evaluation",
    "explore": "tsdlab.widgets.explorer.widget",
    "explore_levels": "tsdlab.widgets.levels.widget",
    "from_torchvision": "tsdlab.models.build",
    "load_detector": "tsdlab.models.weights",
    "steps_of": "tsdlab.models.steps",
    "trace": "tsdlab.models.probe",
    "train": "tsdlab.training.loop",
}

__all__ = [*_HOMES]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
