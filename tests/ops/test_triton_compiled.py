"""What the Triton kernels compile to for GPUs. It needs no GPU: the compiler runs ahead of time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends import nvidia  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402


class Compiler:
    """Stands in for a GPU's driver: kernels are compiled as they would be for the launch, and kept, not run."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_device(self):
        return -self.capability  # a key of Triton's caches: no real device

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def keep(self, kernel):
        def run(*args, grid, warmup, **kwargs):
            self.compiled = type(kernel).run(kernel, *args, grid=grid, warmup=True, **kwargs)

        kernel.run = run


def compile_all():
    """Of every kernel: registers of a thread, bytes that it moves to and from its stack, and the PTX."""
    from tsdlab.ops import triton_kernels

    found = {}
    for capability, dtype, with_offsets in COMPILED:
        compiler = Compiler(capability)
        triton.runtime.driver.set_active(compiler)
        for kernel in (triton_kernels._forward_kernel, triton_kernels._backward_kernel):
            compiler.keep(kernel)
        features = [torch.zeros(2, s, s, 256, dtype=getattr(torch, dtype)).permute(0, 3, 1, 2) for s in (16, 8, 4, 2)]
        rois, levels = torch.zeros(3, 5), torch.zeros(3, dtype=torch.long)
        offsets = torch.zeros(3, 7, 7, 2) if with_offsets else None
        arguments = (features, rois, levels, offsets, (1 / 4, 1 / 8, 1 / 16, 1 / 32), (7, 7), 2, True)
        out = triton_kernels.forward(*arguments)
        forward = describe(compiler.compiled)
        triton_kernels.backward(out, *arguments, True, True)
        found[f"{capability} {dtype} {with_offsets}"] = (forward, describe(compiler.compiled))
    return found


def describe(compiled):
    tool = Path(nvidia.__path__[0]) / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        command = [tool, "-res-usage", "-sass", cubin.name]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers = int(re.search(r"REG:(\d+)", code).group(1))
    # LDL and STL load and store local memory: 4 bytes, unless a suffix gives another number of bits.
    widths = re.findall(r"\b(?:LDL|STL)\b(?:\.(?:LU|EL|EF))*(?:\.[SU]?(8|16|64|128))?", code)
    return registers, sum(int(bits or 32) // 8 for bits in widths), compiled.asm["ptx"]


COMPILED = [
    (90, "float32", True),
    (90, "float32", False),
    (90, "bfloat16", True),
    (90, "bfloat16", False),
    (80, "float32", True),
    (80, "bfloat16", True),
]


@pytest.fixture(scope="module")
def compiled():
    """From a process of its own: where Triton has interpreted, it may no longer be able to compile."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    script = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment)
    assert script.returncode == 0, script.stderr
    return json.loads(script.stdout)


@pytest.mark.parametrize(("capability", "dtype", "with_offsets"), COMPILED)
def test_compiles_for_gpus(compiled, capability, dtype, with_offsets):
    """The kernels wait for memory, so their speed depends on wide accesses and on many warps with loads under way.

    Which value sits in which register is the compiler's choice. ptxas may keep a few values on the stack to fit one
    more warp: with Triton 3.8 the forward kernel for bfloat16 has 128 registers (16 warps per multiprocessor) and
    reads 12 bytes back from the stack, which the first-level cache holds, for every 256 bytes of features. If a
    compiler put the taps themselves on the stack, the traffic would double.
    """
    forward, backward = compiled[f"{capability} {dtype} {with_offsets}"]

    registers, on_stack, ptx = forward
    assert len(re.findall(r"ld\.global(?:\.\w+)*\.v4\.b32", ptx)) == 16  # one of 16 bytes for every tap
    assert len(re.findall(r"st\.global(?:\.\w+)*\.v4\.b32", ptx)) == 1
    assert on_stack <= 16 * 16 / 8  # an eighth of what it reads from the features
    assert registers <= 144  # 14 warps per multiprocessor, each with several loads of 512 bytes under way

    registers, on_stack, ptx = backward
    # Four rows of taps, and for each the bin's gradient and four taps, at four channels to a lane.
    width = 4 if dtype == "float32" else 2
    assert len(re.findall(rf"ld\.global(?:\.\w+)*\.v{width}\.b32", ptx)) == 20
    additions = re.findall(r"\b(?:red|atom)\.global\S*", ptx)  # older Triton writes atom, and ptxas makes it red
    assert additions and all("relaxed" in a for a in additions)
    assert on_stack <= 20 * 4 * width / 8
    if capability >= 90:  # before, there are no additions of vectors, and a lane keeps an address for every channel
        assert len(additions) == 16 and all(".v4.f32" in a for a in additions)
        assert registers <= 144


if __name__ == "__main__":
    print(json.dumps(compile_all()))
