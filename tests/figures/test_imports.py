"""Figures and reports draw numbers: they can neither make a model nor ask one."""

import ast
from pathlib import Path

import pytest

import tsdlab

ROOT = Path(tsdlab.__file__).parent
ALLOWED_MODELS = {"tsdlab.models.boxes"}  # geometry of boxes


@pytest.mark.parametrize("path", [*ROOT.glob("figures/*.py"), *ROOT.glob("report/*.py")], ids=lambda path: path.stem)
def test_nothing_that_draws_asks_a_model(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.module.startswith(("tsdlab.models", "tsdlab.widgets", "tsdlab.evaluation")) or (
                node.module in ALLOWED_MODELS
            ), f"{path.name} imports {node.module}"


@pytest.mark.parametrize("path", [*ROOT.glob("analysis/*.py")], ids=lambda path: path.stem)
def test_analysis_draws_nothing(path):
    names = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not [name for name in names if name.startswith(("matplotlib", "tsdlab.figures", "tsdlab.report"))]
