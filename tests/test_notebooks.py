"""The committed notebooks: executed, short, and every number in their text is in the code or in an output.

`make notebooks` executes them. A static page shows what is committed.
"""

import ast
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Numbers that name something instead of measuring it, and are therefore no claims.
NAMES = re.compile(
    r"https?://\S+|\]\([^)]*\)|`[^`]*`|\b(?:19|20)\d\d\b|\b(?:Eq\.|Figure|Method|method|level) \d+|"
    r"\d+×\d+|AP\d+|\b0\d_\w+|\[\[?0\d_\w+|95% intervals|\(\d+ → \d+ in the code"
)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*%?")
# Fractions and factors in words are measured claims that no test can check: print the number instead.
IN_WORDS = re.compile(r"\b(?:third|quarter|fifth|seventh|tenth)s?\b|\btwice\b|\b\w+ times as\b", re.I)


def text(cell):
    return "".join(cell["source"])


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell):
    """What an executed cell shows as text."""
    return "\n".join(
        "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/markdown", ""))
        for output in cell["outputs"]
    )


def unsupported_numbers(notebook):
    """Numbers in markdown cells that are neither in the notebook's code nor in its printed output."""
    known = set()
    for cell in code_cells(notebook):
        known |= set(NUMBER.findall(text(cell))) | set(NUMBER.findall(printed(cell)))
    claims = [
        (number, line.strip())
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
        for line in text(cell).splitlines()
        for number in NUMBER.findall(NAMES.sub(" ", line))
    ]
    return [claim for claim in claims if claim[0] not in known]


def test_there_are_notebooks():
    assert [p.name[:2] for p in NOTEBOOKS] == [f"{i:02}" for i in range(len(NOTEBOOKS))]
    assert len(NOTEBOOKS) >= 7


@each_notebook
def test_notebook_is_committed_executed(path):
    notebook = json.loads(path.read_text())
    code = code_cells(notebook)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run `make notebooks`"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "widgets" not in notebook["metadata"]
    assert path.stat().st_size < 2**20


@each_notebook
def test_notebook_is_short(path):
    code = code_cells(json.loads(path.read_text()))
    assert len(code) <= 12
    assert sum(bool(line.strip()) for cell in code for line in cell["source"]) <= 120
    for cell in code:
        for node in ast.walk(ast.parse(text(cell))):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 10, f"{node.name} belongs in the package"


@each_notebook
def test_numbers_in_the_text_are_in_code_or_output(path):
    notebook = json.loads(path.read_text())
    assert unsupported_numbers(notebook) == []
    prose = "\n".join(text(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert IN_WORDS.findall(prose) == []


def test_a_number_without_support_is_found():
    output = {"output_type": "stream", "text": ["all bins as one 40%, its own 36%\n"]}
    code = {"cell_type": "code", "source": ["print(x)"], "outputs": [output]}
    claim = {"cell_type": "markdown", "source": ["So 40% of ΔC is a translation, and 24% a pattern (level 1, Eq. 5)."]}
    assert [number for number, _ in unsupported_numbers({"cells": [claim, code]})] == ["24%"]
    assert IN_WORDS.findall("So a good third says what ΔR says, and more than a quarter …") == ["third", "quarter"]
