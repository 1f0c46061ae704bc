"""The committed notebooks: executed, short, and every number in their text is in the code or in an output.

`make notebooks` executes them. A static page shows what is committed. The notebook for one's own photographs is also
executed here, in few steps, because it has to work for other data.
"""

import ast
import filecmp
import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest
import timm
import torch
from PIL import Image

HERE = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
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


# One's own photographs --------------------------------------------------------------------------------------


def photographs_notebook():
    """The code cells of notebook 07, without outputs, and how many there are up to the training."""
    notebook = nbformat.read(HERE / "07_your_photographs.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        cell.outputs = []
    (training,) = (place for place, cell in enumerate(notebook.cells) if "tsdlab.train(" in cell.source)
    return notebook, training + 1


def check_photographs(folder):
    """Every step shows something, and training a second time changes nothing. Returns what is printed."""
    spec = importlib.util.spec_from_file_location("execute", HERE / "execute.py")
    execute = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execute)
    notebook, until_trained = photographs_notebook()
    keep = nbformat.v4.new_code_cell("import shutil; shutil.copytree(RUN, 'first');")
    again = photographs_notebook()[0].cells[:until_trained]
    notebook.cells[until_trained:until_trained] = [keep, *again]
    execute.run(notebook, folder)

    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert not [output.text for output in outputs if output.get("name") == "stderr" and output.text.strip()]
    silent = [cell.source.splitlines()[0] for cell in notebook.cells if not cell.outputs]
    assert silent == ["import os", keep.source, "import os"]
    pictures = [
        cell for cell in notebook.cells if any("image/png" in output.get("data", {}) for output in cell.outputs)
    ]
    assert len(pictures) == 3 + 7, "three until the training is over, and seven in all"
    names = ["checkpoint.pt", "config.json", "last.safetensors", "log.csv", "metrics.csv", "metrics.json",
             "weights.safetensors"]  # fmt: skip
    run = folder / "runs/my-photographs"
    assert filecmp.cmpfiles(folder / "first", run, names, shallow=False) == (names, [], [])
    return "".join(str(output.get("text", "")) for output in outputs)


@pytest.mark.slow
def test_the_sample_is_trained_without_a_network_and_again_without_loss(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA", raising=False)
    monkeypatch.setenv("STEPS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "starting from badges-sibling" in check_photographs(tmp_path)


@pytest.mark.slow
def test_photographs_are_trained_from_a_file_of_a_backbone(tmp_path, monkeypatch, write_split):
    data = tmp_path / "photographs"
    for split, count in (("train", 6), ("val", 4)):
        write_split(data, split, count, seed=0)
        as_photographs(data, split)
    backbone = tmp_path / "backbone.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), backbone)
    for name, value in {"DATA": data, "BACKBONE": backbone, "STEPS": 2, "OMP_NUM_THREADS": 1}.items():
        monkeypatch.setenv(name, str(value))
    text = check_photographs(tmp_path)
    assert f"starting the backbone from {backbone}" in text and "train: 6 images" in text


def as_photographs(data, split):
    """Make the images of a split JPEG files of 384 × 320 pixels."""
    path = data / f"annotations/instances_{split}.json"
    content = json.loads(path.read_text())
    for entry in content["images"]:
        old = data / split / entry["file_name"]
        Image.open(old).resize((384, 320)).save(old.with_suffix(".jpg"), quality=90)
        old.unlink()
        entry |= {"file_name": old.with_suffix(".jpg").name, "width": 384, "height": 320}
    for annotation in content["annotations"]:
        annotation["bbox"] = [side * factor for side, factor in zip(annotation["bbox"], (6, 5, 6, 5))]
        annotation["area"] *= 30
    path.write_text(json.dumps(content))
