"""The Triton kernels against the oracle, torchvision and autograd.

Where there is no GPU they run in Triton's interpreter, on the CPU.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from types import ModuleType

import hostile
import pytest
import torch
from awkward import AWKWARD
from hostile import poolings
from hypothesis import given, settings
from torchvision.ops import roi_align

from tsdlab.ops import bag, reference
from tsdlab.ops.sampling import regions_backward

pytest.importorskip("triton")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, for the hostile values below

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
SCALES = (0.25, 1 / 9)
SIZES = ((13, 17), (5, 7))
ROIS = [*AWKWARD, [0, 2.0, 2.0, 30.0, 30.0]]  # the last has whole cells, so that samples fall on cells
LEVELS = [0, 0, 1, 0, 0, 1, 0]
# Two of four: the other two take twice the time in the interpreter, and `test_any_pooling` draws float64 with both.
PRECISIONS = [(torch.float32, True), (torch.float64, False)]


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """The module; without a GPU a copy of it for the interpreter, which Triton chooses when it decorates a kernel."""
    spec = importlib.util.find_spec("tsdlab.ops.triton_kernels")
    if DEVICE == "cuda":
        return importlib.import_module(spec.name)
    spec = importlib.util.spec_from_file_location("interpreted_triton_kernels", spec.origin)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


def make_features(dtype=torch.float32, channels=5, images=2, sizes=SIZES):
    return [torch.randn(images, h, w, channels, dtype=dtype, device=DEVICE).permute(0, 3, 1, 2) for h, w in sizes]


def make_rois(dtype=torch.float32):
    return torch.tensor(ROIS, dtype=dtype, device=DEVICE), torch.tensor(LEVELS, device=DEVICE)


def make_offsets(rois, size, spread=0.3):
    return torch.randn(len(rois), *size, 2, dtype=rois.dtype, device=DEVICE) * spread


def expected(features, rois, levels, offsets, scales, size, sampling_ratio, aligned):
    """The oracle's answer for every RoI from its own level."""
    features, rois = [f.cpu() for f in features], rois.cpu()
    rows = []
    for k, level in enumerate(levels.tolist()):
        shift = None if offsets is None else offsets[k : k + 1].cpu()
        rows.append(
            reference.deform_roi_align(
                features[level], rois[k : k + 1], size, scales[level], sampling_ratio, aligned, shift
            )
        )
    return torch.cat(rows).to(DEVICE)


def autograd(grad, features, rois, levels, offsets, scales, size, sampling_ratio, aligned):
    """Gradients of features, boxes and offsets by the bag backend."""
    leaves = [f.detach().clone().requires_grad_() for f in features]
    rois = rois.detach().clone().requires_grad_()
    offsets = torch.zeros(len(rois), *size, 2, dtype=rois.dtype, device=DEVICE) if offsets is None else offsets
    offsets = offsets.detach().clone().requires_grad_()
    pooled = bag.pool(bag.FeatureTable.of(leaves, scales), rois, levels, size, sampling_ratio, aligned, offsets)
    *maps, of_rois, of_offsets = torch.autograd.grad(pooled, [*leaves, rois, offsets], grad)
    return maps, of_rois[:, 1:], of_offsets


def point_gradients(moments, rois, levels, offsets, scales, aligned):
    """Gradients of boxes [K, 4] and offsets, made of the moments (gx, fx·gx, gy, fy·gy)."""
    scale = torch.tensor(scales, dtype=rois.dtype, device=DEVICE)[levels]
    boxes, shifts = torch.zeros_like(rois[:, 1:]), []
    for axis in (0, 1):
        slope, lever = moments[..., 2 * axis], moments[..., 2 * axis + 1]
        length = (rois[:, 3 + axis] - rois[:, 1 + axis]) * scale
        stretches = torch.ones_like(length) if aligned else (length >= 1).to(length.dtype)
        by_length = stretches * lever.sum((1, 2))
        if offsets is not None:
            by_length = by_length + (offsets[..., axis] * slope).sum((1, 2))
        boxes[:, axis] = scale * (slope.sum((1, 2)) - by_length)
        boxes[:, 2 + axis] = scale * by_length
        shifts.append(slope * length[:, None, None])
    return boxes, torch.stack(shifts, dim=-1)


