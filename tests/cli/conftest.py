"""What the tests of several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import SMALL, run

from tsdlab.config import Config
from tsdlab.models.build import build_detector
from tsdlab.models.weights import save_weights
from tsdlab.structures import Category


@pytest.fixture(scope="session")
def tiny_weights(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file for the classes of `tiny_data`, untrained: it finds something everywhere."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, build_detector(tiny_config), (Category(3, "red"), Category(7, "blue")))
    return path


@pytest.fixture(scope="session")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three steps, made by the command."""
    out = tmp_path_factory.mktemp("cli") / "run"
    run("train", "badges-tiny", "--data", tiny_data, "--out", out, "--head", "sibling", "--train.steps", 3, *SMALL)
    return out
