"""Time contestants side by side in one process."""

from __future__ import annotations

import ctypes
import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from tqdm import tqdm


def side_by_side(
    contestants: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every contestant in every round, after one warm-up each.

    All take their turn within a round, so that a slow minute of the machine falls on all of them; in an order drawn
    anew each time, so that what one leaves in the caches falls to all.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for r in tqdm(range(rounds + 1), desc="rounds", unit="round"):
        for name, run in random.Random(r).sample(list(contestants.items()), len(contestants)):
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if r > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def against(seconds: dict[str, list[float]], peer: str) -> dict[str, dict[str, float]]:
    """Per contestant: median seconds, and the median over rounds of its ratio to `peer` in the same round."""
    return {
        name: {
            "median_s": round(statistics.median(times), 4),
            "ratio": round(statistics.median(t / p for t, p in zip(times, seconds[peer])), 3),
        }
        for name, times in seconds.items()
    }


def peak_megabytes(run: Callable[[], object], device: str) -> float | None:
    """Peak memory during `run` above what is held before it; None where the system does not tell."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # kept memory would hide what is taken of it
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here (proc(5))
    except (AttributeError, OSError, TypeError):
        return None
    before = _status_kilobytes("VmRSS")
    run()
    return round((_status_kilobytes("VmHWM") - before) / 2**10, 1)


def _status_kilobytes(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}\n{'':34}{'median':>10}{'ratio':>9}")
    for name, row in rows.items():
        print(f"{name:34}{row['median_s']:>8.3f} s{row['ratio']:>9.3f}")
