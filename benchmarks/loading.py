"""Which of the two is waiting: the training for images, or the processes that load them for the training?

    python benchmarks/loading.py [--data DIR] [--preset photos] [--workers 0 1 2] [--device cpu]

Images per second of the loader alone, of a training step alone (its batches are in memory), and of the training of
both together, after the workers have started. What the training process itself does to get a batch counts as waiting.
Three loaders take turns, on the same photographs in the same order:

- tsdlab: workers send bytes, and the training process makes numbers of them, flips and zooms;
- tsdlab, floats: the same, but workers do everything, and send numbers;
- torchvision: as its reference recipe for detection loads and trains: Pillow, a flip (no zoom), numbers.

The detector is the sibling head on the backbone of the preset. torchvision's is its own, of the same shape
(`benchmarks/heads.py`). Both begin with random weights, and make plain steps.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from heads import torchvision_detector
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm import tqdm

from tsdlab.config import Config
from tsdlab.data import BadgesConfig, CocoDataset, TrainingBatches, batch_loader, make_badges, train_transforms
from tsdlab.data.coco import Target
from tsdlab.memory import keep_freed_memory
from tsdlab.models.build import build_detector
from tsdlab.presets import PRESETS
from tsdlab.provenance import provenance, write_results

LOADERS = ("tsdlab", "tsdlab, floats", "torchvision")


class AtOnce:
    """Transforms that a data set applies to the numbers at once, whatever they could have done later."""

    def __init__(self, transforms: Any) -> None:
        self.transforms = transforms

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        return self.transforms(image, target)


class RecipeDataset(Dataset):
    """The same photographs as torchvision's reference recipe reads and transforms them."""

    def __init__(self, dataset: CocoDataset, flip: float) -> None:
        self.dataset = dataset
        self.paths = dataset.files[1:]
        self.transforms = v2.Compose(
            [v2.RandomHorizontalFlip(flip), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()]
        )

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image = Image.open(self.paths[index]).convert("RGB")
        target = self.dataset.target(index)
        size = (image.height, image.width)
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
        return self.transforms(image, {"boxes": boxes, "labels": target["labels"]})


def as_columns(batch: list) -> tuple:
    return tuple(zip(*batch))


def make_loader(name: str, config: Config, data: Path, batches: int, workers: int, device: str) -> Iterable:
    """So many batches of `data`; their images are on `device` as floating-point numbers."""
    train = config.train
    transforms = train_transforms(train.flip, train.scale_jitter, config.image.mean)
    dataset = CocoDataset(data, "train", transforms if name == "tsdlab" else AtOnce(transforms))
    keys = TrainingBatches(len(dataset), train.batch_size, batches, seed=0)
    if name != "torchvision":
        return batch_loader(dataset, keys, workers, device)
    loader = DataLoader(
        RecipeDataset(dataset, train.flip),
        batch_sampler=[[index for index, _ in batch] for batch in keys],
        num_workers=workers,
        collate_fn=as_columns,
    )
    return (([image.to(device) for image in images], targets) for images, targets in loader)


def measure(batches: Iterable, skip: int, step: Callable[[list, list], None], device: str) -> tuple[float, float]:
    """Batches per second after the first `skip`, and the share of the time that went into waiting for them."""
    iterator = iter(batches)
    for images, targets in islice(iterator, skip):
        step(images, targets)
    done, waited = 0, 0.0
    begin = asked = time.perf_counter()
    for images, targets in iterator:
        waited += time.perf_counter() - asked
        step(images, targets)
        if device == "cuda":
            torch.cuda.synchronize()
        done += 1
        asked = time.perf_counter()
    seconds = asked - begin
    return done / seconds, waited / seconds


def make_step(model: nn.Module, device: str) -> Callable[[list, list], None]:
    """A step of plain SGD, which looks at the loss as any training does."""
    model.to(device).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def step(images: list, targets: list) -> None:
        targets = [{name: target[name].to(device) for name in ("boxes", "labels")} for target in targets]
        loss = sum(model(images, targets).values())
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def nothing(images: list, targets: list) -> None:
    pass


Run = Callable[[], tuple[float, float]]


