"""How the command line starts: without slow imports before it has to compute, and quietly when it is stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What help has to answer without. Together they take seconds to import.
SLOW = ("torch", "torchvision", "timm", "numba", "scipy", "matplotlib", "lightning_fabric", "ipywidgets", "anywidget")


@pytest.mark.parametrize(
    "code",
    [
        "import tsdlab",
        "import tsdlab.cli; tsdlab.cli.main(['--help'])",
        "import tsdlab.cli; tsdlab.cli.main(['train', '--help'])",
        "import tsdlab.cli; tsdlab.cli.main(['train', 'badges-tiny', '--help'])",
        "import tsdlab.cli; tsdlab.cli.main(['data', 'make', '--help'])",
        "import tsdlab.cli; tsdlab.cli.main(['data', 'import', '--help'])",
        "import tsdlab.cli; tsdlab.cli.main(['eval', '--data', 'd', '--batchsize', '3'])",
        "import tsdlab.cli; tsdlab.cli.main(['train', 'badges', '--data', 'd', '--out', 'o', '--train.steps', '0'])",
    ],
)
def test_help_and_refusals_wait_for_no_slow_import(code: str) -> None:
    program = f"""
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sys.modules))
{code}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr
    imported = ended.stdout.rpartition("IMPORTED")[2].split()
    assert "tsdlab" in imported and not {*SLOW} & {*imported}


@pytest.mark.parametrize("module", ["shlex", "tsdlab.errors", "tyro", "torch", "torch.nn", "torchvision"])
def test_ctrl_c_while_python_still_imports_is_quiet(module: str, tiny_data: Path) -> None:
    program = f"""
import importlib.abc, os, signal, sys
class Press(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & ignores Ctrl-C
sys.meta_path.insert(0, Press())
from tsdlab.cli import main
main(["eval", "badges-tsd", "--data", {str(tiny_data)!r}])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_hardly_anything_is_imported_before_ctrl_c_is_handled() -> None:
    program = """
import sys
before = {*sys.modules}
import tsdlab.cli
print(*sorted({*sys.modules} - before))
"""
    ended = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout.split() == ["__future__", "tsdlab", "tsdlab.cli", "tsdlab.lazy"]
