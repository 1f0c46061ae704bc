"""Kept memory, in a process of its own: what it changes cannot be undone."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from tsdlab.memory import keep_freed_memory
kept = keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(16 * 2**20).fill_(1)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 16 * 2**20 * 4 // 4096  # of one result


def pages_faulted(**environment):
    """Whether memory was kept, and how many pages twenty results faulted in."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    program = [sys.executable, "-c", PROGRAM]
    kept, pages = subprocess.run(
        program, env=clean | environment, capture_output=True, check=True, text=True
    ).stdout.split()
    return kept == "True", int(pages)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_results_reuse_their_pages():
    kept, pages = pages_faulted()
    assert kept and pages < 6 * PAGES  # a few, until the heap has found its shape


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_an_environment_with_orders_of_its_own_is_obeyed():
    kept, _ = pages_faulted(MALLOC_ARENA_MAX="2")
    assert not kept