def contestants(config: Config, data: Path, workers: list[int], batches: int, steps: int, device: str) -> dict:
    """What is measured, by (kind, loader, workers)."""
    torch.manual_seed(0)
    ours, theirs = build_detector(config), torchvision_detector(config)
    step = {"tsdlab": make_step(ours, device), "torchvision": make_step(theirs, device)}
    step["tsdlab, floats"] = step["tsdlab"]

    def run(name: str, count: int, work: Callable[[list, list], None], processes: int) -> tuple[float, float]:
        skip = max(1, processes)  # the first batches of all processes come at once
        return measure(make_loader(name, config, data, skip + count, processes, device), skip, work, device)

    found: dict[tuple[str, str, int], Run] = {}
    for name in LOADERS:
        for processes in workers:
            found["loader", name, processes] = lambda n=name, p=processes: run(n, batches, nothing, p)
            found["training", name, processes] = lambda n=name, p=processes: run(n, steps, step[n], p)
    for name in ("tsdlab", "torchvision"):
        loaded = list(make_loader(name, config, data, 1 + steps, 0, device))
        found["step", name, 0] = lambda n=name, b=loaded: measure(b, 1, step[n], device)
    return found


def summary(rates: dict[tuple[str, str, int], list[tuple[float, float]]], batch: int) -> dict:
    """Images per second and shares of waiting: medians over the rounds."""
    table: dict[str, dict] = {"loader": {}, "step": {}, "training": {}, "waiting": {}}
    for (kind, name, processes), values in rates.items():
        speed = round(batch * statistics.median(rate for rate, _ in values), 1)
        if kind == "step":
            table["step"][name] = speed
            continue
        table[kind].setdefault(name, {})[str(processes)] = speed
        if kind == "training":
            share = statistics.median(waited for _, waited in values)
            table["waiting"].setdefault(name, {})[str(processes)] = round(share, 3)
    return table


def verdict(table: dict, name: str) -> list[str]:
    """In words, for each number of workers."""
    lines = []
    step = table["step"]["torchvision" if name == "torchvision" else "tsdlab"]
    for workers, loader in table["loader"][name].items():
        share = table["waiting"][name][workers]
        who = "the training waits for the loader" if loader < step else "the loader waits for the training"
        if workers == "0":
            who = "the training process loads the images itself"
        lines.append(
            f"{name}, workers {workers}: {who}; the loader alone makes {loader} images a second, a step alone {step}, "
            f"together {table['training'][name][workers]}, waiting for images {share:.1%} of the time"
        )
    return lines


def measure_folder(data: Path, arguments: argparse.Namespace, device: str) -> None:
    config = replace(PRESETS[arguments.preset], head="sibling")
    dataset = CocoDataset(data, "train")
    config = replace(config, num_classes=len(dataset.categories))
    load = os.getloadavg()[0]
    runs = contestants(config, data, arguments.workers, arguments.batches, arguments.steps, device)
    rates: dict[tuple[str, str, int], list[tuple[float, float]]] = {key: [] for key in runs}
    for r in tqdm(range(arguments.rounds), desc="rounds", unit="round"):
        for key, run in random.Random(r).sample(list(runs.items()), len(runs)):
            rates[key].append(run())
    table = summary(rates, config.train.batch_size)
    words = [line for name in LOADERS for line in verdict(table, name)]
    print(f"\n{data.name} on {device}", *words, sep="\n")
    pixels = [dataset.stored(index)[0].pixels for index in range(min(20, len(dataset)))]
    sizes = {
        "tsdlab": statistics.mean(p.nbytes for p in pixels),
        "tsdlab, floats": statistics.mean(4 * p.nbytes for p in pixels),
    }
    content = {
        "preset": arguments.preset,
        "batch": config.train.batch_size,
        "rounds": arguments.rounds,
        "load_before": round(load, 2),
        "megabytes_per_image": {name: round(size / 2**20, 2) for name, size in sizes.items()},
        "images_per_s": {kind: table[kind] for kind in ("loader", "step", "training")},
        "share_of_waiting": table["waiting"],
        "in_words": words,
    }
    key = data.name if device == "cpu" else f"{data.name}, {device}"
    write_results("loading", {key: {**content, **provenance(device)}})


def main() -> None:
    keep_freed_memory()  # as the command line does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="a COCO-format folder with a split train; badges are made if left out"
    )
    parser.add_argument("--preset", choices=list(PRESETS), help="photos for --data, else badges-tiny")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=24, help="of the loader alone")
    parser.add_argument("--steps", type=int, default=8, help="of training")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="both are measured if left out and there is CUDA")
    arguments = parser.parse_args()
    arguments.preset = arguments.preset or ("photos" if arguments.data else "badges-tiny")
    devices = [arguments.device] if arguments.device else ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or make_badges(Path(folder) / "badges", BadgesConfig(train=200, val=8))
        for device in devices:
            measure_folder(data, arguments, device)


if __name__ == "__main__":
    main()
