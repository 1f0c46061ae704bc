"""How the CPU kernels share their work. What they compute is tested in test_roi_align.py."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tsdlab.ops import deform_roi_align, numba_kernels


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pool_and_gradients(height=numba_kernels.ROWS_PER_TASK * 2 + 3, count=numba_kernels.ROIS_PER_TASK * 2 + 5):
    """More rows and RoIs than one task takes."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 19, height, 14, generator=generator, requires_grad=True)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([30.0, height * 3.0])
    rois = torch.cat([torch.arange(count)[:, None] % 2, corners, corners + 20], 1).requires_grad_()
    offsets = (torch.randn(count, 3, 3, 2, generator=generator) * 0.1).requires_grad_()
    pooled = deform_roi_align(features, rois, 3, 0.25, offsets=offsets, backend="numba")
    return pooled, *torch.autograd.grad(pooled.square().sum(), (features, rois, offsets))


def test_no_bit_depends_on_the_number_of_threads(threads):
    threads(1)
    alone = pool_and_gradients()
    for count in (2, 5):
        threads(count)
        for ours, expected in zip(pool_and_gradients(), alone):
            assert torch.equal(ours, expected)


def test_several_callers_at_once(threads):
    threads(2)
    expected = pool_and_gradients()
    with ThreadPoolExecutor(4) as callers:
        for results in callers.map(lambda _: pool_and_gradients(), range(12)):
            assert all(torch.equal(a, b) for a, b in zip(results, expected))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_pools_too():
    """A fork inherits the record of threads, but not the threads."""
    program = """
import os, sys, torch
from tests.ops.test_numba_kernels import pool_and_gradients
torch.set_num_threads(2)
expected = pool_and_gradients()[0].sum().item()
child = os.fork()
if child == 0:
    from tsdlab.ops import numba_kernels
    features = torch.ones(1, 2, 8, 8).contiguous(memory_format=torch.channels_last)
    rois, levels = torch.tensor([[0, 1.0, 1.0, 6.0, 6.0]] * 100), torch.zeros(100, dtype=torch.long)
    pooled = numba_kernels.forward([features], rois, levels, None, [1.0], (2, 2), 2, True)
    os._exit(0 if bool((pooled == 1).all()) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_nothing_is_compiled_at_import():
    kernels = {"tsdlab.ops.numba_kernels", "tsdlab.ops.triton_kernels"}
    code = f"import sys, tsdlab.ops, tsdlab.models.detector; sys.exit(bool({kernels} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow  # everything is compiled again
def test_without_a_place_for_compiled_code():
    code = "import torch; from tests.ops.test_numba_kernels import pool_and_gradients; pool_and_gradients()"
    nowhere = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    nowhere.pop("NUMBA_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", code], env=nowhere, check=True, timeout=120)