def assert_near(ours, theirs, tolerance):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    if theirs.numel():
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1)


@pytest.mark.parametrize(("dtype", "aligned"), PRECISIONS)
@pytest.mark.parametrize(("size", "sampling_ratio"), [((1, 1), 3), ((3, 4), 2), ((7, 7), 1)])
def test_forward_equals_the_reference(kernels, dtype, aligned, size, sampling_ratio):
    features, (rois, levels) = make_features(dtype), make_rois(dtype)
    for offsets in (None, make_offsets(rois, size)):
        arguments = (features, rois, levels, offsets, SCALES, size, sampling_ratio, aligned)
        ours = kernels.forward(*arguments)
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert_near(ours, expected(*arguments), TOLERANCE[dtype])


@pytest.mark.parametrize("aligned", [True, False])
def test_forward_equals_torchvision(kernels, aligned):
    features, (rois, _) = make_features(torch.float64)[:1], make_rois(torch.float64)
    levels = torch.zeros(len(rois), dtype=torch.long, device=DEVICE)
    ours = kernels.forward(features, rois, levels, None, (0.25,), (7, 5), 2, aligned)
    theirs = roi_align(features[0].contiguous(), rois, (7, 5), 0.25, 2, aligned)
    assert_near(ours, theirs, 1e-10)


@pytest.mark.parametrize(("dtype", "aligned"), PRECISIONS)
@pytest.mark.parametrize(("size", "sampling_ratio"), [((1, 1), 1), ((3, 4), 2), ((2, 3), 3)])
def test_every_gradient_equals_autograd(kernels, dtype, aligned, size, sampling_ratio):
    features, (rois, levels) = make_features(dtype), make_rois(dtype)
    for offsets in (None, make_offsets(rois, size)):
        arguments = (features, rois, levels, offsets, SCALES, size, sampling_ratio, aligned)
        grad = torch.randn(len(rois), 5, *size, dtype=dtype, device=DEVICE)
        maps, boxes, shifts = autograd(grad, *arguments)
        gradients, moments = kernels.backward(grad, *arguments, True, True)
        our_boxes, our_shifts = point_gradients(moments, rois, levels, offsets, SCALES, aligned)
        for ours, theirs in zip([*gradients, our_boxes, our_shifts], [*maps, boxes, shifts]):
            assert_near(ours, theirs, 5 * TOLERANCE[dtype])
        assert all(g.is_contiguous(memory_format=torch.channels_last) for g in gradients)


