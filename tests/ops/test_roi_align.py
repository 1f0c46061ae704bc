"""Deformable RoIAlign against torchvision (without offsets), the scalar oracle (with them) and autograd."""

import math

import pytest
import torch
from awkward import AWKWARD, make_features, relative_error
from hostile import expected, poolings
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, roi_align

from tsdlab.ops import MultiScaleDeformRoIAlign, deform_roi_align, reference
from tsdlab.ops.roi_align import Pyramid

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.fixture(params=["numba", "bag"])
def backend(request):
    return request.param


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
def test_equals_torchvision_without_offsets(backend, dtype, aligned, sampling_ratio):
    features, rois = make_features(dtype), torch.tensor(AWKWARD, dtype=dtype)
    theirs = roi_align(features, rois, (7, 5), 0.25, sampling_ratio, aligned)
    ours = deform_roi_align(features, rois, (7, 5), 0.25, sampling_ratio, aligned, backend=backend)
    assert relative_error(ours, theirs) < TOLERANCE[dtype]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference_with_offsets(backend, dtype, aligned):
    features, rois = make_features(dtype), torch.tensor(AWKWARD, dtype=dtype)
    offsets = torch.randn(len(rois), 3, 4, 2, dtype=dtype) * 0.5
    theirs = reference.deform_roi_align(features, rois, (3, 4), 0.25, 2, aligned, offsets)
    ours = deform_roi_align(features, rois, (3, 4), 0.25, 2, aligned, offsets, backend)
    assert relative_error(ours, theirs) < TOLERANCE[dtype]


def test_reference_equals_torchvision_without_offsets():
    features, rois = make_features(torch.float64), torch.tensor(AWKWARD, dtype=torch.float64)
    theirs = roi_align(features, rois, (3, 3), 0.25, 2, True)
    assert relative_error(reference.deform_roi_align(features, rois, (3, 3), 0.25), theirs) < 1e-10


def test_offsets_are_fractions_of_the_rois_size():
    """The same offset for all bins is the translated RoI."""
    features = make_features(torch.float64)
    rois = torch.tensor([[0, 8.0, 10.0, 32.0, 26.0]], dtype=torch.float64)
    dx, dy = 0.25, -0.125
    offsets = torch.tensor([dx, dy], dtype=torch.float64).expand(1, 7, 7, 2)
    moved = rois + torch.tensor([0, dx * 24, dy * 16, dx * 24, dy * 16], dtype=torch.float64)
    torch.testing.assert_close(
        deform_roi_align(features, rois, 7, 0.25, offsets=offsets), deform_roi_align(features, moved, 7, 0.25)
    )


@pytest.mark.parametrize("aligned", [True, False])
def test_gradients_in_float64(backend, aligned):
    features = make_features(torch.float64, images=2, channels=2, height=5, width=6).requires_grad_()
    boxes = torch.tensor([[1.3, 2.2, 9.1, 8.3], [-3.0, -2.0, 4.0, 5.0]], dtype=torch.float64, requires_grad=True)
    images = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    offsets = (torch.randn(2, 3, 3, 2, dtype=torch.float64) * 0.1).requires_grad_()

    def op(features, boxes, offsets):
        return deform_roi_align(features, torch.cat([images, boxes], 1), 3, 0.5, 2, aligned, offsets, backend)

    assert torch.autograd.gradcheck(op, (features, boxes, offsets))


