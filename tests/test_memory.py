"""Freed memory that is kept, each time in a new process: the change cannot be undone."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from tsdlab.memory import keep_freed_memory
kept = keep_freed_memory()
for result in range(40):
    if result == 20:  # by now the heap is as large as it needs to be
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(16 * 2**20).fill_(1)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
RESULTS = 20  # counted ones
PAGES = 16 * 2**20 * 4 // 4096  # of one result


def run_program(**environment: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and how many pages the system had to supply for the last results."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=clean | environment, capture_output=True, check=True, text=True)
    kept, pages = done.stdout.split()
    return kept == "True", int(pages)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting exists in glibc only")
def test_results_reuse_their_pages() -> None:
    kept, pages = run_program()
    assert kept and pages < 2 * PAGES


@pytest.mark.skipif(sys.platform != "linux", reason="the setting exists in glibc only")
def test_allocator_settings_in_the_environment_are_respected() -> None:
    kept, pages = run_program(MALLOC_ARENA_MAX="2")
    assert not kept and pages > 0.9 * RESULTS * PAGES
