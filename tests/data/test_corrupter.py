"""Damaged folders: the check and training agree about each of them, and nothing ends in a traceback."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from corrupter import DAMAGES, damaged

from tsdlab.config import Config
from tsdlab.data.check import check_folder
from tsdlab.errors import TsdlabError
from tsdlab.training import train

FOLDERS = 4 * len(DAMAGES)
_FAST = 64


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    """Of boxes that are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def short_config(tiny_config: Config) -> Config:
    """Two steps over all kinds of batches, and one evaluation."""
    return replace(tiny_config, train=replace(tiny_config.train, steps=2, batch_size=4, lr_batch_size=4, eval_every=0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FOLDERS))
def test_check_and_training_agree(seed: int, tiny_data: Path, short_config: Config, tmp_path: Path) -> None:
    examine(seed, tiny_data, short_config, tmp_path)


@pytest.mark.parametrize("seed", range(0, FOLDERS, FOLDERS // _FAST))
def test_check_and_training_agree_on_some(seed: int, tiny_data: Path, short_config: Config, tmp_path: Path) -> None:
    examine(seed, tiny_data, short_config, tmp_path)


def examine(seed: int, healthy: Path, config: Config, work: Path) -> None:
    """Damage a copy of a folder, check it, and try to train on it."""
    root, out = work / "data", work / "run"
    shutil.copytree(healthy, root)
    # Every damage once alone; then two and three together.
    done = damaged(root, seed, count=1 + max(0, seed // len(DAMAGES) - 1))
    expected = {DAMAGES[name].expected for name, _ in done}
    reports = {report.split: report for report in check_folder(root, progress=False)}
    problems = [*reports["train"].problems, *reports["val"].problems]
    assert all(problem.isprintable() and len(problem) < 1500 for problem in problems)
    if expected == {"accepted"}:
        assert problems == [], done
    if "refused" in expected and len(done) == 1:
        assert problems, done
    try:
        result = train(config, root, out, progress=False)
    except TsdlabError as error:
        assert problems or "pixels" in expected, (done, error)
        # Either before anything was written, or while an image was decoded, which only `--decode` does beforehand.
        if problems:
            assert not out.exists() and all(line.isprintable() for line in str(error).splitlines())
        else:
            assert any(report.problems for report in check_folder(root, progress=False, decode=True))
    else:
        assert not problems, (done, problems)
        assert reports["train"].objects > 0 and reports["val"].objects > 0
        assert json.loads((out / "metrics.json").read_text())["last"]["AP"] is not None
        assert result.last.images == reports["val"].images
