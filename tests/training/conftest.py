"""What the tests of damaged runs share: a run that nothing happened to, and one that was killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runs import Killed, dies_at, with_train

from tsdlab.config import Config
from tsdlab.training import train


@pytest.fixture(scope="session")
def config(tiny_config: Config) -> Config:
    return with_train(tiny_config, optimizer="adamw", lr=1e-3, ema=0.8)


@pytest.fixture(scope="session")
def whole(config: Config, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(config, tiny_data, out, progress=False)
    return out


@pytest.fixture(scope="session")
def stopped(config: Config, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run saved after step 8 and killed after step 9: it was evaluated once, and its next row of losses is begun."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Killed):
        train(config, tiny_data, out, progress=False, on_step=dies_at(9))
    return out


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))
