"""Kept memory, in a process of its own: what it changes cannot be undone."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from tsdlab.memory import keep_freed_memory
kept = keep_freed_memory()
def faults():
    torch.empty(16 * 2**20).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults()
before = faults()
sys.exit(0 if kept and faults() - before < 4000 else 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"MALLOC_ARENA_MAX": "2"}, 1)])
def test_a_second_result_faults_in_no_pages(environment, code):
    """16 Mi floats are 16,384 pages, or close to none; an environment that gives its own orders is obeyed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    assert subprocess.run([sys.executable, "-c", PROGRAM], env=clean | environment).returncode == code
