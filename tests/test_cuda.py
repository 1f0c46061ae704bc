"""The same on a GPU: skipped, with a reason, where torch sees none."""

from dataclasses import replace

import pytest
import torch

from tsdlab.config import HEADS
from tsdlab.models.build import build_detector
from tsdlab.models.probe import trace
from tsdlab.ops import deform_roi_align
from tsdlab.ops.fused import pool_regions
from tsdlab.training.loop import train

pytestmark = pytest.mark.gpu


def pool_and_gradients(device, backend=None):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 8, 25, 34, generator=generator)
    offsets = torch.randn(40, 7, 7, 2, generator=generator) * 0.1
    corners = torch.rand(40, 4, generator=generator) * torch.tensor([60.0, 60.0, 70.0, 70.0])
    rois = torch.cat([torch.arange(40)[:, None] % 2, corners + torch.tensor([0.0, 0.0, 60.0, 60.0])], 1)
    inputs = [t.to(device).requires_grad_() for t in (features, rois, offsets)]
    out = deform_roi_align(inputs[0], inputs[1], 7, 0.25, offsets=inputs[2], backend=backend)
    return [t.cpu() for t in (out, *torch.autograd.grad(out.square().sum(), inputs))]


@pytest.mark.parametrize("backend", ["triton", "bag"])
def test_pooling_and_its_gradients_equal_the_cpus(backend):
    for cuda, cpu in zip(pool_and_gradients("cuda", backend), pool_and_gradients("cpu")):
        torch.testing.assert_close(cuda, cpu, rtol=1e-4, atol=1e-4)


def test_deterministic_algorithms_repeat_every_bit():
    torch.use_deterministic_algorithms(True)
    try:
        first, second = pool_and_gradients("cuda"), pool_and_gradients("cuda")
        with pytest.raises(RuntimeError, match="sums the gradient of the features in no fixed order"):
            pool_and_gradients("cuda", "triton")
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_the_operator_passes_opcheck_and_compiles():
    features = torch.randn(1, 4, 8, 9, device="cuda").contiguous(memory_format=torch.channels_last).requires_grad_()
    rois = torch.tensor([[0, 3.0, 4.0, 20.0, 17.0]], device="cuda", requires_grad=True)
    levels = torch.zeros(1, dtype=torch.long, device="cuda")
    torch.library.opcheck(pool_regions, ([features], rois, levels, None, [0.25], [2, 3], 2, True))
    compiled = torch.compile(deform_roi_align, fullgraph=True)
    torch.testing.assert_close(compiled(features, rois, 3, 0.25), deform_roi_align(features, rois, 3, 0.25))


@pytest.mark.parametrize("head", HEADS)
def test_a_trace_equals_the_cpus(head, tiny_config):
    torch.manual_seed(0)
    model, image = build_detector(replace(tiny_config, head=head)), torch.rand(3, 64, 64)
    proposals = torch.tensor([[5.0, 6.0, 40.0, 44.0], [20.0, 8.0, 60.0, 60.0]])
    cpu, cuda = (trace(model.to(device), image, proposals) for device in ("cpu", "cuda"))
    torch.testing.assert_close(cuda.detection.logits.cpu(), cpu.detection.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(cuda.detection.boxes.cpu(), cpu.detection.boxes, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_training_in_every_precision(precision, tiny_config, tiny_data, tmp_path):
    config = replace(tiny_config, train=replace(tiny_config.train, precision=precision))
    result = train(config, tiny_data, tmp_path / "run", progress=False, device="cuda")
    assert result.best_step > 0
    assert train(config, tiny_data, tmp_path / "run", resume=True, progress=False, device="cuda").last == result.last