def test_gradients_over_a_pyramid(backend):
    """Every level and every image has cells of its own."""
    pyramid = [torch.randn(2, 2, s, s + 1, dtype=torch.float64, requires_grad=True) for s in (6, 3)]
    boxes = torch.tensor([[1.3, 2.2, 9.1, 8.3], [3.0, 2.0, 21.0, 19.0]] * 2, dtype=torch.float64, requires_grad=True)
    images = torch.tensor([[0.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    offsets = (torch.randn(4, 2, 2, 2, dtype=torch.float64) * 0.1).requires_grad_()
    levels = torch.tensor([0, 1, 0, 1])

    def op(fine, coarse, boxes, offsets):
        pyramid = Pyramid.of([fine, coarse], [1 / 4, 1 / 8])
        return pyramid.pool(torch.cat([images, boxes], 1), levels, (2, 2), 2, True, offsets, backend)

    assert torch.autograd.gradcheck(op, (*pyramid, boxes, offsets))


def test_feature_gradient_equals_torchvision(backend):
    ours, theirs = make_features().requires_grad_(), None
    theirs = ours.detach().clone().requires_grad_()
    rois = torch.tensor(AWKWARD)
    weight = torch.randn(len(rois), 5, 7, 7)
    (deform_roi_align(ours, rois, 7, 0.25, backend=backend) * weight).sum().backward()
    (roi_align(theirs, rois, 7, 0.25, 2, True) * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(backend, dtype):
    """Error of the half-precision op ≤ 2 × the error of rounding a float32 result (plus the rounded weights')."""
    features, rois = make_features(dtype), torch.tensor(AWKWARD)
    offsets = torch.randn(len(rois), 7, 7, 2) * 0.2
    exact = deform_roi_align(features.float(), rois, 7, 0.25, offsets=offsets)
    ours = deform_roi_align(features, rois, 7, 0.25, offsets=offsets, backend=backend)
    assert ours.dtype == dtype
    rounding = torch.finfo(dtype).eps * features.float().abs().max()
    assert (ours.float() - exact).abs().max() <= 2 * rounding


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_gradients(backend, dtype):
    features = make_features(dtype).requires_grad_()
    offsets = torch.zeros(len(AWKWARD), 7, 7, 2, dtype=dtype, requires_grad=True)
    out = deform_roi_align(features, torch.tensor(AWKWARD), 7, 0.25, offsets=offsets, backend=backend)
    out.float().square().sum().backward()
    assert features.grad.dtype == dtype and features.grad.isfinite().all() and features.grad.any()
    assert offsets.grad.isfinite().all() and offsets.grad.any()


def test_no_rois_still_pass_a_gradient(backend):
    features = make_features().requires_grad_()
    offsets = torch.zeros(0, 7, 7, 2, requires_grad=True)
    out = deform_roi_align(features, torch.zeros(0, 5), 7, 0.25, offsets=offsets, backend=backend)
    assert out.shape == (0, 5, 7, 7)
    out.sum().backward()
    assert not features.grad.any() and offsets.grad.shape == offsets.shape


def test_one_pixel_feature_map(backend):
    features = torch.full((1, 3, 1, 1), 2.5)
    out = deform_roi_align(features, torch.tensor([[0, 0.0, 0.0, 16.0, 16.0]]), 7, 1 / 16, backend=backend)
    torch.testing.assert_close(out, torch.full((1, 3, 7, 7), 2.5))


@pytest.mark.parametrize("layout", ["channels_last", "strided", "expanded"])
def test_memory_layout_does_not_matter(backend, layout):
    dense = make_features()
    features = {
        "channels_last": dense.to(memory_format=torch.channels_last),
        "strided": torch.stack([dense, dense], dim=-1)[..., 0],
        "expanded": dense[:1].expand(2, -1, -1, -1),
    }[layout]
    rois = torch.tensor(AWKWARD)
    torch.testing.assert_close(
        deform_roi_align(features, rois, 7, 0.25, backend=backend),
        deform_roi_align(features.contiguous(), rois, 7, 0.25, backend=backend),
    )


def test_channels_last_features_are_not_copied():
    features = make_features().to(memory_format=torch.channels_last)
    assert Pyramid.of([features], [0.25]).maps[0].data_ptr() == features.data_ptr()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_hostile_values_contribute_zero(backend, bad):
    features = make_features().requires_grad_()
    rois = torch.tensor([[0, 3.0, 4.0, 40.0, 37.0], [0, bad, 4.0, 40.0, bad]])
    offsets = torch.zeros(2, 7, 7, 2)
    offsets[0, 0, 0, 0] = bad
    offsets.requires_grad_()
    out = deform_roi_align(features, rois, 7, 0.25, offsets=offsets, backend=backend)
    assert not out[1].any() and not out[0, :, 0, 0].any()
    assert out[0, :, 0, 1:].all()
    out.sum().backward()
    assert features.grad.isfinite().all() and offsets.grad.isfinite().all()


@pytest.mark.parametrize("image", [-1, 2, 1e9])
def test_unknown_image_contributes_zero(backend, image):
    out = deform_roi_align(make_features(), torch.tensor([[image, 3.0, 4.0, 40.0, 37.0]]), 7, 0.25, backend=backend)
    assert not out.any()


def pool_and_gradients(pooling, backend):
    """The pooled regions, and the gradients of a weighted sum of them."""
    leaves = [leaf.requires_grad_() for leaf in pooling.leaves()]
    pyramid = Pyramid.of(pooling.features, pooling.scales)
    how = (pooling.size, pooling.sampling_ratio, pooling.aligned, pooling.offsets, backend)
    pooled = pyramid.pool(pooling.rois, pooling.levels, *how)
    weight = torch.linspace(-1, 1, pooled.numel()).view(pooled.shape).to(pooled.dtype)
    gradients = torch.autograd.grad((pooled * weight).sum(), leaves, allow_unused=True)
    return pooled.detach(), [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves)]


@settings(max_examples=150, deadline=None)
@given(poolings())
def test_any_pooling(pooling):
    """Every backend equals the reference, and their gradients, which autograd finds in one of them, each other."""
    answer = expected(pooling)
    gradients = {}
    for backend in ("numba", "bag"):
        pooled, gradients[backend] = pool_and_gradients(pooling, backend)
        torch.testing.assert_close(pooled, answer, rtol=1e-9, atol=1e-9)
        assert all(g.isfinite().all() for g in gradients[backend])
    for ours, theirs in zip(gradients["numba"], gradients["bag"]):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(poolings(torch.float32), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_backends_differ_by_rounding(pooling, dtype):
    """In lower precision, every backend sums in float32 and rounds once, wherever the RoIs are."""
    pooling.features = [f.to(dtype) for f in pooling.features]
    (pooled, gradients), (pooled2, gradients2) = (pool_and_gradients(pooling, b) for b in ("numba", "bag"))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(pooled2, pooled, rtol=2 * eps, atol=1e-5)
    for ours, theirs in zip(gradients2, gradients):
        torch.testing.assert_close(ours, theirs, rtol=max(2 * eps, 1e-4), atol=1e-3)


@pytest.mark.parametrize("size", [(0, 9), (9, 0)])
def test_a_map_without_cells_contributes_zero(backend, size):
    features = torch.randn(2, 5, *size, requires_grad=True)
    out = deform_roi_align(features, torch.tensor(AWKWARD), 7, 0.25, backend=backend)
    assert not out.any()
    out.sum().backward()


def test_what_lies_outside_reads_no_cell(backend):
    """An infinite first cell is not what a sample beyond the map, or at a NaN, sees."""
    features = make_features(height=6, width=6)
    features[..., 0, 0] = math.inf
    features.requires_grad_()
    rois = torch.tensor([[0, 12.0, 12.0, 60.0, 60.0], [0, math.nan, 1.0, 9.0, 9.0]], requires_grad=True)
    out = deform_roi_align(features, rois, 7, 0.25, backend=backend)
    assert out.isfinite().all()
    out.sum().backward()
    assert rois.grad.isfinite().all()


def test_an_empty_level_beside_one_that_is_not(backend):
    """Its RoIs read nothing: neither the level before nor beyond the last."""
    fine, empty = torch.ones(1, 2, 4, 4), torch.ones(1, 2, 0, 4)
    rois = torch.tensor([[0, 0.0, 0.0, 8.0, 8.0]] * 3)
    for pyramid, expected_values in (((fine, empty, fine), [1, 0, 1]), ((empty, fine, empty), [0, 1, 0])):
        pooled = Pyramid.of(pyramid, [0.5] * 3).pool(rois, torch.arange(3), (2, 2), 2, True, backend=backend)
        assert pooled.mean(dim=(1, 2, 3)).tolist() == expected_values


def test_a_sample_at_the_first_cells_centre_slopes_towards_the_second(backend):
    """There the map has a kink: backends agree on the right-hand side."""
    features = torch.tensor([1.0, 4.0]).view(1, 1, 1, 2)
    rois = torch.tensor([[0, 0.0, 0.0, 1.0, 1.0]], requires_grad=True)  # one sample, at x = 0 cells
    deform_roi_align(features, rois, 1, 1.0, sampling_ratio=1, backend=backend).backward()
    torch.testing.assert_close(rois.grad, torch.tensor([[0, 1.5, 0, 1.5, 0]]))


def test_unknown_level_contributes_zero(backend):
    pyramid = Pyramid.of([make_features(), make_features(height=7, width=9)], [1 / 4, 1 / 8])
    rois = torch.tensor([[0, 3.0, 4.0, 40.0, 37.0]] * 4, requires_grad=True)
    levels = torch.tensor([0, -1, 2, 1])
    pooled = pyramid.pool(rois, levels, (3, 3), 2, True, backend=backend)
    assert [bool(p.any()) for p in pooled] == [True, False, False, True]
    pooled.sum().backward()
    assert [bool(g.any()) for g in rois.grad] == [True, False, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(3, 8, 8)}, r"features must be \[N, C, H, W\], got \(3, 8, 8\)"),
        ({"features": torch.zeros(1, 3, 8, 8, dtype=torch.long)}, "floating point, got torch.int64"),
        ({"rois": [[0, 1, 2, 3, 4]]}, "rois must be a tensor, got list"),
        ({"rois": torch.zeros(4, 4)}, r"rois must be \[K, 5\].*got \(4, 4\)"),
        ({"offsets": torch.zeros(4, 7, 7)}, r"offsets must be \[4, 7, 7, 2\].*got \(4, 7, 7\)"),
        ({"output_size": 0}, "output_size must be a positive"),
        ({"sampling_ratio": 0}, "sampling_ratio must be at least 1"),
        ({"backend": "magic"}, "backend 'magic' cannot pool"),
        ({"backend": "triton"}, "backend 'triton' cannot pool features on cpu; use None, 'bag' or 'numba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {
        "features": torch.zeros(1, 3, 8, 8),
        "rois": torch.zeros(4, 5),
        "output_size": 7,
        "spatial_scale": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        deform_roi_align(**(arguments | change))


def make_pyramid(dtype=torch.float64):
    return [torch.randn(2, 4, 64 // s, 96 // s, dtype=dtype) for s in (4, 8, 16)]


def test_pyramid_equals_torchvision():
    pyramid = make_pyramid()
    theirs = MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=64)
    boxes = [torch.rand(40, 4, dtype=torch.float64) * 40 for _ in range(2)]
    for b in boxes:
        b[:, 2:] += b[:, :2] + torch.logspace(-1, 1, 40, dtype=torch.float64)[:, None] * 5
    rois = torch.cat([torch.cat([b.new_full((40, 1), i), b], 1) for i, b in enumerate(boxes)])
    pool = MultiScaleDeformRoIAlign((4, 8, 16), aligned=False, canonical_size=64)(pyramid)
    assert pool.assign_levels(rois).unique().numel() == 3
    named = {str(i): f for i, f in enumerate(pyramid)}
    expected = theirs(named, boxes, ImageList(torch.empty(0), [(64, 96)] * 2).image_sizes)
    torch.testing.assert_close(pool(rois), expected, rtol=1e-10, atol=1e-10)


def test_a_region_can_be_pooled_from_any_level():
    pyramid = make_pyramid()
    pool = MultiScaleDeformRoIAlign((4, 8, 16))(pyramid)
    rois = torch.tensor([[1, 5.0, 6.0, 50.0, 40.0]], dtype=torch.float64)
    for level, stride in enumerate((4, 8, 16)):
        torch.testing.assert_close(
            pool(rois, torch.tensor([level])), deform_roi_align(pyramid[level], rois, 7, 1 / stride)
        )


def test_pyramid_names_what_does_not_fit():
    with pytest.raises(ValueError, match=r"strides must double.*\(4, 16\)"):
        MultiScaleDeformRoIAlign((4, 16))
    with pytest.raises(ValueError, match="must be at least 1; got 0, 2, 224"):
        MultiScaleDeformRoIAlign((4, 8), output_size=0)
    with pytest.raises(ValueError, match=r"must have one dtype.*float64.*float32"):
        MultiScaleDeformRoIAlign((4, 8))([torch.zeros(1, 2, 8, 8).double(), torch.zeros(1, 2, 4, 4)])
    with pytest.raises(ValueError, match="2 feature maps given for 3 strides"):
        MultiScaleDeformRoIAlign((4, 8, 16))(make_pyramid()[:2])
    pool = MultiScaleDeformRoIAlign((4, 8, 16))(make_pyramid())
    with pytest.raises(ValueError, match=r"levels must be \[2\]"):
        pool(torch.zeros(2, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.long))
