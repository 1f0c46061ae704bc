"""A wheel works without the repository: the package, the sample, the trained weights and the first notebook."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

PROGRAM = """
import tsdlab
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.shipped import RESULTS
dataset = CocoDataset(SAMPLE, "val")
trace = tsdlab.trace(tsdlab.load_detector("badges-tsd"), dataset[0][0])
assert len(dataset) == 12 and len(trace.detections["scores"]) > 0
assert (RESULTS / "badges.json").is_file()
print(tsdlab.__file__, SAMPLE, tsdlab.explore, sep="\\n")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the wheel installs it; what it depends on comes from this environment."""
    built, target = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site-packages")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built], cwd=ROOT, check=True)
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)  # a wheel is installed by unpacking it
    return target


@pytest.mark.slow
def test_an_installed_wheel_carries_what_it_needs(installed: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(
        program, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    package, sample = result.stdout.splitlines()[:2]
    assert Path(package) == installed / "tsdlab/__init__.py"  # and not the repository's
    assert Path(sample).is_relative_to(installed)


@pytest.mark.slow
def test_the_first_notebook_runs_from_an_installed_wheel(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (ROOT / "notebooks").glob("01_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import tsdlab; print(tsdlab.__file__)"))
    monkeypatch.setenv("PYTHONPATH", str(installed))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = notebook.cells[-1].outputs
    assert Path(output.text.strip()) == installed / "tsdlab/__init__.py"
