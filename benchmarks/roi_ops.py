"""What region pooling costs against torchvision's RoIAlign and against plain grid_sample, in one run.

    python benchmarks/roi_ops.py [--rounds 15] [--device cpu]

Everything takes 7×7 bins of 2×2 samples and, as in training, memory that the process has kept (`tsdlab/memory.py`). The
peers do the least work that gives the result: torchvision pools without offsets (it has none) from the memory order it
likes best; grid_sample reads all regions of an image at once. Speed is how often ours fits into a peer's time, in the
same round. Memory is the peak above what was held before.

The floor is the memory traffic no method can avoid, at the bandwidth of a warm copy measured in the same run: every
cell that is looked at is read once and the result written once; backward, the result's gradient is read and the
features' gradient written, and the cells are read again where offsets learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from measure import peak_megabytes, side_by_side
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign, roi_align

from tsdlab.memory import keep_freed_memory
from tsdlab.ops import MultiScaleDeformRoIAlign, deform_roi_align
from tsdlab.ops.sampling import sample_points
from tsdlab.provenance import provenance, write_results

BINS, SAMPLES, CHANNELS = 7, 2, 256
PEERS = ("torchvision", "grid_sample")
STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Setting:
    """A pyramid, or one map, of images of 800 × 1088 pixels, and the RoIs to pool from it."""

    strides: tuple[int, ...]
    images: int
    rois: int
    sizes: tuple[float, float]  # shortest and longest side of a RoI in pixels; log-uniform
    dtype: torch.dtype = torch.float32


SETTINGS = {
    "one map, 64 RoIs": Setting((8,), 2, 64, (56, 224)),
    "one map, 1024 RoIs": Setting((8,), 2, 1024, (56, 224)),
    "one map, 4096 RoIs": Setting((8,), 2, 4096, (56, 224)),
    "pyramid, training step": Setting(STRIDES, 2, 1024, (16, 600)),
    "pyramid, inference": Setting(STRIDES, 1, 1000, (16, 600)),
    "pyramid, training step, bfloat16": Setting(STRIDES, 2, 1024, (16, 600), torch.bfloat16),
    "pyramid, inference, bfloat16": Setting(STRIDES, 1, 1000, (16, 600), torch.bfloat16),
}


def make_inputs(setting: Setting, device: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """Features (one per stride, channels-last), rois [K, 5] sorted by image, offsets [K, 7, 7, 2] of TSD's size."""
    generator = torch.Generator().manual_seed(0)
    features = [
        torch.randn(setting.images, CHANNELS, 800 // s, 1088 // s, generator=generator)
        .to(device, setting.dtype)
        .contiguous(memory_format=torch.channels_last)
        for s in setting.strides
    ]
    low, high = (torch.tensor(float(s)).log() for s in setting.sizes)
    size = (low + (high - low) * torch.rand(setting.rois, 2, generator=generator)).exp()
    corner = torch.rand(setting.rois, 2, generator=generator) * (torch.tensor([1088.0, 800.0]) - size).clamp(min=0)
    image = torch.arange(setting.rois) * setting.images // setting.rois
    rois = torch.cat([image[:, None], corner, corner + size], 1)
    offsets = 0.1 * torch.randn(setting.rois, BINS, BINS, 2, generator=generator)
    return features, rois.to(device), offsets.to(device)


def torchvision_pool(setting: Setting, features: list[Tensor], rois: Tensor) -> Tensor:
    """torchvision has no bfloat16 kernel: like its autocast, this pools in float32."""
    maps = [f.float() for f in features]
    if len(maps) == 1:
        return roi_align(maps[0], rois, BINS, 1 / setting.strides[0], SAMPLES, aligned=True).to(setting.dtype)
    levels = {str(i): f for i, f in enumerate(maps)}
    boxes = list(rois[:, 1:].split(setting.rois // setting.images))
    pool = MultiScaleRoIAlign(list(levels), BINS, SAMPLES)
    return pool(levels, boxes, [(800, 1088)] * setting.images).to(setting.dtype)


def grid_sample_pool(setting: Setting, features: list[Tensor], rois: Tensor) -> Tensor:
    """Sample the regions of an image as one tall grid [K·14, 14], then average 2×2 samples. One map only."""
    (feature,), (stride,) = features, setting.strides
    height, width = feature.shape[2:]
    ys, xs = sample_points(rois[:, 1:], 1 / stride, (BINS, BINS), SAMPLES, aligned=True)
    y = (ys.reshape(-1, BINS * SAMPLES) * 2 + 1) / height - 1
    x = (xs.reshape(-1, BINS * SAMPLES) * 2 + 1) / width - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1).to(feature.dtype)
    grid = grid.reshape(setting.images, -1, BINS * SAMPLES, 2)
    tall = F.grid_sample(feature, grid, padding_mode="border", align_corners=False)  # [N, C, K·14, 14]
    bins = F.avg_pool2d(tall, SAMPLES).unflatten(2, (-1, BINS)).transpose(1, 2)  # [N, K, C, 7, 7]
    return bins.flatten(0, 1)


def our_pool(setting: Setting, features: list[Tensor], rois: Tensor, offsets: Tensor | None = None) -> Tensor:
    if len(features) == 1:
        return deform_roi_align(features[0], rois, BINS, 1 / setting.strides[0], SAMPLES, offsets=offsets)
    return MultiScaleDeformRoIAlign(setting.strides, BINS, SAMPLES)(features)(rois, offsets=offsets)


def tsd_pools(setting: Setting, features: list[Tensor], rois: Tensor, offsets: Tensor) -> Tensor:
    """All that TSD pools in a training step: P, P̂c and P̂r, from one prepared pyramid."""
    pool = MultiScaleDeformRoIAlign(setting.strides, BINS, SAMPLES)(features)
    levels = pool.assign_levels(rois)
    return pool(rois, levels) + pool(rois, levels, offsets) + pool(rois + 1, levels)


def make_contestants(setting: Setting, device: str, backward: bool) -> dict[str, Callable[[], object]]:
    features, rois, offsets = make_inputs(setting, device)
    plain = [f.contiguous() for f in features]  # the order torchvision copies others to

    def contestant(pool: Callable[..., Tensor], maps: list[Tensor], *regions: Tensor) -> Callable[[], object]:
        if not backward:
            return torch.no_grad()(partial(pool, setting, maps, *regions))
        maps = [f.detach().requires_grad_() for f in maps]
        learnt = [r.detach().requires_grad_() for r in regions[1:]]
        grad = torch.randn(setting.rois, BINS, BINS, CHANNELS, device=device).to(setting.dtype).permute(0, 3, 1, 2)
        return lambda: torch.autograd.grad(pool(setting, maps, regions[0], *learnt), [*maps, *learnt], grad)

    contestants = {"torchvision": contestant(torchvision_pool, plain, rois)}
    if len(setting.strides) == 1:
        contestants["grid_sample"] = contestant(grid_sample_pool, plain, rois)
    contestants["tsdlab"] = contestant(our_pool, features, rois)
    contestants["tsdlab, offsets"] = contestant(our_pool, features, rois, offsets)
    if len(setting.strides) > 1:
        contestants["tsdlab, TSD's three"] = contestant(tsd_pools, features, rois, offsets)
    return contestants


def compulsory_bytes(setting: Setting, device: str) -> dict[str, dict[str, int]]:
    """Bytes that must cross memory, by pass and contestant."""
    features, rois, offsets = make_inputs(setting, device)
    result = setting.rois * BINS * BINS * CHANNELS * features[0].element_size()
    passes: dict[str, dict[str, int]] = {"forward": {}, "forward + backward": {}}
    for name, moves in (("tsdlab", None), ("tsdlab, offsets", offsets)):
        maps = [f[:, :1].float().requires_grad_() for f in features]
        seen = torch.autograd.grad(our_pool(setting, maps, rois, moves).sum(), maps)
        cells = sum(int((g != 0).sum()) for g in seen) * CHANNELS * features[0].element_size()
        gradient = sum(f.numel() * f.element_size() for f in features)
        passes["forward"][name] = cells + result
        passes["forward + backward"][name] = 2 * result + cells + gradient + (0 if moves is None else cells)
    return passes


def bandwidths(device: str) -> dict[str, float]:
    """GB/s of a copy between buffers in use (bytes read + written), and of writing a new result before and after
    `keep_freed_memory`."""
    count = 16 * 2**20
    source, target = torch.rand(count, device=device), torch.rand(count, device=device)

    def gigabytes_per_second(run: Callable[[], object], passes: int) -> float:
        (seconds,) = side_by_side({"": run}, 15, device).values()
        return round(passes * count * 4 / 1e9 / median(seconds), 1)

    def write() -> None:
        torch.empty(count, device=device).fill_(1)

    speeds = {"copy_GBps": gigabytes_per_second(lambda: target.copy_(source), 2)}
    speeds["new_result_GBps"] = gigabytes_per_second(write, 1)
    keep_freed_memory()
    return {**speeds, "new_result_in_kept_memory_GBps": gigabytes_per_second(write, 1)}


def measure(name: str, rounds: int, device: str, copy_gbps: float) -> dict:
    setting = SETTINGS[name]
    floors = compulsory_bytes(setting, device)
    results: dict = {}
    print(f"\n{name}\n{'':42}{'median':>11}{'× torchvision':>15}{'× grid_sample':>15}{'of floor':>10}{'peak':>10}")
    for passes in ("forward", "forward + backward"):
        contestants = make_contestants(setting, device, backward=passes != "forward")
        seconds = side_by_side(contestants, rounds, device)
        results[passes] = {}
        for contestant, times in seconds.items():
            row: dict = {"median_ms": float(f"{median(times) * 1e3:.4g}")}
            for peer in PEERS:
                if peer in seconds:
                    row[f"times_{peer}"] = round(median(p / t for p, t in zip(seconds[peer], times)), 2)
            if contestant in floors[passes]:
                row["of_floor"] = round(floors[passes][contestant] / copy_gbps / 1e9 / median(times), 3)
            row["peak_MB"] = peak_megabytes(contestants[contestant], device)
            results[passes][contestant] = row
            print(
                f"{passes + ', ' + contestant:42}{row['median_ms']:>8.2f} ms{row['times_torchvision']:>15.2f}"
                f"{row.get('times_grid_sample', '')!s:>15}{row.get('of_floor', '')!s:>10}{row['peak_MB']!s:>10}"
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    speeds = bandwidths(arguments.device)
    print(speeds)
    settings = {name: measure(name, arguments.rounds, arguments.device, speeds["copy_GBps"]) for name in SETTINGS}
    written = {"bandwidth": speeds, "settings": settings, "rounds": arguments.rounds, **provenance(arguments.device)}
    write_results(f"roi_ops-{arguments.device}", written)


if __name__ == "__main__":
    main()