@pytest.mark.parametrize("channels", [1, 3, pytest.param(257, marks=pytest.mark.slow)])
def test_awkward_channels(kernels, channels):
    features, (rois, levels) = make_features(torch.float64, channels), make_rois(torch.float64)
    arguments = (features, rois, levels, make_offsets(rois, (1, 2)), SCALES, (1, 2), 2, True)
    assert_near(kernels.forward(*arguments), expected(*arguments), 1e-10)
    grad = torch.randn(len(rois), channels, 1, 2, dtype=torch.float64, device=DEVICE)
    maps, boxes, shifts = autograd(grad, *arguments)
    gradients, moments = kernels.backward(grad, *arguments, True, True)
    points = point_gradients(moments, rois, levels, arguments[3], SCALES, True)
    for ours, theirs in zip([*gradients, *points], [*maps, boxes, shifts]):
        assert_near(ours, theirs, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(kernels, dtype):
    """Error ≤ 2 × the error of rounding the float32 result, which is up to eps / 2."""
    features, (rois, levels) = make_features(dtype, channels=9), make_rois()
    full = [f.float() for f in features]
    arguments = (rois, levels, make_offsets(rois, (3, 3)), SCALES, (3, 3), 2, True)
    grad = torch.randn(len(rois), 9, 3, 3, device=DEVICE).to(dtype)
    maps, moments = kernels.backward(grad, features, *arguments, True, True)
    exact_maps, exact_moments = kernels.backward(grad.float(), full, *arguments, True, True)
    assert_near(moments, exact_moments, TOLERANCE[torch.float32])  # these stay float32
    rounded = [kernels.forward(features, *arguments), *maps]
    for ours, exact in zip(rounded, [kernels.forward(full, *arguments), *exact_maps]):
        assert ours.dtype == dtype
        limits = torch.finfo(dtype)
        assert ((ours.float() - exact).abs() <= limits.eps * exact.abs() + limits.smallest_normal).all()


def test_only_what_is_needed(kernels):
    features, (rois, levels) = make_features(), make_rois()
    arguments = (features, rois, levels, None, SCALES, (2, 2), 2, True)
    grad = torch.randn(len(rois), 5, 2, 2, device=DEVICE)
    both, all_moments = kernels.backward(grad, *arguments, True, True)
    maps, moments = kernels.backward(grad, *arguments, True, False)
    assert moments.shape == (0, 2, 2, 4)
    for ours, theirs in zip(maps, both):
        assert_near(ours, theirs, TOLERANCE[torch.float32])
    maps, moments = kernels.backward(grad, *arguments, False, True)
    assert maps == [] and torch.equal(moments, all_moments)  # no atomic additions: the same every time


@pytest.mark.parametrize(("rois", "images", "channels"), [(0, 2, 5), (7, 0, 5), (7, 2, 0)])
def test_nothing_to_pool(kernels, rois, images, channels):
    features = make_features(channels=channels, images=images)
    all_rois, levels = make_rois()
    arguments = (features, all_rois[:rois], levels[:rois], None, SCALES, (2, 3), 2, True)
    out = kernels.forward(*arguments)
    assert out.shape == (rois, channels, 2, 3) and not out.any()
    maps, moments = kernels.backward(out, *arguments, True, True)
    assert [m.shape for m in maps] == [f.shape for f in features] and not any(m.any() for m in maps)
    assert moments.shape == (rois, 2, 3, 4) and not moments.any()


def test_one_cell_maps(kernels):
    features = make_features(sizes=[(1, 1), (1, 1)])
    rois, levels = make_rois()
    arguments = (features, rois, levels, None, (1 / 16, 1 / 32), (2, 2), 2, True)
    assert_near(kernels.forward(*arguments), expected(*arguments), TOLERANCE[torch.float32])
    _, moments = kernels.backward(torch.ones(len(rois), 5, 2, 2, device=DEVICE), *arguments, True, True)
    assert not moments.any()


class Guarded:
    """A tensor with a margin of NaN on either side, which must still be there in the end."""

    MARGIN = 4096

    def __init__(self, values):
        count, margin = values.numel(), self.MARGIN
        self.memory = values.new_full((count + 2 * margin,), math.nan)
        self.tensor = self.memory[margin : margin + count].view(values.shape).copy_(values)

    def is_intact(self):
        margins = self.memory[: self.MARGIN], self.memory[-self.MARGIN :]
        return all(m.isnan().all() for m in margins)


def hostile_inputs():
    """RoIs that are nowhere, each for another reason; then one with hostile offsets."""
    good = [0, 3.0, 4.0, 40.0, 37.0]
    bad = [math.nan, math.inf, -math.inf, 1e30, -1e30]
    rois = [[image, *good[1:]] for image in (-1, 2, 1e9, -1e9, -0.5, *bad)]
    rois += [[*good[:i], value, *good[i + 1 :]] for i in range(1, 5) for value in bad[:3]]
    rois += [[0, 1e30, 1e30, 2e30, 2e30], [0, -3e38, -3e38, 3e38, 3e38]]
    levels = [0] * len(rois) + [-1, 2, 2**40, -(2**40)]
    rois = torch.tensor(rois + [good] * 5, device=DEVICE)
    offsets = torch.zeros(len(rois), 2, 3, 2, device=DEVICE)
    for j, value in enumerate(bad):
        offsets[-1, j // 3, j % 3, j % 2] = value
    return rois, torch.tensor([*levels, 0], device=DEVICE), offsets


def test_hostile_values_stay_within_their_memory(kernels):
    rois, levels, offsets = hostile_inputs()
    features = [Guarded(f.permute(0, 2, 3, 1)) for f in make_features()]
    gradients = [Guarded(torch.zeros_like(f.tensor)) for f in features]
    out = Guarded(torch.zeros(len(rois), 2, 3, 5, device=DEVICE))
    grad = Guarded(torch.randn(len(rois), 2, 3, 5, device=DEVICE))
    moments = Guarded(torch.zeros(len(rois), 2, 3, 4, device=DEVICE))
    guarded = [*features, *gradients, out, grad, moments]
    maps = [f.tensor.permute(0, 3, 1, 2) for f in features]
    pooling = kernels._Pooling(SCALES, 5, 2, 3, 2, True, itemsize=4)

    kernels._launch(kernels._forward_kernel, (out.tensor,), maps, rois, levels, offsets, pooling)
    outputs = (tuple(g.tensor for g in gradients), moments.tensor, grad.tensor)
    kernels._launch(kernels._backward_kernel, outputs, maps, rois, levels, offsets, pooling)

    assert all(g.is_intact() for g in guarded)
    assert not out.tensor[:-1].any() and not moments.tensor[:-1].any()  # also not NaN
    assert not out.tensor[-1, 0].any() and not out.tensor[-1, 1, :2].any() and out.tensor[-1, 1, 2].all()
    assert not moments.tensor[-1, 0].any() and moments.tensor[-1, 1, 2].isfinite().all()
    assert gradients[0].tensor.isfinite().all() and not gradients[1].tensor.any()
    assert 1 <= gradients[0].tensor.any(dim=-1).sum() <= 16  # of that one bin


@settings(max_examples=40, deadline=None)
@given(poolings())
def test_any_pooling(kernels, pooling):
    """The values are the reference's, the gradients are those of bag."""
    p = pooling
    features = [f.to(DEVICE).contiguous(memory_format=torch.channels_last) for f in p.features]
    rois, levels = p.rois.to(DEVICE), p.levels.to(DEVICE)
    offsets = None if p.offsets is None else p.offsets.to(DEVICE)
    arguments = (features, rois, levels, offsets, tuple(p.scales), p.size, p.sampling_ratio, p.aligned)
    pooled = kernels.forward(*arguments)
    assert_near(pooled, hostile.expected(pooling).to(DEVICE), 1e-9)
    grad = torch.randn_like(pooled)
    maps, of_rois, shifts = autograd(grad, *arguments)
    gradients, moments = kernels.backward(grad, *arguments, True, True)
    our_rois, our_shifts = regions_backward(moments, rois, levels, offsets, p.scales, p.aligned)
    pairs = [*zip(gradients, maps), (our_rois[:, 1:], of_rois)]
    for ours, theirs in pairs if offsets is None else [*pairs, (our_shifts, shifts)]:
        assert_near(ours, theirs, 1e-9)


@pytest.mark.gpu
def test_more_than_two_gigabytes_of_elements():
    """Addresses of more than 31 bits."""
    from tsdlab.ops import triton_kernels

    features = torch.zeros(2, 2048, 1100, 512, dtype=torch.bfloat16, device="cuda").permute(0, 3, 1, 2)
    features[1, :, 2040:, 1090:] = 1
    rois = torch.tensor([[1, 1092.0, 2042.0, 1098.0, 2046.0]], device="cuda")
    arguments = ([features], rois, torch.zeros(1, dtype=torch.long, device="cuda"), None, (1.0,), (7, 7), 2, True)
    out = triton_kernels.forward(*arguments)
    assert (out == 1).all()
    (gradient,), _ = triton_kernels.backward(torch.ones_like(out), *arguments, True, True)
    assert gradient[1, :, 2040:, 1090:].float().sum().item() == pytest.approx(out.numel(), rel=1e-2)
    assert not gradient[0].any()
