"""The same on a GPU: skipped, with a reason, where torch sees none."""

from dataclasses import replace

import pytest
import torch

from tsdlab.models.detector import build_detector
from tsdlab.models.heads import HEADS
from tsdlab.models.trace import trace
from tsdlab.ops import deform_roi_align
from tsdlab.train import train

pytestmark = pytest.mark.gpu


def test_pooling_and_its_gradients_equal_the_cpus():
    torch.manual_seed(0)
    features, offsets = torch.randn(2, 8, 25, 34), torch.randn(40, 7, 7, 2) * 0.1
    rois = torch.cat([torch.randint(0, 2, (40, 1)), torch.rand(40, 2) * 60, 60 + torch.rand(40, 2) * 70], 1)
    results = {}
    for device in ("cpu", "cuda"):
        inputs = [t.detach().to(device).requires_grad_() for t in (features, rois, offsets)]
        out = deform_roi_align(inputs[0], inputs[1], 7, 0.25, offsets=inputs[2])
        out.square().sum().backward()
        results[device] = [out, *(t.grad for t in inputs)]
    for a, b in zip(results["cpu"], results["cuda"]):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-4, atol=1e-4)


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
