"""Precise RoI Pooling against quadrature of the bilinear surface, the publication's gradient and RoIAlign."""

import math
from itertools import pairwise

import pytest
import torch
from awkward import make_features, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdlab.ops import deform_roi_align
from tsdlab.ops.bag import FeatureTable
from tsdlab.ops.precise import pool, precise_roi_pool

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
AWKWARD = [
    [0, 3.0, 4.0, 40.0, 37.0],
    [1, -20.0, -9.0, 15.0, 12.0],  # hangs over the corner
    [0, 30.3, 21.1, 30.9, 22.0],  # within one cell
    [0, 500.0, 500.0, 600.0, 600.0],  # outside
    [1, 10.0, 10.0, 10.0, 10.0],  # empty
    [0, 30.0, 30.0, 20.0, 25.0],  # inside out
    [1, 30.0, 10.0, 20.0, 25.0],  # inside out one way
    [1, 8.0, 4.0, 36.0, 32.0],  # bins end at cells' centres, or half-way
    [1, 0.0, 0.0, 67.0, 51.0],  # everything
]


def surface(feature, ys, xs):
    """f at all (y, x) of two coordinate lists: bilinear between cells at integers, zero cells around the map."""
    height, width = feature.shape[1:]
    padded = torch.nn.functional.pad(feature, (1, 2, 1, 2))
    ys, xs = (ys + 1).clamp(0, height + 1), (xs + 1).clamp(0, width + 1)
    y0, x0 = ys.floor().long(), xs.floor().long()
    fy, fx = (ys - y0)[:, None], xs - x0
    top = padded[:, y0][:, :, x0] * (1 - fx) + padded[:, y0][:, :, x0 + 1] * fx
    bottom = padded[:, y0 + 1][:, :, x0] * (1 - fx) + padded[:, y0 + 1][:, :, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy  # [C, len(ys), len(xs)]


def nodes(start, end, size):
    """Two-point Gauss–Legendre on each piece of [start, end] between integers, where a bilinear surface is smooth."""
    start, end = max(start, -1.0), min(end, float(size))  # nothing beyond one cell outside
    if start >= end:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    inner = [float(k) for k in range(-1, size + 1) if start < k < end]
    edges = torch.tensor([start, *inner, end], dtype=torch.float64)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return torch.cat([middle - half / math.sqrt(3), middle + half / math.sqrt(3)]), torch.cat([half, half])


def oracle(features, rois, output_size, spatial_scale, aligned=True):
    images, channels, height, width = features.shape
    rows, columns = output_size
    out = torch.zeros(len(rois), channels, rows, columns, dtype=torch.float64)
    for k, (image, *box) in enumerate(rois.double().tolist()):
        x1, y1, x2, y2 = (v * spatial_scale - 0.5 * aligned for v in box)
        if not all(map(math.isfinite, [image, *box])) or not 0 <= image < images or not (x1 < x2 and y1 < y2):
            continue
        h, w = (y2 - y1) / rows, (x2 - x1) / columns
        for i in range(rows):
            ys, y_weights = nodes(y1 + i * h, y1 + (i + 1) * h, height)
            for j in range(columns):
                xs, x_weights = nodes(x1 + j * w, x1 + (j + 1) * w, width)
                f = surface(features[int(image)].double(), ys, xs)
                out[k, :, i, j] = torch.einsum("cyx,y,x->c", f, y_weights, x_weights) / h / w
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("output_size", [(7, 5), (2, 3), (1, 1)])
def test_equals_quadrature(dtype, aligned, output_size):
    features, rois = make_features(dtype), torch.tensor(AWKWARD, dtype=dtype)
    ours = precise_roi_pool(features, rois, output_size, 0.25, aligned)
    assert ours.dtype == dtype and ours.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(ours, oracle(features, rois, output_size, 0.25, aligned)) < TOLERANCE[dtype]
    assert not ours[3:7].any() and ours[[0, 1, 2, 7, 8]].flatten(1).any(dim=1).all()


def test_dense_samples_converge_to_it():
    """Midpoint sums of the surface, which share nothing with the quadrature but the surface, converge in 1/n²."""
    features = make_features(torch.float64)
    box = [-1.7, 2.3, 9.1, 14.9]  # over the left and the lower border
    exact = precise_roi_pool(features, torch.tensor([[1, *box]], dtype=torch.float64), 1, 1.0, aligned=False)
    errors = []
    for n in (100, 400):
        steps = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        xs, ys = (box[a] + steps * (box[a + 2] - box[a]) for a in (0, 1))
        errors.append((surface(features[1], ys, xs).mean(dim=(1, 2)) - exact[0, :, 0, 0]).abs().max().item())
    assert errors[0] < 1e-3 and errors[1] < errors[0] / 8


def test_roi_align_converges_to_it():
    features = make_features(torch.float64)
    rois = torch.tensor([[0, 3.0, 4.0, 40.0, 37.0], [1, 5.0, 5.0, 60.0, 45.0]], dtype=torch.float64)
    exact = precise_roi_pool(features, rois, 3, 0.25)
    errors = [relative_error(deform_roi_align(features, rois, 3, 0.25, s), exact) for s in (1, 4, 16, 64)]
    assert errors[0] > 0.1 and errors[-1] < 1e-3
    assert all(b < a / 4 for a, b in pairwise(errors))


def test_on_a_ramp_it_is_the_value_at_the_bins_centre():
    ys, xs = torch.meshgrid(torch.arange(13.0) + 0.5, torch.arange(17.0) + 0.5, indexing="ij")
    features = (3 * xs - 2 * ys + 1).double()[None, None]
    rois = torch.tensor([[0, 3.3, 4.1, 40.7, 37.9]], dtype=torch.float64)
    ours = precise_roi_pool(features, rois, 4, 0.25)
    centres = (torch.arange(4, dtype=torch.float64) + 0.5) / 4
    x, y = (3.3 + centres * 37.4) / 4, (4.1 + centres * 33.8) / 4
    torch.testing.assert_close(ours[0, 0], 3 * x[None, :] - 2 * y[:, None] + 1)
    torch.testing.assert_close(ours, deform_roi_align(features, rois, 4, 0.25))


def test_bins_from_cell_to_cell_are_means_of_four_cells():
    features = make_features(torch.float64)
    rois = torch.tensor([[1, 6.0, 4.0, 20.0, 18.0]], dtype=torch.float64)
    ours = precise_roi_pool(features, rois, 7, 0.5, aligned=False)
    means = torch.nn.functional.avg_pool2d(features, 2, stride=1)
    torch.testing.assert_close(ours[0], means[1, :, 2:9, 3:10])


@pytest.mark.parametrize("aligned", [True, False])
def test_gradients_in_float64(aligned):
    features = make_features(torch.float64, images=2, channels=2, height=5, width=6).requires_grad_()
    boxes = torch.tensor(
        [[1.3, 2.2, 9.1, 8.3], [-3.0, -2.0, 4.0, 5.0], [4.2, 4.1, 4.5, 4.6]], dtype=torch.float64, requires_grad=True
    )
    images = torch.tensor([[0.0], [1.0], [1.0]], dtype=torch.float64)

    def op(features, boxes):
        return precise_roi_pool(features, torch.cat([images, boxes], 1), (3, 2), 0.5, aligned)

    assert torch.autograd.gradcheck(op, (features, boxes))


@pytest.mark.parametrize(
    "box",
    [
        [2.3, 3.1, 9.7, 8.2],
        [2.0, 3.0, 9.0, 8.0],  # edges at the kinks of the surface
        [5.2, 3.1, 5.6, 3.8],
        [-4.0, -0.5, 3.0, 40.0],
    ],
)
def test_box_gradient_is_the_publications(box):
    """∂/∂x1 = pool / (x2 − x1) − ∫ f(x1, y) dy / area, and so on for the other three edges."""
    features = make_features(torch.float64, images=1, channels=1)
    rois = torch.tensor([[0, *box]], dtype=torch.float64, requires_grad=True)
    mean = precise_roi_pool(features, rois, 1, 1.0, aligned=False)
    mean.sum().backward()
    x1, y1, x2, y2 = box
    xs, x_weights = nodes(x1, x2, 17)
    ys, y_weights = nodes(y1, y2, 13)
    x_edges, y_edges = (torch.tensor(edges, dtype=torch.float64) for edges in ([x1, x2], [y1, y2]))
    left, right = y_weights @ surface(features[0], ys, x_edges)[0]  # ∫ f(x1, y) dy and ∫ f(x2, y) dy
    upper, lower = surface(features[0], y_edges, xs)[0] @ x_weights
    width, height, area = x2 - x1, y2 - y1, (x2 - x1) * (y2 - y1)
    value = mean.detach().squeeze()
    expected = [
        value / width - left / area,
        value / height - upper / area,
        right / area - value / width,
        lower / area - value / height,
    ]
    torch.testing.assert_close(rois.grad[0, 1:], torch.stack(expected), rtol=1e-9, atol=1e-11)
    assert rois.grad[0, 0] == 0


def test_refining_a_box_by_gradient_finds_the_peak():
    """What it is for: every bin's value answers to the box, so a box can climb."""
    ys, xs = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    peak = torch.exp(-((xs - 14.5) ** 2 + (ys - 9.5) ** 2) / 40)[None, None]
    box = torch.tensor([[4.0, 8.0, 12.0, 16.0]])  # its centre starts at (8, 12)
    for _ in range(60):
        shift = torch.zeros(1, 2, requires_grad=True)
        precise_roi_pool(peak, torch.cat([torch.zeros(1, 1), box + shift.repeat(1, 2)], 1), 1, 1.0).sum().backward()
        box = box + 10 * shift.grad.repeat(1, 2)
    torch.testing.assert_close((box[:, :2] + box[:, 2:]) / 2, torch.tensor([[15.0, 10.0]]), rtol=0, atol=0.05)


def make_pyramid():
    pyramid = [torch.randn(2, 2, s, s + 1, dtype=torch.float64, requires_grad=True) for s in (6, 3)]
    boxes = [[1.3, 2.2, 9.1, 8.3], [3.0, 2.0, 21.0, 19.0], [-7.0, 14.2, 9.1, 40.3], [3.3, 2.1, 51.0, 19.0]]
    rois = torch.cat([torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor(boxes)], 1).double()
    return pyramid, rois, torch.tensor([0, 1, 0, 1])


def test_each_roi_is_pooled_from_its_level_and_image():
    pyramid, rois, levels = make_pyramid()
    ours = pool(FeatureTable.of(pyramid, [1 / 4, 1 / 8]), rois, levels, (2, 3))
    for k, level in enumerate(levels.tolist()):
        expected = oracle(pyramid[level].detach(), rois[k : k + 1], (2, 3), 1 / (4, 8)[level])
        torch.testing.assert_close(ours[k : k + 1].detach(), expected, rtol=1e-11, atol=1e-11)


def test_gradients_over_a_pyramid():
    pyramid, rois, levels = make_pyramid()

    def op(fine, coarse, boxes):
        table = FeatureTable.of([fine, coarse], [1 / 4, 1 / 8])
        return pool(table, torch.cat([rois[:, :1], boxes], 1), levels, (2, 2))

    assert torch.autograd.gradcheck(op, (*pyramid, rois[:, 1:].clone().requires_grad_()))


def test_thin_bins_far_from_the_origin_stay_accurate_in_float32():
    """A bin of 2.7 roundings' width: the difference of two coordinates out here would be off by a tenth."""
    features = torch.rand(1, 3, 4, 4000) + 1
    rois = torch.tensor([[0, 3900.25, 1.5, 3900.25 + 2**-9, 3.5]])
    ours = precise_roi_pool(features, rois, 3, 1.0)
    torch.testing.assert_close(ours.double(), oracle(features, rois, (3, 3), 1.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype):
    """Error of the half-precision op ≤ 2 × the error of rounding a float32 result (plus the rounded weights')."""
    features, rois = make_features(dtype), torch.tensor(AWKWARD)
    ours = precise_roi_pool(features, rois, 7, 0.25)
    assert ours.dtype == dtype
    rounding = torch.finfo(dtype).eps * features.float().abs().max()
    assert (ours.float() - precise_roi_pool(features.float(), rois, 7, 0.25)).abs().max() <= 2 * rounding


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_gradients(dtype):
    features, rois = make_features(dtype).requires_grad_(), torch.tensor(AWKWARD, requires_grad=True)
    precise_roi_pool(features, rois, 7, 0.25).float().square().sum().backward()
    assert features.grad.dtype == dtype and features.grad.isfinite().all() and features.grad.any()
    assert rois.grad.dtype == torch.float32 and rois.grad.isfinite().all()
    assert rois.grad[[0, 1, 2, 7, 8], 1:].all() and not rois.grad[3:7].any()


@pytest.mark.parametrize(
    ("features", "rois"),
    [
        (torch.randn(2, 5, 13, 17), torch.zeros(0, 5)),
        (torch.zeros(0, 5, 13, 17), torch.tensor([[0, 3.0, 4.0, 40.0, 37.0]])),
        (torch.zeros(2, 5, 0, 17), torch.tensor([[0, 3.0, 4.0, 40.0, 37.0]])),
        (torch.full((2, 5, 13, 17), math.nan), torch.tensor([[0, math.inf, 4.0, 40.0, math.nan]])),
    ],
)
def test_nothing_to_pool_still_passes_a_gradient(features, rois):
    features, rois = features.clone().requires_grad_(), rois.clone().requires_grad_()
    out = precise_roi_pool(features, rois, 7, 0.25)
    assert out.shape == (len(rois), 5, 7, 7) and not out.any()
    out.sum().backward()
    assert features.grad.shape == features.shape and not features.grad.any()
    assert rois.grad.shape == rois.shape and not rois.grad.any()


HOSTILE = {
    "nan": [0, math.nan, 4.0, 40.0, 37.0],
    "infinite": [0, -math.inf, 4.0, math.inf, 37.0],
    "too long to measure": [0, -3e38, 4.0, 3e38, 37.0],
    "too thin to measure": [0, 3.0, 0.0, 40.0, 1e-38],
    "empty": [0, 3.0, 4.0, 40.0, 4.0],
    "inside out": [0, 40.0, 37.0, 3.0, 4.0],
    "negative image": [-0.5, 3.0, 4.0, 40.0, 37.0],
    "no such image": [2, 3.0, 4.0, 40.0, 37.0],
    "huge image": [1e30, 3.0, 4.0, 40.0, 37.0],
    "nan image": [math.nan, 3.0, 4.0, 40.0, 37.0],
    "no such level": [0, 3.0, 4.0, 40.0, 37.0],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_rois_contribute_zero(kind):
    features = make_features().requires_grad_()
    rois = torch.tensor([[0, 3.0, 4.0, 40.0, 37.0], HOSTILE[kind]], requires_grad=True)
    levels = torch.tensor([0, 1 if kind == "no such level" else 0])
    out = pool(FeatureTable.of([features], [0.25]), rois, levels, (7, 7))
    assert not out[1].any() and out[0].all()
    out.sum().backward()
    assert not rois.grad[1].any() and rois.grad[0, 1:].isfinite().all() and rois.grad[0, 1:].any()
    alone = precise_roi_pool(features, rois[:1], 7, 0.25)
    torch.testing.assert_close(features.grad, torch.autograd.grad(alone.sum(), features)[0])


def test_foreign_rows_are_never_read():
    """A bin reads its own image and level only: not even zero times a NaN comes in from the others."""
    pyramid = [torch.full((3, 2, s, s), math.nan) for s in (8, 4, 2)]
    pyramid[1][1] = 1.0
    rois = torch.tensor([[1, 0.0, 0.0, 32.0, 32.0], [1, -1e30, -1e30, 1e30, 1e30], [1, 20.0, -50.0, 1e4, 1e4]])
    out = pool(FeatureTable.of(pyramid, [1 / 4, 1 / 8, 1 / 16]), rois, torch.tensor([1, 1, 1]), (3, 3))
    assert out.isfinite().all() and out[0].all()


def test_a_box_far_larger_than_the_map_reads_every_cell_once():
    features = make_features(torch.float64)
    side = 1e6
    rois = torch.tensor([[0, -side, -side, side, side]], dtype=torch.float64)
    ours = precise_roi_pool(features, rois, 1, 1.0)
    torch.testing.assert_close(ours[0, :, 0, 0] * 4 * side**2, features[0].sum(dim=(1, 2)))


@pytest.mark.parametrize("layout", ["channels_last", "strided", "expanded"])
def test_memory_layout_does_not_matter(layout):
    dense = make_features()
    features = {
        "channels_last": dense.to(memory_format=torch.channels_last),
        "strided": torch.stack([dense, dense], dim=-1)[..., 0],
        "expanded": dense[:1].expand(2, -1, -1, -1),
    }[layout]
    rois = torch.tensor(AWKWARD)
    torch.testing.assert_close(
        precise_roi_pool(features, rois, 7, 0.25), precise_roi_pool(features.contiguous(), rois, 7, 0.25)
    )


coordinate = st.one_of(
    st.floats(-40, 40).map(lambda value: round(value, 3)),  # rounded, lest a box be too thin for 1e-8
    st.integers(-10, 20).map(float),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30]),
)


@settings(max_examples=100, deadline=None)
@given(
    boxes=st.lists(st.tuples(st.integers(-1, 2), *[coordinate] * 4), max_size=3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    aligned=st.booleans(),
)
def test_any_geometry_equals_quadrature(boxes, height, width, aligned):
    torch.manual_seed(0)
    features = torch.randn(2, 2, height, width, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[i, min(a, c), min(b, d), max(a, c), max(b, d)] for i, a, b, c, d in boxes])
    rois = rois.double().reshape(-1, 5).requires_grad_()
    ours = precise_roi_pool(features, rois, (2, 3), 0.5, aligned)
    expected = oracle(features.detach(), rois.detach(), (2, 3), 0.5, aligned)
    torch.testing.assert_close(ours.detach(), expected, rtol=1e-8, atol=1e-8)
    ours.sum().backward()
    assert features.grad.isfinite().all() and rois.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(3, 8, 8)}, r"features must be \[N, C, H, W\], got \(3, 8, 8\)"),
        ({"features": torch.zeros(1, 3, 8, 8, dtype=torch.long)}, "floating point, got torch.int64"),
        ({"rois": torch.zeros(4, 4)}, r"rois must be \[K, 5\].*got \(4, 4\)"),
        ({"rois": torch.zeros(4, 5, device="meta")}, "rois are on meta but features on cpu"),
        ({"output_size": 0}, "output_size must be a positive"),
        ({"output_size": (7, 7, 7)}, "output_size must be a positive"),
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
        precise_roi_pool(**(arguments | change))
