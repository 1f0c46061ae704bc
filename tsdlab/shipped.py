"""The files that come with tsdlab: a sample data set, trained weights and measured results.

They are in `data/` of the repository. A built wheel carries a copy of them inside the package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_COPY = _PACKAGE / "shipped_data"  # pyproject.toml puts it into the wheel under this name
_DATA = _COPY if _COPY.is_dir() else _PACKAGE.parent / "data"

SAMPLE = _DATA / "sample"  # twelve training and twelve validation images of the badges world, COCO format
WEIGHTS = _DATA / "weights"  # <name>.safetensors
RESULTS = _DATA / "results"  # <name>.json, each written by a command of the repository
