"""The pooling as a torch operator: what torch's own machinery expects of it."""

import pytest
import torch

from tsdlab.ops import MultiScaleDeformRoIAlign, deform_roi_align
from tsdlab.ops.fused import pool_regions, pool_regions_backward

LEVELS = torch.tensor([0, 1, 1])
SCALES = [0.25, 0.125]


def make_inputs(dtype=torch.float64, requires_grad=True):
    torch.manual_seed(0)
    features = [
        torch.randn(2, 3, size, size + 2, dtype=dtype).contiguous(memory_format=torch.channels_last) for size in (8, 4)
    ]
    rois = torch.tensor([[0, 3.0, 4.0, 20.0, 17.0], [1, 2.2, 1.3, 21.0, 26.0], [0, 8.0, 8.5, 9.0, 15.0]], dtype=dtype)
    offsets = torch.randn(3, 2, 3, 2, dtype=dtype) * 0.1
    for tensor in (*features, rois, offsets):
        tensor.requires_grad_(requires_grad)
    return features, rois, offsets


@pytest.mark.parametrize("with_offsets", [True, False])
@pytest.mark.parametrize("aligned", [True, False])
def test_opcheck(with_offsets, aligned):
    features, rois, offsets = make_inputs()
    torch.library.opcheck(
        pool_regions, (features, rois, LEVELS, offsets if with_offsets else None, SCALES, [2, 3], 2, aligned)
    )


@pytest.mark.parametrize(("need_features", "need_points"), [(True, True), (True, False), (False, True)])
def test_opcheck_of_the_backward(need_features, need_points):
    features, rois, offsets = make_inputs(requires_grad=False)
    grad = torch.randn(3, 3, 2, 3, dtype=torch.float64)
    arguments = (grad, features, rois, LEVELS, offsets, SCALES, [2, 3], 2, True, need_features, need_points)
    torch.library.opcheck(pool_regions_backward, arguments)


def pool_pyramid(features, rois, offsets):
    return MultiScaleDeformRoIAlign((4, 8), output_size=2)(features)(rois, offsets=offsets)


def test_compiles_without_a_graph_break():
    """A head's use, with its gradients; `aot_eager` traces as inductor does, without needing a C++ compiler."""
    features, rois, _ = make_inputs(torch.float32)
    offsets = torch.zeros(3, 2, 2, 2, requires_grad=True)
    compiled = torch.compile(pool_pyramid, fullgraph=True, backend="aot_eager")
    for inputs in ((features, rois, offsets), (features, rois[:2], offsets[:2])):
        result, expected = compiled(*inputs), pool_pyramid(*inputs)
        torch.testing.assert_close(result, expected)
        leaves = (*features, rois, offsets)
        ours, theirs = (torch.autograd.grad(out.square().sum(), leaves) for out in (result, expected))
        torch.testing.assert_close(ours, theirs)


def test_exports_with_any_number_of_regions():
    class Pool(torch.nn.Module):
        def forward(self, features, rois):
            return deform_roi_align(features, rois, 3, 0.25)

    features, rois, _ = make_inputs(torch.float32, requires_grad=False)
    count = torch.export.Dim("count", min=2)
    exported = torch.export.export(Pool(), (features[0], rois), dynamic_shapes=(None, {0: count})).module()
    more = torch.cat([rois, rois])
    torch.testing.assert_close(exported(features[0], more), Pool()(features[0], more))


def test_autocast_keeps_the_type_of_the_features():
    features, rois, offsets = make_inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert deform_roi_align(features[0], rois, (2, 3), 0.25, offsets=offsets).dtype == torch.float32
        assert deform_roi_align(features[0].bfloat16(), rois, (2, 3), 0.25, offsets=offsets).dtype == torch.bfloat16


def test_only_the_gradients_asked_for():
    features, rois, offsets = make_inputs(requires_grad=False)
    for leaf in (features[1], rois, offsets):
        leaf.requires_grad_()
        pool_regions(features, rois, LEVELS, offsets, SCALES, [2, 3], 2, True).sum().backward()
        assert leaf.grad is not None and leaf.grad.any()
        leaf.requires_grad_(False)
    assert features[0].grad is None


def test_a_second_derivative_is_refused():
    features, rois, _ = make_inputs()
    (gradient,) = torch.autograd.grad(
        deform_roi_align(features[0], rois, 2, 0.25, backend="numba").square().sum(), features[0], create_graph=True
    )
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        gradient.sum().backward()
