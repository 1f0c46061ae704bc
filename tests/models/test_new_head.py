"""CONTRIBUTING.md's example: a new head is one new file and one line in the registry."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "context"
# Each of them runs some tests for every head of the registry.
TESTS = ("test_config.py", "models/test_detector.py", "models/test_probe.py", "models/test_weights.py")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package and its tests, with the example added as CONTRIBUTING.md says."""
    for folder in ("tsdlab", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)  # with the compiled kernels in __pycache__
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    section = re.search(r"## Add a head\n(.*?)\n## ", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert section is not None
    head, line = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    (tmp_path / f"tsdlab/models/heads/{NAME}.py").write_text(head)
    config = tmp_path / "tsdlab/config.py"
    start = "HEADS: dict[str, str] = {\n"
    assert config.read_text().count(start) == 1 and line.count("\n") == 1
    config.write_text(config.read_text().replace(start, start + line))
    return tmp_path


@pytest.mark.slow
def test_the_example_passes_the_tests_of_every_head(copied: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", NAME, *(f"tests/{t}" for t in TESTS)]
    done = subprocess.run(
        command, cwd=copied, env={**os.environ, "PYTHONPATH": str(copied)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 10, done.stdout
