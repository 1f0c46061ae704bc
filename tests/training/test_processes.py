"""Two processes of torchrun train one model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import rows

from tsdlab.config import TrainConfig
from tsdlab.training import processes
from tsdlab.training.checkpoint import load_checkpoint
from tsdlab.training.processes import launch

# The command line, which also writes a hash of this process's parameters before and after the run.
HASHED = """
import hashlib, os
from pathlib import Path
from tsdlab import cli
from tsdlab.training.loop import _Run
finish = _Run.finish

def hashed(self, on_step):
    folder = Path(os.environ["HASHES"])
    def write(when):
        digest = hashlib.sha256()
        for parameter in self.state.model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        (folder / f"{when}-{self.fabric.global_rank}").write_text(digest.hexdigest())
    write("before")
    result = finish(self, on_step)
    write("after")
    return result

_Run.finish = hashed
cli.main()
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tiny_data: Path, tmp_path: Path) -> None:
    """Under torchrun each process sees half of every batch; what they save is one run."""
    (tmp_path / "hashed.py").write_text(HASHED)
    (tmp_path / "hashes").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HASHES": str(tmp_path / "hashes")}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    arguments = (
        f"train badges-tiny --data {tiny_data} --out {tmp_path / 'run'} --device cpu --resume "
        "--image.min-size 64 --image.max-size 64 --backbone.stages 2 3 --backbone.fpn-channels 16 "
        "--rpn.anchor-sizes 16 24 40 --roi.hidden 16 --tsd.offset-hidden 16 --train.steps 12 --train.batch-size 2 "
        "--train.warmup-steps 2 --train.eval-every 6 --train.checkpoint-every 4"
    ).split()

    def launch(*program: str) -> str:
        done = subprocess.run(
            [*torchrun, *program, *arguments],
            check=True,
            timeout=300,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    assert launch(str(tmp_path / "hashed.py")).count("best of step") == 1
    hashes = {file.name: file.read_text() for file in (tmp_path / "hashes").iterdir()}
    assert hashes["before-0"] == hashes["before-1"] != hashes["after-0"] == hashes["after-1"]
    assert [int(row["step"]) for row in rows(tmp_path / "run/metrics.csv")] == [6, 12]
    assert len(load_checkpoint(tmp_path / "run/checkpoint.pt")["rng"]) == 2
    assert json.loads((tmp_path / "run/metrics.json").read_text())["last"]["images"] == 5
    # As in the README; there is nothing left to do.
    assert launch("-m", "tsdlab.cli").count("best of step") == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"devices": 1, "num_nodes": 1, "strategy": "auto"}),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, {"devices": 4, "num_nodes": 1, "strategy": "ddp"}),
        ({"WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}, {"devices": 2, "num_nodes": 3, "strategy": "ddp"}),
    ],
)
def test_the_processes_of_all_machines_are_joined(
    environment: dict[str, str], expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several machines are not at hand, so this looks at what Fabric is asked for."""
    asked: dict[str, object] = {}

    class Asked:
        def __init__(self, **arguments: object) -> None:
            asked.update(arguments)

        def launch(self) -> None:
            pass

    monkeypatch.setattr(processes, "Fabric", Asked)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    launch(TrainConfig(batch_size=12), "cpu")
    assert asked == {"accelerator": "cpu", "precision": "32-true", **expected}


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"train\.batch_size 4 cannot be divided by 3 processes"):
        launch(TrainConfig(batch_size=4), "cpu")
